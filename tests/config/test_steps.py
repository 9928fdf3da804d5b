"""A step gets every setting: whatever key is left out, it stops."""

import ast
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

import asdpipe.steps
from asdpipe.config.base import as_json, read_settings
from asdpipe.config.data import Dataset
from asdpipe.config.pools import Pool
from asdpipe.config.schema import Config
from asdpipe.config.steps import step_settings
from asdpipe.errors import UserError

STEPS = sorted(file.stem for file in Path(asdpipe.steps.__file__).parent.glob("*.py"))
DATASETS = [
    {"format": "demo"},
    {"format": "dcase", "year": 2023, "machines": ["fan"]},
    {"format": "folder", "root": "here", "table": "clips.csv"},
]
POOLS = [{"format": "demo"}, {"format": "audioset", "root": "here"}, {"format": "folder", "root": "here"}]


@cache
def kind_of(step: str) -> Any:
    """Return the type that a step reads its settings as, from its source; None: it has none."""
    module = import_module(f"asdpipe.steps.{step}")
    calls = [node for node in ast.walk(ast.parse(Path(module.__file__).read_text())) if isinstance(node, ast.Call)]
    kinds = {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "read_settings"}
    assert len(kinds) <= 1
    return getattr(module, kinds.pop()) if kinds else None


def settings_of_all_kinds(step: str) -> set[str]:
    """Return the settings of a step for all formats of data sets and pools, kinds of methods, and checkpoints."""
    datasets = [TypeAdapter(Dataset).validate_python(values) for values in DATASETS]
    pools = [TypeAdapter(Pool).validate_python(values) for values in POOLS]
    top_m = {"parent": "ba", "labels": "top_m"}
    config = Config(dataset="demo", datasets={"demo": {"format": "demo"}}, methods={"top_m": top_m})
    methods = [config.resolve_method(name) for name in config.methods]
    checkpoints = list(config.checkpoints.values())
    found = set()
    for number in range(max(len(datasets), len(methods))):
        chosen = [several[number % len(several)] for several in (datasets, pools, methods, checkpoints)]
        try:
            found.add(as_json(step_settings(step, *chosen, config.monitor)))
        except (AttributeError, ValidationError):
            # Only generated data sets and pools have the settings of these steps, only DCASE's those of a download, and
            # only some methods candidate labels or a fusion.
            assert step in ("generate_dataset", "generate_pool", "download", "rank_labels", "fuse_scores")
    return found


def without_one_key(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dotted name of every key, at any depth, and the values without it."""
    for key, value in values.items():
        yield above + key, {name: other for name, other in values.items() if name != key}
        if isinstance(value, Mapping):
            for name, rest in without_one_key(value, f"{above}{key}."):
                yield name, {**values, key: rest}


@pytest.mark.parametrize("step", [step for step in STEPS if kind_of(step)])
def test_every_setting_of_a_step_must_be_there(step):
    keys = set()
    for text in settings_of_all_kinds(step):
        assert as_json(read_settings(kind_of(step), text)) == text
        for key, rest in without_one_key(json.loads(text)):
            keys.add(key)
            with pytest.raises(UserError, match=rf"^--settings: (\w+\.)*{key.rpartition('.')[2]}: missing"):
                read_settings(kind_of(step), json.dumps(rest))
    assert keys


def test_most_steps_have_settings():
    assert {"train", "embed", "score", "select", "list_clips", "pack_pool"} <= set(filter(kind_of, STEPS))


@pytest.mark.parametrize("step", STEPS)
def test_a_rule_passes_settings_to_the_steps_that_read_them(step):
    assert (kind_of(step) is not None) == (settings_of_all_kinds(step) != {"{}"})


def test_the_kind_of_a_section_alone_is_no_settings():
    with pytest.raises(UserError, match="--settings: network"):
        read_settings(kind_of("embed"), '{"network": "log_mel"}')
