"""Settings of the classes."""

import pytest
from pydantic import TypeAdapter, ValidationError

from asdpipe.config.base import as_json
from asdpipe.config.labels import Labels, TopMLabels
from asdpipe.config.method import Method
from asdpipe.config.steps import step_settings
from asdpipe.config.targets import targets
from asdpipe.method import classes


def labels(**settings):
    return TypeAdapter(Labels).validate_python({"kind": "top_m", **settings})


def test_sets_of_all_clusters_are_refused():
    for settings in (
        {"m": 15},
        {"m": 20, "candidates": {"strategy": "cluster"}},
        {"m": 5, "candidates": {"k2": 5}},
        {"m": 15, "candidates": {"strategy": "sample", "strategies": {"fan": "cluster"}}},
    ):
        with pytest.raises(ValidationError, match="one class per machine type"):
            labels(order="sorted", **settings)
        assert labels(order="ranked", **settings).by_machine is False
    assert labels(order="sorted", m=14).m == 14
    assert labels(order="sorted", m=15, candidates={"strategy": "sample"}).m == 15


def test_a_machine_type_has_its_own_strategy_or_that_of_all():
    candidates = labels(candidates={"strategies": {"fan": "cluster"}}).candidates
    assert (candidates.of("fan"), candidates.of("pump")) == ("cluster", "auto")


@pytest.mark.parametrize("settings", [{"m": 0}, {"candidates": {"confidence": 1}}, {"candidates": {"k1": 0}}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValidationError):
        labels(**settings)


def test_the_labeller_takes_m_and_order_and_is_a_target_of_the_training():
    labeller = labels(m=5, order="sorted").build()
    assert isinstance(labeller, classes.TopMLabels)
    assert (labeller.num_candidates, labeller.order) == (5, "sorted")
    assert "asdpipe.method.classes.TopMLabels" in targets({"labels": {"kind": "top_m"}})


def test_candidates_do_not_depend_on_m_and_order():
    texts = {
        as_json(step_settings("rank_labels", None, None, Method(labels=TopMLabels(m=m, order=order))))
        for m in (1, 3)
        for order in ("ranked", "sorted")
    }
    (only,) = texts
    assert '"m"' not in only
    assert '"order"' not in only
