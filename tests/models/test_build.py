"""Extractors from settings: every kind is built, and impossible settings end in a short message, soon."""

import math
import time

import pytest
import torch
from pydantic import TypeAdapter

from asdpipe.config.networks import MultiResolution, Network
from asdpipe.errors import UserError
from asdpipe.imports import imported
from asdpipe.models.audio_mae import AudioMae
from asdpipe.models.autoencoder import Autoencoders
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import EXTRACTORS, build_extractor, described_extractor
from asdpipe.models.ced import Ced
from asdpipe.models.log_mel import LogMelStatistics
from asdpipe.models.masked_audio_mae import MaskedAudioMae
from asdpipe.models.multi_resolution import MultiResolutionNetwork

SMALL = {
    "kind": "multi_resolution",
    "width": 8,
    "windows": [512, 256],
    "f_min": 200.0,
    "dft_kernels": [32, 16, 8],
    "dft_strides": [16, 8, 4],
}
TRANSFORMER = {"layers": 2, "width": 8, "heads": 2, "pooling": "mean"}
DECODER = {"decoder_layers": 1, "decoder_width": 4, "decoder_heads": 1}
SETTINGS = {
    "multi_resolution": SMALL,
    "log_mel": {"kind": "log_mel"},
    "autoencoder": {"kind": "autoencoder"},
    "audio_mae": {"kind": "audio_mae", "frames": 32, "layer": 1, **TRANSFORMER},
    "masked_audio_mae": {"kind": "masked_audio_mae", "frames": 32, **TRANSFORMER, **DECODER},
    "ced": {"kind": "ced", "layer": None, **TRANSFORMER},
}
PRETRAINED = ["beats", "audio_mae", "masked_audio_mae", "ced"]
CONTEXT = {"num_samples": 4000, "machines": ["fan", "pump"]}


@pytest.mark.parametrize(
    ("kind", "expected", "num_samples", "shape"),
    [
        ("multi_resolution", MultiResolutionNetwork, 4000, (3, 8)),
        ("log_mel", LogMelStatistics, 4000, (1, 128)),
        ("autoencoder", Autoencoders, None, (2, 3)),
        ("audio_mae", AudioMae, 4000, (1, 8)),
        ("masked_audio_mae", MaskedAudioMae, 4000, (1, 8)),
        ("ced", Ced, 4000, (1, 8)),
    ],
)
def test_each_kind_is_built_and_described(kind, expected, num_samples, shape):
    built, described = (build(SETTINGS[kind], **CONTEXT) for build in (build_extractor, described_extractor))
    assert type(built) is type(described) is expected is imported(EXTRACTORS[kind])
    assert (built.num_samples, built.embedding_shape) == (described.num_samples, described.embedding_shape)
    assert (built.num_samples, built.embedding_shape) == (num_samples, shape)
    expected_state = {name: (value.dtype, value.shape) for name, value in built.state_dict().items()}
    assert {name: (value.dtype, value.shape) for name, value in described.state_dict().items()} == expected_state
    assert all(parameter.is_meta for parameter in described.parameters())
    assert built.eval()(torch.zeros(2, 4000)).shape == (2, *shape)
    # Clips of every machine type have an extractor.
    assert isinstance(built.of_machine("pump"), FeatureExtractor)


def test_every_kind_of_the_config_is_one_that_can_be_built():
    random = {kind: {"weights": "random"} for kind in PRETRAINED}
    kinds = {kind: TypeAdapter(Network).validate_python({"kind": kind, **random.get(kind, {})}) for kind in EXTRACTORS}
    assert {kind: network.target for kind, network in kinds.items()} == EXTRACTORS
    for kind, network in kinds.items():
        stated = network.arguments()
        assert stated["kind"] == kind
        described_extractor(stated, num_samples=6 * 16_000, machines=["fan"])


@pytest.mark.parametrize("kind", PRETRAINED)
def test_the_config_refuses_the_lengths_of_clips_that_the_network_refuses(kind):
    network = TypeAdapter(Network).validate_python({"kind": kind, "weights": "random"})

    def refused(num_samples: int) -> bool:
        try:
            described_extractor(network.arguments(), num_samples=num_samples)
        except UserError:
            return True
        return False

    lengths = [400, 2399, 2400, 2799, 2800, 160_000, 161_919, 161_920, 164_239, 164_240, 288_000]
    assert [bool(network.misfit(samples)) for samples in lengths] == [refused(samples) for samples in lengths]


def test_settings_reach_the_network():
    network = build_extractor(SMALL | {"width": 16, "windows": [1024], "f_min": 0}, num_samples=8000)
    assert network.embedding_shape == (2, 16)
    assert (network.branches[1].size, network.branches[1].first_bin) == (1024, 0)
    assert [each.kernel_size for each in network.branches[0].convolutions[::3]] == [(32,), (16,), (8,)]
    assert [each.stride for each in network.branches[0].convolutions[::3]] == [(16,), (8,), (4,)]


def test_no_default_stands_in_for_a_missing_argument():
    for key in SMALL.keys() - {"kind"}:
        with pytest.raises(UserError, match=f"network.{key}: Field required"):
            build_extractor({name: value for name, value in SMALL.items() if name != key}, num_samples=4000)


@pytest.mark.parametrize(
    "kind", [None, 1, "", "Network", "asdpipe.models.log_mel.LogMelStatistics", ["log_mel"], "x" * 10**6]
)
def test_unknown_kinds_are_refused_with_the_known_ones(kind):
    with pytest.raises(UserError, match="unknown kind; choose multi_resolution, log_mel, autoencoder") as error:
        build_extractor({"kind": kind}, num_samples=4000)
    assert len(str(error.value)) < 300


HUGE = [2**31, 2**40, 2**62, 10**30, 10**400]
NUMBERS = [0, -1, -(2**40), -(10**400), math.nan, math.inf, -math.inf, True, None, "8", 8.5, [], {}, [8]]
LISTS = [
    *([value] for value in (*HUGE, *NUMBERS)),
    *([value] * 3 for value in (*HUGE, *NUMBERS)),
    *(value for value in (*HUGE, *NUMBERS) if value != []),
    *([8] * count for count in (2, 4, 17, 10**5)),
    *("512", {"a": 1}, [[512]], [[512] * 10**5]),
]
HOSTILE = [
    *(("width", value) for value in (*HUGE, *NUMBERS, 7)),
    *(("f_min", value) for value in (*HUGE, *NUMBERS, 8000, 1e300) if value not in (0, 8.5)),
    *(("dft_kernels", value) for value in LISTS),
    *(("dft_strides", value) for value in LISTS if value not in ([2**31] * 3, [2**40] * 3, [2**62] * 3)),
    *(("windows", value) for value in [*LISTS, [31], [2**13], [512] * 17, [512] * 10**5]),
    *((key, 1) for key in ("hidden", "", "self", "__init__", "a b", "branches.0", "x" * 10**6)),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_arguments_end_in_a_short_message_within_a_second(number):
    key, value = HOSTILE[number]
    start = time.process_time()
    with pytest.raises(UserError) as error:
        build_extractor(SMALL | {key: value}, num_samples=4000)
    assert time.process_time() - start < 1
    assert len(str(error.value)) < 2000
    with pytest.raises(UserError):
        described_extractor(SMALL | {key: value}, num_samples=4000)


@pytest.mark.parametrize("num_samples", [0, -1, -(10**30), 10**30, 100, 1.5, "4000", None, True, math.inf])
def test_impossible_lengths_of_clips_are_refused(num_samples):
    with pytest.raises(UserError):
        described_extractor(SMALL, num_samples=num_samples)


@pytest.mark.parametrize("machines", [None, "fan", [1], [None], {"fan": 1}, 3])
def test_machine_types_are_names(machines):
    with pytest.raises(UserError, match=r"network\.machines"):
        build_extractor({"kind": "autoencoder", "machines": machines}, num_samples=4000)


def test_a_wrong_argument_is_named_and_one_beside_the_settings_without_the_section():
    with pytest.raises(UserError, match=r"^network.windows.1: Input should be greater than or equal to 32$"):
        build_extractor(SMALL | {"windows": [512, 16]}, num_samples=4000)
    with pytest.raises(UserError, match=r"^network.hidden: Extra inputs are not permitted$"):
        build_extractor(SMALL | {"hidden": 1}, num_samples=4000)
    with pytest.raises(UserError, match=r"^num_samples: Input should be greater than or equal to 1$"):
        build_extractor(SMALL, num_samples=0)
    with pytest.raises(UserError, match=r"^a signal of 100 samples is too short for DFT kernels \[32, 16, 8\]"):
        build_extractor(SMALL, num_samples=100)


def test_the_config_allows_nothing_that_the_network_refuses_as_an_argument():
    widest = MultiResolution(width=1024, windows=(32,) * 16, f_min=7999.0, dft_kernels=(1, 1, 1), dft_strides=(9, 9, 9))
    # Its spectrum above 7999 Hz has too few bins: not the arguments are wrong, but the network is impossible.
    with pytest.raises(UserError, match="too few STFT frames"):
        described_extractor(widest.model_dump(mode="json"), num_samples=160_000)
    narrowest = MultiResolution(width=8, windows=(128,), f_min=0.0, dft_kernels=(1, 1, 1), dft_strides=(9, 9, 9))
    assert described_extractor(narrowest.model_dump(mode="json"), num_samples=160_000).embedding_shape == (2, 8)
