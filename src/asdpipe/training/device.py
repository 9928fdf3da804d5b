"""Where networks run, and what makes them run fast there."""

import ctypes
import sys
from typing import Literal

import torch

from asdpipe.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]

# mallopt's names in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
# Narrower networks gain nothing from bfloat16 on a CPU.
MIN_BFLOAT16_WIDTH = 64


def pick_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda", and set PyTorch up for it.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("device is cuda, but PyTorch sees no GPU here; use device: auto or cpu")
    if available and name != "cpu":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    _keep_freed_memory()
    return torch.device("cpu")


def _keep_freed_memory() -> None:
    """Let malloc use again what tensors leave behind.

    By default large tensors go back to the system at once, and every step pays for new, zeroed pages: a third of its
    time.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def training_dtype(precision: Precision, device: torch.device, width: int) -> torch.dtype:
    """Return the type in which convolutions and matrix products of a network of this width are trained."""
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_bfloat16 = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if has_bfloat16 and width >= MIN_BFLOAT16_WIDTH else torch.float32
