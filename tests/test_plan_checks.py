"""What the plan refuses of any method before its first job, not only of the configured one."""

import copy
from typing import Any

import pytest

from asdpipe.config.reading import load_config
from asdpipe.errors import UserError
from asdpipe.plan import Plan
from tests.conftest import TINY

RUN = {"dataset": "tiny", "seed": "0", "stage": "1"}
BEATS = {"kind": "beats", "weights": "random"}


def plan_of(methods: dict[str, Any], **datasets: Any) -> Plan:
    config: dict[str, Any] = copy.deepcopy(TINY) | {"method": "raw_logmel"}
    config["methods"] |= methods
    config["datasets"] |= datasets
    return Plan(load_config(config))


def latent(name: str) -> dict[str, Any]:
    return {"labels": {"kind": "top_m", "candidates": {"latent": name}}}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("nowhere", "there is no checkpoint and no method 'nowhere'"),
        ("raw_logmel", "raw_logmel is not trained"),
        ("ced_tiny", "ced_tiny cannot be used: it has weights of ced"),
        ("with_adapters", r"with_adapters cannot be used: its model has adapters \(network\.lora\)"),
    ],
)
def test_unfit_weights_are_refused(weights: str, said: str) -> None:
    adapted = {"parent": "beats_lora", "network": {"weights": "random"}}
    plan = plan_of({"with_adapters": adapted, "x": {"parent": "topm_beats_m1", "network": {"weights": weights}}})
    with pytest.raises(UserError, match=rf"methods\.x\.network\.weights: {said}"):
        plan.train(**RUN, method="x")


@pytest.mark.parametrize(
    ("theirs", "own", "said"),
    [
        ({"layer": 6}, {}, "its network has layer = 6: set network.layer to 6 or less"),
        ({"layer": 6}, {"layer": 7}, "its network has layer = 6: set network.layer to 6 or less"),
        ({"frames": 512}, {"frames": 528}, "its network has frames = 512: set network.frames to 512 or less"),
        ({"width": 192}, {}, "its network has width = 192, but network.width is 768: set both to the same"),
        ({"layer": 6, "frames": 528}, {"layer": 6, "frames": 512, "pooling": "band_mean"}, None),
        ({}, {"layer": 1}, None),
    ],
)
def test_weights_of_a_smaller_network_are_no_start(
    theirs: dict[str, Any], own: dict[str, Any], said: str | None
) -> None:
    network = {"kind": "audio_mae", "weights": "random", **theirs}
    pre_trained = {"parent": "topm_audio_mae_m1", "labels": "machine", "network": network}
    x = {"parent": "audio_mae_frozen", "network": {"weights": "pre_trained", **own}}
    plan = plan_of({"pre_trained": pre_trained, "x": x})
    if said is None:
        files = plan.embed(**RUN, method="x", split="train")
        assert files["pretrained"] == "results/tiny/pre_trained/seed0/stage1/model.safetensors"
        return
    with pytest.raises(UserError, match=rf"methods\.x\.network\.weights: pre_trained cannot be used: {said}"):
        plan.embed(**RUN, method="x", split="train")


@pytest.mark.parametrize(
    ("methods", "circle"),
    [
        ({"x": latent("x")}, "x -> x"),
        ({"x": latent("y"), "y": latent("x")}, "x -> y -> x"),
        ({"x": latent("y"), "y": {"start_from": "z"}, "z": latent("y")}, "y -> z -> y"),
        (
            {
                "x": {**latent("y"), "network": BEATS, "training": "fine_tune"},
                "y": {"network": BEATS | {"weights": "x"}, "training": "fine_tune"},
            },
            "x -> y -> x",
        ),
    ],
)
def test_a_training_that_needs_its_own_result_is_refused(methods: dict[str, Any], circle: str) -> None:
    with pytest.raises(UserError, match=rf"in a circle: {circle}; change one of network\.weights, labels\."):
        plan_of(methods).train(**RUN, method="x")


def test_scores_that_are_fused_have_no_latent_space() -> None:
    plan = plan_of({"fused": {"fusion": {"methods": ["ba", "raw_logmel"]}}, "x": latent("fused")})
    with pytest.raises(UserError, match=r"methods\.x\.labels\.candidates\.latent: fused fuses .*one of ba, raw_logmel"):
        plan.train(**RUN, method="x")


def test_a_latent_stage_that_there_is_not_is_refused() -> None:
    labels = {"kind": "top_m", "candidates": {"latent": "ba", "latent_stage": 2}}
    with pytest.raises(UserError, match="ba has no stage 2, only stage 1"):
        plan_of({"x": {"labels": labels}}).rank_labels(dataset="tiny", seed="0", method="x")


@pytest.mark.parametrize(
    ("method", "seconds", "fits"),
    [
        # Clips last 0.5 s at least, which is longer than any patch.
        *[("beats_frozen", seconds, True) for seconds in (0.5, 12)],
        *[("audio_mae_frozen", seconds, seconds < 10.265) for seconds in (0.5, 10.264, 10.265)],
        *[("ced_frozen", seconds, seconds < 10.12) for seconds in (0.5, 10.119, 10.12)],
        *[(method, 10.265, False) for method in ("audio_mae_pretraining", "topm_audio_mae_m3")],
    ],
)
def test_clips_that_do_not_fit_a_network_are_refused(method: str, seconds: float, fits: bool) -> None:
    plan = plan_of({}, own={"format": "dcase", "root": "x", "clip_seconds": seconds})
    run = RUN | {"dataset": "own", "method": method}
    if fits:
        assert plan.embed(**run, split="train")
        return
    with pytest.raises(UserError, match=rf"^datasets\.own\.clip_seconds = {seconds:g} s, method {method}: "):
        plan.train(**run) if plan.method(method).training.trains else plan.embed(**run, split="train")


@pytest.mark.parametrize(("micro_batch", "reduction", "fits"), [(4, "sum", False), (8, "sum", True), (4, "mean", True)])
def test_a_sum_over_the_clips_of_a_batch_is_not_split_into_means(micro_batch: int, reduction: str, fits: bool) -> None:
    training = {"kind": "fine_tune", "batch_size": 8, "micro_batch": micro_batch}
    method = {"parent": "ba_trp", "network": BEATS, "training": training, "triplet": {"reduction": reduction}}
    if fits:
        assert plan_of({"x": method}).train(**RUN, method="x")
        return
    with pytest.raises(UserError, match=r"methods\.x\.triplet\.reduction: sum .*micro_batch \(4\) .*batch_size \(8\)"):
        plan_of({"x": method})
