"""The networks that map a clip to its embedding: a union on ``kind``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from asdpipe.config.base import PositiveInt, Section, with_kind
from asdpipe.models.kinds import EXTRACTORS


class _Network(Section):
    has_adapters: ClassVar = False
    """Whether a trained model holds changes of its pre-trained weights only, which are needed to load it."""

    @property
    def pretrained(self) -> str | None:
        """The checkpoint or method that the initial weights come from; None: they are random."""
        return None

    def misfit(self, num_samples: int) -> str:
        """Return why clips of this many samples cannot be used, and what to change; "" if they can."""
        return ""


class MultiResolution(_Network):
    """The multi-resolution feature extractor (paper §3.1)."""

    target: ClassVar = EXTRACTORS["multi_resolution"]
    kind: Literal["multi_resolution"] = "multi_resolution"
    width: int = Field(128, ge=8, le=1024, multiple_of=8, description="Channels and size of each branch's embedding.")
    windows: tuple[int, ...] = Field(
        (4096, 128), min_length=1, max_length=16, description="STFT window of each branch, in samples."
    )
    f_min: float = Field(200.0, ge=0, lt=8000, description="Lowest frequency the STFT branches see, in Hz.")
    dft_kernels: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (256, 64, 16), description="Kernel sizes of the DFT branch."
    )
    dft_strides: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (64, 32, 4), description="Strides of the DFT branch."
    )

    @field_validator("windows")
    @classmethod
    def _even(cls, windows: tuple[int, ...]) -> tuple[int, ...]:
        if any(window < 32 or window % 2 for window in windows):
            message = f"STFT windows must be even and at least 32 samples, not {list(windows)}"
            raise ValueError(message)
        return windows

    def misfit(self, num_samples: int) -> str:
        """Return why clips of this many samples are too short for the DFT branch; "" if they are not."""
        length = num_samples // 2 + 1
        for kernel, stride in zip(self.dft_kernels, self.dft_strides, strict=True):
            length = (length - kernel) // stride + 1
        if length >= 1:
            return ""
        sizes = f"kernels {list(self.dft_kernels)}, strides {list(self.dft_strides)}"
        remedy = "lengthen the clips, or set smaller network.dft_kernels and network.dft_strides"
        return f"clips are too short for the DFT branch ({sizes}): {remedy}"


class LogMel(_Network):
    """Mean and standard deviation of the log-mel spectrogram, without training."""

    target: ClassVar = EXTRACTORS["log_mel"]
    kind: Literal["log_mel"] = "log_mel"


class Autoencoder(_Network):
    """The autoencoder of the DCASE baseline, one per machine type."""

    target: ClassVar = EXTRACTORS["autoencoder"]
    kind: Literal["autoencoder"] = "autoencoder"


class Lora(Section):
    """Low-rank adapters, trained instead of the network."""

    rank: int = Field(64, ge=1, le=1024, description="Inner size of each adapter.")
    alpha: float = Field(8.0, gt=0, description="What an adapter adds is multiplied by alpha / rank.")


class Beats(_Network):
    """BEATs, a Transformer on patches of the log-mel spectrogram (Chen et al. 2023)."""

    target: ClassVar = EXTRACTORS["beats"]
    kind: Literal["beats"] = "beats"
    layers: int = Field(12, ge=1, le=64, description="Blocks of the whole network.")
    width: int = Field(768, ge=16, le=4096, multiple_of=16, description="Size of the tokens.")
    ffn: int = Field(3072, ge=1, le=16384, description="Width of the hidden layer within a block.")
    heads: int = Field(12, ge=1, le=64, description="Attention heads of a block; they divide width.")
    patch_width: int = Field(512, ge=1, le=16384, description="Size of the embedding of a patch.")
    layer: int | None = Field(
        None, ge=1, le=64, description="The output is that of this block; later ones are not computed. none: the last."
    )
    pooling: Literal["mean", "band_mean"] = Field(
        "mean", description="Mean over all patches, or over time for each of the eight frequency bands."
    )
    lora: Lora | None = Field(None, description="Train low-rank adapters instead of the network; none: no adapters.")

    @model_validator(mode="after")
    def _fits(self) -> "Beats":
        if self.width % self.heads:
            message = f"width {self.width} is not a multiple of {self.heads} heads"
            raise ValueError(message)
        if self.layer is not None and self.layer > self.layers:
            message = f"layer {self.layer} does not exist: layers is {self.layers}"
            raise ValueError(message)
        return self


Network = Annotated[MultiResolution | LogMel | Autoencoder | Beats, Field(discriminator="kind"), with_kind("network")]
