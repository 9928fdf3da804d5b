"""The DCASE baseline's features, network and distances against plain numpy and scipy versions."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from torch import nn

from asdpipe.errors import UserError
from asdpipe.models.autoencoder import (
    Autoencoder,
    Autoencoders,
    LogMel,
    MachineAutoencoder,
    inverse_covariances,
    stack_frames,
)
from asdpipe.training.embedding import embed

RATE, SIZE, HOP, BANDS = 16_000, 1024, 512, 128


def noise(clips: int = 3, samples: int = 8000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def slaney_hertz(mel: float) -> float:
    """Invert Slaney's mel scale: 200/3 Hz per mel up to 1000 Hz, then a factor of 6.4 in 27 mel."""
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def log_mel(x: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram in dB (frames, bands): Hann, zeros at the ends, power, triangles of area 1 (in Hz)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    padded = np.pad(x, SIZE // 2)
    frames = np.array([padded[i : i + SIZE] for i in range(0, len(padded) - SIZE + 1, HOP)])
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    top = 15 + 27 * math.log(8) / math.log(6.4)
    corners = [slaney_hertz(top * i / (BANDS + 1)) for i in range(BANDS + 2)]
    mel = np.zeros((len(frames), BANDS))
    for band in range(BANDS):
        low, centre, high = corners[band : band + 3]
        for k in range(SIZE // 2 + 1):
            f = k * RATE / SIZE
            weight = max(0.0, min((f - low) / (centre - low), (high - f) / (high - centre)))
            mel[:, band] += 2 / (high - low) * weight * power[:, k]
    return 10 * np.log10(np.maximum(mel, np.finfo(float).eps))


def error_bands(model: Autoencoder, clip: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return input and reconstruction of a clip, frame by frame of every vector, both (5 x vectors, bands)."""
    vectors = model.frame_vectors(clip[None])[0]
    with torch.no_grad():
        return vectors.reshape(-1, BANDS).double().numpy(), model(vectors).reshape(-1, BANDS).double().numpy()


def precisions(seed: int = 0) -> torch.Tensor:
    """Two symmetric positive definite matrices."""
    root = torch.randn(2, BANDS, BANDS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.transpose(1, 2) / BANDS


def extractor_of(model: Autoencoder, inverse: torch.Tensor) -> MachineAutoencoder:
    extractor = MachineAutoencoder().eval()
    extractor.model = model
    extractor.inverse_covariances.copy_(inverse)
    return extractor


def distances_of(model: Autoencoder, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the embeddings of clips, (clips, 3)."""
    with torch.inference_mode():
        embedding = extractor_of(model, inverse)(x)
    assert embedding.dtype == torch.float64
    assert embedding.shape == (len(x), 1, 3)
    return embedding[:, 0]


@pytest.fixture
def model() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder().eval()


def test_the_spectrogram_is_librosas_in_decibel():
    x = noise(clips=2)
    spectrogram = LogMel()(x)
    assert spectrogram.shape == (2, 16, BANDS)
    for clip in range(2):
        np.testing.assert_allclose(spectrogram[clip], log_mel(x[clip].double().numpy()), atol=0.01)


def test_a_silent_clip_is_at_the_floor_of_double_precision():
    torch.testing.assert_close(LogMel()(torch.zeros(1, 4000)), torch.full((1, 8, BANDS), -156.5356))


def test_a_vector_is_five_successive_frames_one_after_the_other(model):
    x = noise(clips=2)
    frames, vectors = model.log_mel(x), model.frame_vectors(x)
    assert vectors.shape == (2, 12, 640)
    for clip in range(2):
        for start in range(12):
            torch.testing.assert_close(vectors[clip, start], torch.cat([frames[clip, start + i] for i in range(5)]))


def test_the_vectors_take_no_memory_of_their_own(model):
    frames = model.log_mel(noise())
    assert stack_frames(frames).data_ptr() == frames.data_ptr()


def test_the_network_has_the_published_layers(model):
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    linears = [each for each in model.modules() if isinstance(each, nn.Linear)]
    assert [(each.in_features, each.out_features) for each in linears] == list(pairwise(widths))
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm1d)]
    assert [each.num_features for each in norms] == widths[1:-1]
    assert {(each.momentum, each.eps) for each in norms} == {(0.01, 1e-3)}
    assert sum(isinstance(each, nn.ReLU) for each in model.modules()) == 9
    weights = sum(a * b + b for a, b in pairwise(widths))
    assert sum(each.numel() for each in model.parameters()) == weights + 2 * sum(widths[1:-1]) == 267_928


def test_the_reconstruction_may_be_negative_as_decibels_are(model):
    assert (model(model.frame_vectors(noise(clips=1))[0]) < 0).any()


def test_the_filters_are_not_among_the_weights(model):
    assert all(name.startswith("layers.") for name in model.state_dict())


def test_the_first_distance_is_the_mean_squared_error(model):
    x = noise()
    distances = distances_of(model, precisions(), x)
    for clip in range(3):
        given, rebuilt = error_bands(model, x[clip])
        assert float(distances[clip, 0]) == pytest.approx(((given - rebuilt) ** 2).mean(), rel=1e-5)


def test_the_others_are_the_squared_mahalanobis_distances_of_the_mean_error(model):
    x, inverse = noise(), precisions()
    distances = distances_of(model, inverse, x)
    for clip in range(3):
        given, rebuilt = error_bands(model, x[clip])
        for domain in range(2):
            distance = mahalanobis(given.mean(axis=0), rebuilt.mean(axis=0), inverse[domain].numpy())
            assert float(distances[clip, 1 + domain]) == pytest.approx(distance**2, rel=1e-5)


def test_that_is_the_mean_over_all_pairs_of_errors_that_the_released_code_takes(model):
    x, inverse = noise(clips=1), precisions()
    given, rebuilt = error_bands(model, x[0])
    pairs = (rebuilt - given) @ inverse[0].numpy() @ (rebuilt - given).T
    assert float(distances_of(model, inverse, x)[0, 1]) == pytest.approx(pairs.mean(), rel=1e-5)


def test_a_constant_error_has_known_distances(model, monkeypatch):
    monkeypatch.setattr(model, "forward", lambda vectors: vectors + 3)
    inverse = torch.stack([torch.eye(BANDS), 2 * torch.eye(BANDS)]).double()
    expected = torch.tensor([[9.0, 9 * BANDS, 18 * BANDS]]).double()
    torch.testing.assert_close(distances_of(model, inverse, noise(clips=1)), expected, rtol=1e-5, atol=0)


def test_distances_of_a_clip_do_not_depend_on_its_batch_or_the_networks_mode(model):
    x, inverse = noise(), precisions()
    together = distances_of(model, inverse, x)
    alone = torch.cat([distances_of(model, inverse, clip[None]) for clip in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)
    # Clips are embedded in evaluation mode whatever the mode was.
    clips = [(clip * 32768).numpy().astype(np.int16) for clip in x]
    embedded = np.concatenate(list(embed(extractor_of(model, inverse).train(), clips, 3, torch.device("cpu"))))
    np.testing.assert_allclose(embedded, together, rtol=1e-3)


def test_a_domain_that_was_not_trained_on_has_no_distance(model):
    inverse = precisions()
    inverse[1] = torch.nan
    distances = distances_of(model, inverse, noise())
    assert distances[:, :2].isfinite().all()
    assert distances[:, 2].isnan().all()


def test_clips_below_five_frames_have_no_vectors_and_no_distance(model):
    assert model.frame_vectors(noise(samples=2048)).shape == (3, 1, 640)
    assert model.frame_vectors(noise(samples=2047)).shape == (3, 0, 640)
    assert distances_of(model, precisions(), noise(samples=2048)).isfinite().all()
    assert distances_of(model, precisions(), noise(samples=2047)).isnan().all()


def errors(vectors: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated errors with a mean, and their domains, half and half."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(BANDS) + 0.05 * torch.randn(BANDS, BANDS, generator=generator)
    bands = torch.randn(5 * vectors, BANDS, generator=generator) @ mixing + 2
    return bands.reshape(vectors, 5 * BANDS), torch.arange(vectors) % 2 == 0


def test_covariances_are_of_the_single_frames_errors_divided_by_the_vectors_less_one():
    error, is_source = errors(400)
    inverse = inverse_covariances([(error, is_source)])
    for domain, member in enumerate((is_source, ~is_source)):
        covariance = np.cov(error[member].reshape(-1, BANDS).double().numpy().T) * (5 * 200 - 1) / (200 - 1)
        np.testing.assert_allclose(inverse[domain], np.linalg.inv(covariance), atol=1e-9)


def test_errors_are_centred_within_their_batch_and_domain():
    error, is_source = errors(400)
    shift = 50 * torch.arange(4).repeat_interleave(100)[:, None] + 30 * is_source[:, None]
    parts = [(error[i : i + 100], is_source[i : i + 100]) for i in range(0, 400, 100)]
    moved = [((error + shift)[i : i + 100], is_source[i : i + 100]) for i in range(0, 400, 100)]
    torch.testing.assert_close(inverse_covariances(moved), inverse_covariances(parts), rtol=1e-3, atol=1e-5)


def test_a_batch_without_a_domain_counts_for_the_other_only():
    error, is_source = errors(400)
    apart = [(error[is_source], is_source[is_source]), (error[~is_source], is_source[~is_source])]
    torch.testing.assert_close(inverse_covariances(apart), inverse_covariances([(error, is_source)]))


def test_a_domain_without_vectors_has_no_covariance():
    error, _ = errors(200)
    inverse = inverse_covariances([(error, torch.ones(200, dtype=torch.bool))])
    assert inverse[0].isfinite().all()
    assert inverse[1].isnan().all()


@pytest.mark.parametrize("vectors", [1, 2, 20])
def test_few_vectors_give_the_pseudo_inverse(vectors):
    error, _ = errors(vectors)
    inverse = inverse_covariances([(error, torch.zeros(vectors, dtype=torch.bool))])[1].numpy()
    bands = error.reshape(-1, BANDS).double().numpy()
    covariance = np.cov(bands.T) * (5 * vectors - 1) / max(1, vectors - 1)
    assert np.linalg.matrix_rank(inverse) == min(5 * vectors - 1, BANDS)
    np.testing.assert_allclose(covariance @ inverse @ covariance, covariance, atol=1e-8)
    np.testing.assert_allclose(inverse @ covariance @ inverse, inverse, atol=1e-8)


def test_errors_without_any_variance_have_the_distance_zero(model):
    error, is_source = torch.full((4, 640), 2.0), torch.tensor([True, True, False, False])
    distances = distances_of(model, inverse_covariances([(error, is_source)]), noise())
    assert distances[:, 1:].tolist() == [[0, 0]] * 3


# ---------------------------------------------------------------- one for each machine type


@pytest.fixture
def several(model) -> Autoencoders:
    torch.manual_seed(1)
    extractor = Autoencoders(["fan", "pump"]).eval()
    for number, of_machine in enumerate(extractor.by_machine):
        of_machine.inverse_covariances.copy_(precisions(number))
    return extractor


def test_each_machine_type_has_a_branch_of_its_own_autoencoder(several):
    x = noise()
    with torch.inference_mode():
        embedding = several(x)
        assert embedding.shape == (3, *several.embedding_shape) == (3, 2, 3)
        for branch, machine in enumerate(("fan", "pump")):
            assert torch.equal(several.of_machine(machine)(x)[:, 0], embedding[:, branch])
    assert not torch.allclose(embedding[:, 0], embedding[:, 1])


def test_another_machine_type_is_named_with_those_that_there_are(several):
    with pytest.raises(UserError, match="no autoencoder for machine type valve, only for fan, pump"):
        several.of_machine("valve")


def test_only_covariances_may_be_nan_and_are_so_before_a_training(several):
    nan = {name for name in several.state_dict() if several.may_be_nan(name)}
    assert nan == {f"by_machine.{number}.inverse_covariances" for number in (0, 1)}
    fresh = Autoencoders(["fan"])
    assert {name for name, value in fresh.state_dict().items() if value.isnan().any()} == {
        name for name in fresh.state_dict() if fresh.may_be_nan(name)
    }


def test_clips_are_taken_whole_from_five_frames_on(several):
    assert several.num_samples is None
    assert several.min_samples == MachineAutoencoder.min_samples == 2048
