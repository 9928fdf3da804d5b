"""Write extractors as ONNX, for machines without PyTorch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError, short
from asdpipe.models.base import FeatureExtractor

# Of 2023; the first with GELU.
OPSET = 20
WAVEFORM, SPECTRUM, EMBEDDING = "waveform", "spectrum", "embedding"
# Whole clips of any length are traced with one of this length, in s.
TRACED_SECONDS = 2


def write_onnx(extractor: FeatureExtractor, file: Path) -> None:
    """Write an extractor with its front end, for batches of any size.

    Inputs are those of ``forward``: ``waveform``, float32 (batch, samples), and, where the extractor takes it,
    ``spectrum``, float32 (batch, samples // 2 + 1). ONNX Runtime's own Fourier transform is exact for the short windows
    of spectrograms, but off by up to 7 % of the root mean square for whole clips, whose length is no power of two.
    The output is ``embedding``, (batch, branches, dim).

    Raises:
        UserError: the network cannot be written, or packages for it are missing.
    """
    samples = extractor.num_samples or TRACED_SECONDS * SAMPLE_RATE
    x = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    batch = Dim("batch")
    dimensions = {0: batch} if extractor.num_samples else {0: batch, 1: Dim("samples", min=extractor.min_samples)}
    inputs, dynamic = [x], [dimensions]
    if extractor.takes_spectrum:
        inputs, dynamic = [x, torch.fft.rfft(x).abs()], [dimensions, {0: batch}]
    extractor = extractor.eval().cpu()
    try:
        # Fused attention has a layout of its own, which cannot be traced for batches of any size.
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), _quiet():
            program = torch.onnx.export(
                extractor,
                tuple(inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=[WAVEFORM, SPECTRUM][: len(inputs)],
                output_names=[EMBEDDING],
                dynamic_shapes=tuple(dynamic),
                # The optimizer leaves out the addition of what is nearly 0, such as the 1e-10 in a logarithm.
                optimize=False,
                verbose=False,
            )
        assert program is not None
        program.save(file)
    except ImportError as error:
        raise UserError(f"{short(str(error))}: writing ONNX needs pip install 'asdpipe[export]'") from None
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{type(extractor).__name__} cannot be written as ONNX: {short(str(error), 300)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporter tells about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
