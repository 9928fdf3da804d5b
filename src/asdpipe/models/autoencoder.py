"""The baseline of DCASE Task 2 since 2023 (Harada et al., First-shot anomaly sound detection): an autoencoder.

It reconstructs five successive log-mel frames; a clip is as anomalous as its reconstruction is wrong. The scores are
those of the released code, to be compared with the challenge's tables: its Mahalanobis distance is the squared one of
the clip's mean error, where the paper has the mean over frames of the smaller distance.
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
# Relative to the largest eigenvalue; what lies below is rounding, and its inverse would drown the distance.
SMALLEST_EIGENVALUE = 1e-10


class LogMel(nn.Module):
    """Log-mel spectrogram in dB: 128 bands on Slaney's scale and of equal area, window 1024, hop 512, not normalised.

    Zeros are added at both ends, as librosa does since 0.9.0 (the baseline names 0.9.2).

    Input: float (batch, samples) at 16 kHz. Output: float (batch, samples // 512 + 1, 128).
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Also where weights have no memory: torchaudio looks at the values.
        with torch.device("cpu"):
            filters = melscale_fbanks(WINDOW // 2 + 1, 0, SAMPLE_RATE / 2, BANDS, SAMPLE_RATE, "slaney", "slaney")
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spectrogram of every clip."""
        stft = torch.stft(x, WINDOW, HOP, window=self.window, pad_mode="constant", return_complex=True)
        power = stft.real.square() + stft.imag.square()
        return 10 * torch.log10((power.transpose(1, 2) @ self.filters).clamp(min=sys.float_info.epsilon))


def stack_frames(log_mel: Tensor) -> Tensor:
    """Return all runs of five successive frames, float (batch, frames - 4, 640), from (batch, frames, 128).

    A view of a contiguous spectrogram: five times its size, but no memory. Below five frames there are no runs.
    """
    batch, frames, _ = log_mel.shape
    if frames < FRAMES:
        return log_mel.new_empty(batch, 0, FRAMES * BANDS)
    return log_mel.flatten(1).unfold(1, FRAMES * BANDS, BANDS)


class Autoencoder(nn.Module):
    """Fully connected, 640-128-128-128-128-8-128-128-128-128-640, batch normalisation and ReLU but after the last.

    Input and output: float (vectors, 640), dB, as ``frame_vectors`` gives them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_mel = LogMel()
        layers: list[nn.Module] = []
        for before, after in pairwise(LAYERS):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, eps=1e-3, momentum=0.01), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-2])

    def frame_vectors(self, x: Tensor) -> Tensor:
        """Return the inputs for waveforms (batch, samples): float (batch, frames - 4, 640)."""
        return stack_frames(self.log_mel(x))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the reconstructions."""
        return self.layers(vectors)


def inverse_covariances(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the inverse covariances of the reconstruction errors of source and target, float64 (2, 128, 128).

    The five frames of a vector count as five errors of 128 bands. As in the baseline, errors are centred within their
    batch and domain, and the sum is divided by the number of vectors less one. Where the errors do not span all bands
    (few vectors), the pseudo-inverse stands in; a domain without vectors has NaN.

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
    """The trained autoencoder of one machine type, and how wrong it is on a clip.

    Input: float (batch, samples) at 16 kHz, at least five frames (2048 samples). Output: float64 (batch, 1, 3): mean
    squared error (the score of the baseline's simple mode) and squared Mahalanobis distances to source and target (of
    its selective mode), NaN for a domain without training clips.
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

    Input: float (batch, samples) at 16 kHz. Output: float64 (batch, machines, 3), each as of MachineAutoencoder.
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
        """Tell whether a tensor may hold NaN: inverse covariances of a domain without training clips."""
        return tensor.endswith(".inverse_covariances")
