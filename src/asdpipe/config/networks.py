"""The networks that map a clip to its embedding: a union on ``kind``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from asdpipe.config.base import PositiveInt, Section, with_kind
from asdpipe.errors import UserError
from asdpipe.models.kinds import EXTRACTORS, FREE


class _Network(Section):
    takes_augment: ClassVar = False
    """Whether the network takes a function that augments its spectrogram."""
    adopts: ClassVar[tuple[str, ...]] = ()
    """Layouts of checkpoints, and kinds of networks, whose weights it can start from."""
    reconstructs: ClassVar = False
    """Whether the network predicts hidden patches of its spectrogram."""
    embedding_mb: ClassVar = 2500
    """Memory to embed clips of 10 s, in MB; of published sizes, measured (docs/performance.md), with a margin."""
    training_mb: ClassVar[tuple[int, int]] = (2500, 0)
    """Memory of a training, and of each clip of 10 s of a forward pass, in MB."""

    @property
    def has_adapters(self) -> bool:
        """Whether a trained model holds changes of its pre-trained weights only, which are needed to load it."""
        return False

    @property
    def pretrained(self) -> str | None:
        """The checkpoint or method that the initial weights come from; None: they are random."""
        return None

    def check_weights(self, file: Path | None) -> None:
        """Refuse a step without the file of its pre-trained weights, or with a file that it does not use.

        Raises:
            UserError: says which option is missing or too much.
        """
        if self.pretrained is not None and file is None:
            raise UserError(f"network.weights is {self.pretrained}: give its file (--pretrained)")
        if self.pretrained is None and file is not None:
            raise UserError(f"--pretrained: {file} is not used: network.weights names no weights")

    def mismatch(self, origin: str, sizes: Mapping[str, Any]) -> str:
        """Return why weights cannot be those of this network, and which key to change; "" if they may be.

        Args:
            origin: the layout of their checkpoint, or the kind of their network.
            sizes: arguments of their network, as far as they are known.
        """
        if origin not in self.adopts:
            known = " or ".join(self.adopts) or "no"
            return f"it has weights of {origin}, but a network of this kind starts from {known} weights"
        if sizes.get("lora") is not None:
            return "its model has adapters (network.lora), which are no initial weights: name what it starts from"
        own = self.arguments()
        for key in sorted((own.keys() & sizes.keys()) - FREE):
            if own[key] != sizes[key]:
                return f"its network has {key} = {sizes[key]}, but network.{key} is {own[key]}: set both to the same"
        for key in ("frames", "layer"):
            theirs, wanted = sizes.get(key), own.get(key)
            if theirs is not None and (wanted is None or wanted > theirs):
                return f"its network has {key} = {theirs}: set network.{key} to {theirs} or less"
        return ""

    def arguments(self) -> dict[str, Any]:
        """Return kind and arguments of the extractor, JSON-able: all but where its weights come from."""
        return self.model_dump(mode="json", exclude={"weights"})

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


class Mfcc(_Network):
    """Mean and standard deviation of 40 MFCCs, without training."""

    target: ClassVar = EXTRACTORS["mfcc"]
    kind: Literal["mfcc"] = "mfcc"


class Autoencoder(_Network):
    """The autoencoder of the DCASE baseline, one per machine type."""

    target: ClassVar = EXTRACTORS["autoencoder"]
    kind: Literal["autoencoder"] = "autoencoder"


class Lora(Section):
    """Low-rank adapters, trained instead of the network."""

    rank: int = Field(64, ge=1, le=1024, description="Inner size of each adapter.")
    alpha: float = Field(8.0, gt=0, description="What an adapter adds is multiplied by alpha / rank.")


class _Transformer(_Network):
    weights: str = Field(
        min_length=1,
        description="Initial weights: a name in checkpoints, or a method that trains such a network, or 'random'.",
    )
    layers: int = Field(12, ge=1, le=64, description="Blocks of the whole network.")
    width: int = Field(768, ge=4, le=4096, multiple_of=4, description="Size of the tokens.")
    heads: int = Field(12, ge=1, le=64, description="Attention heads of a block; they divide width.")
    pooling: Literal["mean", "band_mean"] = Field(
        "mean", description="Mean over all patches, or over time for each frequency band of patches."
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} is not a multiple of {self.heads} heads"
            raise ValueError(message)
        return self

    @property
    def pretrained(self) -> str | None:
        """The checkpoint or method that the initial weights come from; None: they are random."""
        return None if self.weights == "random" else self.weights


class _Encoder(_Transformer):
    takes_augment: ClassVar = True
    layer: int | None = Field(
        None, ge=1, le=64, description="The output is that of this block; later ones are not computed. none: the last."
    )

    @model_validator(mode="after")
    def _layer_exists(self) -> Self:
        if self.layer is not None and self.layer > self.layers:
            message = f"layer {self.layer} does not exist: layers is {self.layers}"
            raise ValueError(message)
        return self


class Beats(_Encoder):
    """BEATs, a Transformer on patches of the log-mel spectrogram (Chen et al. 2023)."""

    target: ClassVar = EXTRACTORS["beats"]
    adopts: ClassVar = ("beats",)
    embedding_mb: ClassVar = 3500
    training_mb: ClassVar = (3500, 600)
    kind: Literal["beats"] = "beats"
    width: int = Field(768, ge=16, le=4096, multiple_of=16, description="Size of the tokens.")
    ffn: int = Field(3072, ge=1, le=16384, description="Width of the hidden layer within a block.")
    patch_width: int = Field(512, ge=1, le=16384, description="Size of the embedding of a patch.")
    lora: Lora | None = Field(None, description="Train low-rank adapters instead of the network; none: no adapters.")

    @property
    def has_adapters(self) -> bool:
        """Whether a trained model holds adapters alone: those of random weights are saved with these."""
        return self.lora is not None and self.pretrained is not None

    def misfit(self, num_samples: int) -> str:
        """Return why clips of this many samples have no patch; "" if they have."""
        # A patch has 16 windows of 400 samples, every 160, as in models/fbank.py.
        fits = num_samples >= 400 + 15 * 160
        return "" if fits else "clips are shorter than one patch of the spectrogram: use clips of 0.175 s or more"


class _Frames(_Network):
    frames: int = Field(
        1024, ge=16, le=4096, multiple_of=16, description="Length that spectrograms are padded to, in frames of 10 ms."
    )

    def misfit(self, num_samples: int) -> str:
        """Return why clips of this many samples do not fit into the frames; "" if they do."""
        # Windows of 400 samples every 160, as in models/fbank.py.
        frames = 1 + (num_samples - 400) // 160
        if 16 <= frames <= self.frames:
            return ""
        remedy = "use clips of 0.175 s or more" if frames < 16 else "use shorter clips or raise network.frames"
        return f"clips have {frames} frames of 10 ms, not 16 to network.frames = {self.frames}: {remedy}"


class AudioMae(_Encoder, _Frames):
    """The encoder of AudioMAE, a vision Transformer on the log-mel spectrogram (Huang et al. 2022)."""

    target: ClassVar = EXTRACTORS["audio_mae"]
    adopts: ClassVar = ("audio_mae", "masked_audio_mae")
    embedding_mb: ClassVar = 3500
    training_mb: ClassVar = (3500, 250)
    kind: Literal["audio_mae"] = "audio_mae"


class MaskedAudioMae(_Transformer, _Frames):
    """AudioMAE with its decoder, to pre-train the encoder (loss.kind masked_reconstruction)."""

    target: ClassVar = EXTRACTORS["masked_audio_mae"]
    adopts: ClassVar = ("audio_mae", "masked_audio_mae")
    embedding_mb: ClassVar = 3500
    training_mb: ClassVar = (4500, 250)
    reconstructs: ClassVar = True
    kind: Literal["masked_audio_mae"] = "masked_audio_mae"
    decoder_layers: int = Field(16, ge=1, le=64, description="Blocks of the decoder.")
    decoder_width: int = Field(512, ge=4, le=4096, multiple_of=4, description="Size of the decoder's tokens.")
    decoder_heads: int = Field(16, ge=1, le=64, description="Attention heads of the decoder; they divide its width.")

    @model_validator(mode="after")
    def _decoder_heads_fit(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            message = f"decoder_width {self.decoder_width} is not a multiple of {self.decoder_heads} heads"
            raise ValueError(message)
        return self


class Ced(_Encoder):
    """CED-tiny, a small vision Transformer on the log-mel spectrogram, for CPUs (Dinkel et al. 2023)."""

    target: ClassVar = EXTRACTORS["ced"]
    adopts: ClassVar = ("ced",)
    training_mb: ClassVar = (2500, 50)
    kind: Literal["ced"] = "ced"
    width: int = Field(192, ge=4, le=4096, multiple_of=4, description="Size of the tokens.")
    heads: int = Field(3, ge=1, le=64, description="Attention heads of a block; they divide width.")

    def misfit(self, num_samples: int) -> str:
        """Return why clips of this many samples do not fit the positions; "" if they do."""
        # Frames every 160 samples, 16 to 1012, as in models/ced.py.
        fits = 16 <= 1 + num_samples // 160 <= 1012
        return "" if fits else "CED takes clips of 0.15 to 10.11 s: change clip_seconds"


Network = Annotated[
    MultiResolution | LogMel | Mfcc | Autoencoder | Beats | AudioMae | MaskedAudioMae | Ced,
    Field(discriminator="kind"),
    with_kind("network"),
]
