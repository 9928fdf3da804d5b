"""The baseline of DCASE Task 2 since 2023 (Harada et al., First-shot anomaly sound detection): an autoencoder.

It reconstructs runs of five log-mel frames; the anomaly score is the reconstruction error. Scores follow the released
code, so that they compare with the tables of the challenge: its Mahalanobis distance is the squared distance of a
clip's mean error, while the paper averages the smaller distance over frames.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor

BANDS = 128
FRAMES = 5
WINDOW = 1024
HOP = 512
LAYERS = (FRAMES * BANDS, 128, 128, 128, 128, 8, 128, 128, 128, 128, FRAMES * BANDS)
# Relative to the largest eigenvalue. Smaller ones are rounding errors, whose inverses would dominate the distance.
SMALLEST_EIGENVALUE = 1e-10


class LogMel(nn.Module):
    """Log-mel spectrogram in dB: 128 bands (Slaney scale and normalisation), window 1024, hop 512.

    Signals are zero-padded at both ends, as in librosa 0.9.2, which the baseline uses.

    Input: float (batch, samples) at 16 kHz. Output: float (batch, samples // 512 + 1, 128).
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        # On the CPU even under the meta device: torchaudio checks the values, and a window would import torch._dynamo.
        with torch.device("cpu"):
            filters = melscale_fbanks(WINDOW // 2 + 1, 0, SAMPLE_RATE / 2, BANDS, SAMPLE_RATE, "slaney", "slaney")
            window = torch.hann_window(WINDOW)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spectrogram of every clip."""
        stft = torch.stft(x, WINDOW, HOP, window=self.window, pad_mode="constant", return_complex=True)
        power = stft.real.square() + stft.imag.square()
        return 10 * torch.log10((power.transpose(1, 2) @ self.filters).clamp(min=sys.float_info.epsilon))


def stack_frames(log_mel: Tensor) -> Tensor:
    """Return all runs of five successive frames, float (batch, frames - 4, 640), of (batch, frames, 128).

    For a contiguous spectrogram this is a view. With fewer than five frames there are no runs.
    """
    batch, frames, _ = log_mel.shape
    if frames < FRAMES:
        return log_mel.new_empty(batch, 0, FRAMES * BANDS)
    return log_mel.flatten(1).unfold(1, FRAMES * BANDS, BANDS)


class Autoencoder(nn.Module):
    """Linear layers 640-128-128-128-128-8-128-128-128-128-640, all but the last with batch normalisation and ReLU.

    Input and output: float (vectors, 640) in dB, from ``frame_vectors``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_mel = LogMel()
        layers: list[nn.Module] = []
        for before, after in pairwise(LAYERS):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, eps=1e-3, momentum=0.01), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-2])

    def frame_vectors(self, x: Tensor) -> Tensor:
        """Return the inputs for waveforms (batch, samples), float (batch, frames - 4, 640)."""
        return stack_frames(self.log_mel(x))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the reconstructions."""
        return self.layers(vectors)


def inverse_covariances(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the inverse covariances of the reconstruction errors of source and target, float64 (2, 128, 128).

    The five frames of a vector count as five errors of 128 bands. As in the baseline, errors are centred within their
    batch and domain, and the sum is divided by the number of vectors minus one. A singular covariance (few vectors) has
    its pseudo-inverse; a domain without vectors has NaN.

    Args:
        batches: pairs of errors (vectors, 640) and is_source, bool (vectors,), in random order.
    """
    scatter, vectors = torch.zeros(2, BANDS, BANDS, dtype=torch.float64), torch.zeros(2)
    for error, is_source in batches:
        for domain, member in enumerate((is_source, ~is_source)):
            bands = error[member].reshape(-1, BANDS).double()
            if len(bands):
                centred = bands - bands.mean(dim=0)
                scatter[domain] += (centred.T @ centred).cpu()
                vectors[domain] += len(bands) // FRAMES
    covariance = scatter / (vectors - 1).clamp(min=1)[:, None, None]
    inverse = torch.linalg.pinv(covariance, rtol=SMALLEST_EIGENVALUE, hermitian=True)
    inverse[vectors == 0] = torch.nan
    return inverse


class MachineAutoencoder(FeatureExtractor):
    """The trained autoencoder of one machine type and its reconstruction errors.

    Input: float (batch, samples) at 16 kHz, at least five frames (2048 samples). Output: float64 (batch, 1, 3): mean
    squared error (simple mode of the baseline) and squared Mahalanobis distances to source and target (selective mode);
    NaN for a domain without training clips.
    """

    num_samples = None
    min_samples = (FRAMES - 1) * HOP
    embedding_shape = (1, 3)
    inverse_covariances: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.model = Autoencoder()
        self.register_buffer("inverse_covariances", torch.full((2, BANDS, BANDS), torch.nan, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        vectors = self.model.frame_vectors(x)
        error = self.model(vectors.flatten(0, 1)).view(vectors.shape) - vectors
        mean_square = error.square().mean(dim=(1, 2)).double()
        mean_error = error.unflatten(2, (FRAMES, BANDS)).mean(dim=(1, 2)).double()
        squared = torch.einsum("bi,dij,bj->bd", mean_error, self.inverse_covariances, mean_error)
        return torch.cat([mean_square[:, None], squared], dim=1).unsqueeze(1)


class Autoencoders(FeatureExtractor):
    """The autoencoders of all machine types, in the order of ``machines``.

    Input: float (batch, samples) at 16 kHz. Output: float64 (batch, machines, 3), see MachineAutoencoder.
    """

    num_samples = None
    min_samples = MachineAutoencoder.min_samples

    def __init__(self, machines: Sequence[str]) -> None:
        super().__init__()
        self.machines = tuple(machines)
        self.by_machine = nn.ModuleList(MachineAutoencoder() for _ in self.machines)
        self.embedding_shape = (len(self.machines), 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([autoencoder(x) for autoencoder in self.by_machine], dim=1)

    def of_machine(self, machine: str) -> FeatureExtractor:
        """Return the autoencoder of a machine type."""
        if machine not in self.machines:
            known = ", ".join(self.machines)
            raise UserError(f"there is no autoencoder for machine type {machine}, only for {known}")
        found = self.by_machine[self.machines.index(machine)]
        assert isinstance(found, MachineAutoencoder)
        return found

    def may_be_nan(self, tensor: str) -> bool:
        """Return whether a tensor may hold NaN: inverse covariances of a domain without training clips."""
        return tensor.endswith(".inverse_covariances")
