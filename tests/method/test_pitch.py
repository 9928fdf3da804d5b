"""The pitch shift, measured from the sound: frequencies by an interpolated spectral peak, times by the envelope."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torchaudio.functional import phase_vocoder
from torchaudio.functional import pitch_shift as torchaudio_pitch_shift
from torchaudio.functional import resample as torchaudio_resample

from asdpipe.method import pitch

RATE = 16_000
SEMITONES = [*range(-12, -5), *range(6, 13)]
RATIOS = [Fraction(70, 99), Fraction(99, 70), Fraction(1, 2), Fraction(2), Fraction(263, 394)]


def tone(frequency: float, samples: int = RATE, rate: float = RATE, amplitude: float = 0.5) -> torch.Tensor:
    t = torch.arange(samples, dtype=torch.float64) / rate
    return (amplitude * torch.sin(2 * math.pi * frequency * t)).float()


def frequency(x: torch.Tensor, rate: float = RATE) -> float:
    """Frequency of the strongest tone: the top of a parabola through the log spectrum's peak."""
    samples = x.double().numpy()
    size = 8 * len(samples)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    peak = int(spectrum.argmax())
    left, top, right = np.log(spectrum[peak - 1 : peak + 2])
    return (peak + 0.5 * (left - right) / (left - 2 * top + right)) * rate / size


def cents(ratio: float) -> float:
    return 1200 * math.log2(ratio)


def envelope_times(x: torch.Tensor) -> list[float]:
    """Centre of energy, in seconds, of the first and of the second half."""
    energy = x.double().square().numpy()
    times, half = np.arange(len(energy)) / RATE, len(energy) // 2
    return [float((times[part] * energy[part]).sum() / energy[part].sum()) for part in (slice(half), slice(half, None))]


def two_bursts(*centres: float) -> torch.Tensor:
    """One second of a tone of 1 kHz that sounds twice."""
    t = torch.arange(RATE) / RATE
    return tone(1000) * sum(torch.exp(-(((t - centre) / 0.03) ** 2)) for centre in centres)


def test_measured_frequency_is_exact_to_a_hundredth_cent():
    assert all(abs(cents(frequency(tone(f)[1500:-1500]) / f)) < 0.01 for f in (150, 440, 1234.5, 5000))


# ---------------------------------------------------------------- the ratio


@pytest.mark.parametrize("semitones", SEMITONES)
def test_ratio_is_within_a_quarter_cent(semitones):
    assert abs(cents(float(pitch.resampling_ratio(semitones)) * 2 ** (semitones / 12))) <= 0.25


@pytest.mark.parametrize(
    ("semitones", "ratio"), [(12, Fraction(1, 2)), (-12, Fraction(2)), (0, Fraction(1)), (6, Fraction(16000, 22627))]
)
def test_known_ratios(semitones, ratio):
    assert pitch.resampling_ratio(semitones) == ratio


@pytest.mark.parametrize("semitones", SEMITONES)
def test_filters_are_smaller_than_four_megabytes(semitones):
    ratio = pitch.resampling_ratio(semitones)
    filters = pitch._filters(ratio.numerator, ratio.denominator, 160_000, torch.device("cpu"), torch.float32)
    assert len(filters.taps) % ratio.numerator == 0
    assert filters.taps.nbytes + filters.inputs.nbytes < 4e6


# ---------------------------------------------------------------- the shift


@pytest.mark.parametrize("semitones", SEMITONES)
def test_a_shifted_tone_has_the_right_pitch_to_a_cent_and_keeps_its_length(semitones):
    tones = [150, 220, 440, 1000, 2500]
    shifted = pitch.pitch_shift(torch.stack([tone(f) for f in tones]), torch.full((len(tones),), semitones))
    assert shifted.shape == (len(tones), RATE)
    for row, f in zip(shifted, tones, strict=True):
        assert abs(cents(frequency(row[1500:-1500]) / (f * 2 ** (semitones / 12)))) < 1


@pytest.mark.parametrize("semitones", [-12, -7, 6, 11])
@pytest.mark.parametrize("samples", [5001, 12_345])
def test_length_is_kept_whatever_it_is(semitones, samples):
    shifted = pitch.pitch_shift(torch.randn(1, samples), torch.tensor([semitones]))
    assert shifted.shape == (1, samples)
    assert float(shifted[0, -200:].square().mean()) > 0.05  # no silent end


@pytest.mark.parametrize("semitones", [-12, -9, -6, 6, 8, 12])
def test_events_stay_where_they_are_in_time(semitones):
    shifted = pitch.pitch_shift(two_bursts(0.25, 0.8)[None], torch.tensor([semitones]))[0]
    # A wrong duration would move them by 60 ms and more; the vocoder's frames move them by less than two hops, 16 ms.
    assert envelope_times(shifted) == pytest.approx([0.25, 0.8], abs=2 * pitch.HOP / RATE)


def test_a_tone_that_would_pass_8_khz_disappears():
    x = tone(6000)
    shifted = pitch.pitch_shift(x[None], torch.tensor([12]))[0]
    assert float(shifted[1500:-1500].square().mean() / x.square().mean()) < 1e-4


# The shifts for which torchaudio needs less than half a gigabyte.
@pytest.mark.parametrize("semitones", [12, -12, -11, -7, 7, 9, 10])
def test_a_shift_equals_torchaudios_own(semitones):
    x = torch.stack([tone(440), tone(1000), 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))])
    expected = torchaudio_pitch_shift(x, RATE, semitones)
    # torchaudio sums phases of many turns in single precision, which costs it the last digits.
    torch.testing.assert_close(pitch.pitch_shift(x, torch.full((3,), semitones)), expected, atol=1e-3, rtol=0)


def test_clips_with_different_shifts_equal_the_clips_one_by_one():
    shifts = torch.tensor([6, -12, 6, 11, -7, -12])
    x = torch.randn(6, 6000, generator=torch.Generator().manual_seed(0))
    together = pitch.pitch_shift(x, shifts)
    for row in range(6):
        alone = pitch.pitch_shift(x[row : row + 1], shifts[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)
    assert not torch.allclose(together[0], pitch.pitch_shift(x[:1], torch.tensor([-12]))[0], atol=0.1)


# ---------------------------------------------------------------- its two halves


def stretched(x: torch.Tensor, rate: float) -> torch.Tensor:
    window = torch.hann_window(pitch.WINDOW)
    out = pitch.stretch(pitch.analyse(x[None], window), rate)
    assert out.shape[1] == math.ceil((len(x) // pitch.HOP + 1) / rate)
    return pitch.synthesise(out, window, round(len(x) / rate))[0]


@pytest.mark.parametrize("rate", [0.5, 70 / 99, 394 / 263, 2.0])
def test_the_phase_vocoder_equals_torchaudios(rate):
    x = torch.stack([tone(440), 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))])
    x, window = x.double(), torch.hann_window(512).double()
    spectrum = torch.stft(x, 512, 128, window=window, pad_mode="reflect", return_complex=True)
    expected = phase_vocoder(spectrum, rate, torch.linspace(0, math.pi * 128, 257).double()[:, None])
    found = pitch.stretch(pitch.analyse(x, window), rate).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert expected.abs().max() > 5


@pytest.mark.parametrize("samples", [5001, 12_345, RATE])
def test_synthesis_equals_torchs_istft(samples):
    window = torch.hann_window(pitch.WINDOW)
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    spectrum = torch.stft(x, pitch.WINDOW, pitch.HOP, window=window, return_complex=True)
    spectrum = spectrum * torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(1))
    expected = torch.istft(spectrum, pitch.WINDOW, pitch.HOP, window=window, length=samples)
    found = pitch.synthesise(spectrum.transpose(1, 2), window, samples)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rate", [0.5, 70 / 99, 99 / 70, 2.0])
def test_stretch_changes_the_duration_by_the_rate_and_not_the_pitch(rate):
    slow = stretched(two_bursts(0.25, 0.8), rate)
    assert envelope_times(slow) == pytest.approx([0.25 / rate, 0.8 / rate], abs=2 * pitch.HOP / RATE / rate)
    for f in (220, 1000, 3000):
        assert abs(cents(frequency(stretched(tone(f), rate)[1500:-1500]) / f)) < 1


def resample(x: torch.Tensor, ratio: Fraction) -> torch.Tensor:
    return pitch.resample(x[None], ratio, math.ceil(len(x) * ratio))[0]


@pytest.mark.parametrize("ratio", [*RATIOS, Fraction(4000, 5993), Fraction(640, 339)])
@pytest.mark.parametrize("samples", [3000, 20_001])
def test_resampling_equals_torchaudios(ratio, samples):
    x = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    expected = torchaudio_resample(x, ratio.denominator, ratio.numerator)  # its filters in single precision
    torch.testing.assert_close(pitch.resample(x, ratio, expected.shape[1]), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(pitch.resample(x, ratio, 777), expected[:, :777], atol=1e-4, rtol=0)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("f", [100, 1000, 2000])
def test_a_resampled_tone_equals_the_tone_sampled_at_the_new_rate(ratio, f):
    resampled = resample(tone(f), ratio)
    expected = tone(f, len(resampled), RATE * float(ratio))
    assert float((resampled - expected)[100:-100].abs().max()) < 0.002


@pytest.mark.parametrize("ratio", [each for each in RATIOS if each < 1])
def test_resampling_removes_what_the_new_rate_cannot_hold(ratio):
    nyquist = RATE * float(ratio) / 2
    for f in (1.25 * nyquist, min(1.4 * nyquist, 7900)):
        residue = resample(tone(f), ratio)[100:-100]
        assert 10 * math.log10(float(residue.square().mean() / tone(f).square().mean())) < -40


@pytest.mark.parametrize("ratio", [each for each in RATIOS if each > 1])
def test_upsampling_adds_no_images_above_the_old_band(ratio):
    resampled = resample(tone(3000), ratio)[100:-100].double().numpy()
    power = np.abs(np.fft.rfft(resampled * np.hanning(len(resampled)))) ** 2
    frequencies = np.fft.rfftfreq(len(resampled), 1 / (RATE * float(ratio)))
    assert power[frequencies > 8000].sum() / power.sum() < 1e-5


def test_resampling_by_one_returns_the_signal():
    x = tone(700)
    torch.testing.assert_close(resample(x, Fraction(1))[50:-50], x[50:-50], atol=0.002, rtol=0)
