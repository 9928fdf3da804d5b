"""What all extractors have in common: a waveform in, one embedding per branch out."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

PositiveInt = Annotated[int, Field(ge=1)]


class FeatureExtractor(nn.Module):
    """Map waveforms, float (batch, samples) in [-1, 1) at 16 kHz, to embeddings, float (batch, branches, dim).

    Front ends (spectra, log-mel) are part of the extractor, so that what is trained and what is exported is one object.
    """

    num_samples: int | None
    """Length that clips are tiled or cut to; none: clips are taken whole, one at a time."""
    min_samples: int = 1
    """Shorter clips cannot be embedded."""
    embedding_shape: tuple[int, int]
    """Branches and size of each branch's embedding."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings of waveforms."""
        raise TypeError(type(self).__name__)

    def of_machine(self, machine: str) -> "FeatureExtractor":
        """Return the extractor of a machine type's clips: this one, unless each machine type has its own.

        Raises:
            UserError: there is none for this machine type.
        """
        return self

    def may_be_nan(self, tensor: str) -> bool:
        """Tell whether a tensor of the state may hold NaN."""
        return False
