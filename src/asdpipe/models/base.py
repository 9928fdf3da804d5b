"""Base class of all extractors: waveform to embeddings, one per branch."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

PositiveInt = Annotated[int, Field(ge=1)]


class FeatureExtractor(nn.Module):
    """Map waveforms, float (batch, samples) in [-1, 1) at 16 kHz, to embeddings, float (batch, branches, dim).

    The front end (spectra, log-mel) is part of the extractor, so that the same object is trained and exported.
    """

    num_samples: int | None
    """Length that clips are tiled or cut to; None: whole clips, one at a time."""
    min_samples: int = 1
    """Shorter clips cannot be embedded."""
    embedding_shape: tuple[int, int]
    """Number of branches, and embedding size of each."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings of waveforms."""
        raise TypeError(type(self).__name__)

    def of_machine(self, machine: str) -> "FeatureExtractor":
        """Return the extractor for clips of a machine type: ``self``, unless every machine type has its own.

        Raises:
            UserError: there is no extractor for this machine type.
        """
        return self

    def may_be_nan(self, tensor: str) -> bool:
        """Return whether a tensor of the state dict may hold NaN."""
        return False
