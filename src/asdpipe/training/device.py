"""Device and precision of training and embedding."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from asdpipe.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]

# Parameters of mallopt, from malloc.h of glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
# On a CPU, bfloat16 does not speed up narrower networks.
MIN_BFLOAT16_WIDTH = 64


def pick_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda", and set up PyTorch for it.

    On a GPU, float32 matrix products and convolutions then use TF32 (a mantissa of 10 bits), except within
    ``full_precision``.

    Raises:
        UserError: "cuda" without a GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("device is cuda, but PyTorch finds no GPU on this machine; use device: auto or cpu")
    if available and name != "cpu":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    _keep_freed_memory()
    return torch.device("cpu")


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 within the context, so that embeddings and scores are computed in float32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _keep_freed_memory() -> None:
    """Let malloc reuse the memory of freed tensors.

    By default glibc returns large blocks to the system at once. Allocating and zeroing new pages then takes a third of
    a training step. Memory of its own for every thread would add 0.7 GB to the 3.7 of a training at DCASE-2023 size.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_ARENA_MAX, 1)


def training_dtype(precision: Precision, device: torch.device, width: int) -> torch.dtype:
    """Return the dtype of convolutions and matrix products in training.

    On a GPU, float32 includes TF32 (``pick_device``).

    Args:
        precision: "auto" is bfloat16 where the hardware supports it and it is faster, else float32.
        width: embedding size of the network.
    """
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_bfloat16 = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if has_bfloat16 and width >= MIN_BFLOAT16_WIDTH else torch.float32
