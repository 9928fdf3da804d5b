"""Base class of all extractors: waveform to embeddings, one per branch."""

from collections.abc import Mapping
from typing import Annotated

import torch
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
    num_patches: int | None = None
    """Patches of a clip's spectrogram; None: the extractor has no patches."""
    takes_spectrum: bool = False
    """Whether ``forward`` takes the magnitude spectra of the whole clips, float (batch, samples // 2 + 1), as second
    argument, and else computes them."""
    takes_views: bool = False
    """Whether views of a batch can be embedded together, with batch statistics for each (``statistics_per_view``)."""
    rng: torch.Generator | None = None
    """CPU generator of random choices in training, such as layer drop; None: PyTorch's own."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings of waveforms."""
        raise TypeError(type(self).__name__)

    def of_machine(self, machine: str) -> "FeatureExtractor":
        """Return the extractor for clips of a machine type: ``self``, unless every machine type has its own.

        Raises:
            UserError: there is no extractor for this machine type.
        """
        return self

    def saved_state(self) -> dict[str, Tensor]:
        """Return the tensors to save, by their names in the state dict: all of them.

        An extractor with adapters saves the adapters alone. The other tensors then come from pre-trained weights, which
        must hold all of them, both before training and before the saved ones are loaded.
        """
        return self.state_dict()

    def adopt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return pre-trained tensors by their names in the state dict, without those that have no use here.

        Names, shapes and dtypes are those of the checkpoint and not checked: what is unknown stays in the result.
        """
        return dict(tensors)

    def may_be_nan(self, tensor: str) -> bool:
        """Return whether a tensor of the state dict may hold NaN."""
        return False
