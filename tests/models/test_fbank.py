"""The filter bank against torchaudio's port of Kaldi, as BEATs and AudioMAE call it."""

import math

import pytest
import torch
from torchaudio.compliance import kaldi

from asdpipe.models.fbank import Fbank, num_frames

AS_BEATS = {"num_mel_bins": 128, "sample_frequency": 16_000, "frame_length": 25, "frame_shift": 10}
AS_AUDIO_MAE = {
    "htk_compat": True,
    "sample_frequency": 16_000,
    "use_energy": False,
    "window_type": "hanning",
    "num_mel_bins": 128,
    "dither": 0.0,
    "frame_shift": 10,
}


def machine_like(clips: int, samples: int, scale: float) -> torch.Tensor:
    """Noise, a hum, an offset and, in the last clip, a silent half."""
    noise = torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    x = 0.05 * noise + 0.2 * torch.sin(2 * math.pi * 50 / 16_000 * torch.arange(samples)) + 0.01
    x[-1, samples // 2 :] = 0
    return scale * x


@pytest.mark.parametrize(
    ("window", "arguments", "scale"), [("povey", AS_BEATS, 2.0**15), ("hann", AS_AUDIO_MAE, 1.0)], ids=["beats", "mae"]
)
@pytest.mark.parametrize("samples", [400, 559, 560, 16_000])
def test_it_equals_kaldi_within_rounding(window, arguments, scale, samples):
    x = machine_like(3, samples, scale)
    found = Fbank(window)(x)
    assert found.shape == (3, num_frames(samples), 128)
    expected = torch.stack([kaldi.fbank(clip[None], **arguments) for clip in x])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_silence_has_the_logarithm_of_epsilon():
    assert (Fbank()(torch.zeros(1, 800)) == math.log(2.0**-23)).all()


def test_autocast_changes_nothing():
    x = machine_like(2, 4000, 2.0**15)
    with torch.autocast("cpu", torch.bfloat16):
        found = Fbank()(x)
    assert torch.equal(found, Fbank()(x))


def test_ten_seconds_have_998_frames_and_less_than_25_ms_none():
    assert (num_frames(160_000), num_frames(400), num_frames(399), num_frames(0)) == (998, 1, 0, 0)


def test_it_has_nothing_to_train_or_to_save_and_is_built_under_the_meta_device():
    with torch.device("meta"):
        described = Fbank("hann")
    assert not described.state_dict() | dict(described.named_parameters())
