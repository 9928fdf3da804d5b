"""SpecAugment: masks over time and frequency (Park et al., Interspeech 2019), without time warping."""

import torch
from torch import Generator, Tensor


def spec_augment(fbank: Tensor, *, time_mask: int, frequency_mask: int, generator: Generator | None = None) -> Tensor:
    """Return the features with one time mask and one frequency mask per clip, set to 0.

    Start and width are drawn as in torchaudio's TimeMasking and FrequencyMasking: width ~ U(0, widest), start ~
    U(0, size - width), both rounded down.

    Args:
        fbank: normalised log-mel features (batch, frames, mels); 0 is their mean.
        time_mask, frequency_mask: largest widths in frames and mel bands, at most the size of ``fbank``.
        generator: CPU generator, so that random numbers do not depend on the device of ``fbank``.
    """
    draws = torch.rand(2, 2, len(fbank), generator=generator).to(fbank.device, non_blocking=True)
    frames, mels = fbank.shape[1:]
    in_time = _mask(frames, time_mask, draws[0])
    in_frequency = _mask(mels, frequency_mask, draws[1])
    return fbank.masked_fill(in_time[:, :, None] | in_frequency[:, None, :], 0.0)


def _mask(size: int, widest: int, draws: Tensor) -> Tensor:
    """Return where the masks are, bool (batch, size), from uniform draws (2, batch) of width and start."""
    width = draws[0] * min(widest, size)
    start = (draws[1] * (size - width)).long()[:, None]
    index = torch.arange(size, device=draws.device)
    return (index >= start) & (index < start + width.long()[:, None])
