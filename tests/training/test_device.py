"""Where and in which precision networks are trained, and clips embedded."""

import resource
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor
from asdpipe.training.device import full_precision, pick_device, training_dtype
from asdpipe.training.embedding import embed

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "width", "dtype"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, 128, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, 64, torch.bfloat16),
        ({"avx512_bf16": True}, 32, torch.float32),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, 128, torch.float32),
        ({}, 128, torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_hardware_has_it_and_it_pays(monkeypatch, capabilities, width, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert training_dtype("auto", CPU, width) is dtype


@pytest.mark.parametrize("has", [True, False])
def test_on_a_gpu_the_width_does_not_matter(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert training_dtype("auto", GPU, 32) is (torch.bfloat16 if has else torch.float32)


def test_a_given_precision_is_taken_anywhere():
    assert training_dtype("bfloat16", CPU, 16) is torch.bfloat16
    assert training_dtype("float32", GPU, 128) is torch.float32


def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    with pytest.raises(UserError, match="device is cuda, but PyTorch finds no GPU"):
        pick_device("cuda")


# ---------------------------------------------------------------- TF32


def tf32() -> tuple[bool, bool]:
    """Tell whether matrix products and convolutions of float32 may be TF32."""
    return torch.get_float32_matmul_precision() != "highest", torch.backends.cudnn.allow_tf32


@pytest.fixture
def on_gpu(monkeypatch) -> Iterator[None]:
    """Set up PyTorch as on a GPU, in the order of a step: the device first, then its work."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == GPU
    monkeypatch.undo()
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


@pytest.mark.usefixtures("on_gpu")
def test_training_may_take_tf32_and_embeddings_are_float32():
    seen = []

    class Extractor(FeatureExtractor):
        num_samples = 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tf32())
            return x

    assert tf32() == (True, True)
    clips = [np.full(4, value, dtype=np.int16) for value in range(40)]
    between = [tf32() for _ in embed(Extractor(), clips, len(clips), CPU)]
    assert seen == [(False, False)] * 2
    assert between == [(True, True)] * 2


@pytest.mark.usefixtures("on_gpu")
def test_full_precision_ends_with_the_block_and_with_an_error_in_it():
    with full_precision(), full_precision():
        assert tf32() == (False, False)
    assert tf32() == (True, True)
    with pytest.raises(ZeroDivisionError), full_precision():
        _ = 1 / 0
    assert tf32() == (True, True)


FAULTS = """
import resource, sys
import torch
from asdpipe.training.device import pick_device

def step():
    activations = [torch.ones(10_000_000) for _ in range(6)]
    while activations:
        activations.pop()

if sys.argv[1] == "set up":
    pick_device("cpu")
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is set up on Linux only")
def test_a_step_takes_the_memory_that_the_step_before_left():
    faults = {}
    for how in ("set up", "default"):
        out = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        faults[how] = int(out.stdout)
    # Five times six tensors of 40 MB are 1.2 GB.
    assert faults["default"] > 0.9 * 1.2e9 / resource.getpagesize()
    # In some runs the heap grows by one more tensor of the thirty.
    assert faults["set up"] < 0.1 * faults["default"]
