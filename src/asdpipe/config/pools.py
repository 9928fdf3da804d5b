"""The configuration of external pools (unrelated audio with labels), a union on ``format`` like data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field

from asdpipe.config.base import PositiveInt, Section, own_keys, settings_of
from asdpipe.config.data import Decoding, OnBadClip
from asdpipe.imports import called

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMAT = (
    "'audioset': audio files or parquet shards with segment csvs; 'folder': any audio files with a csv of labels; "
    "'demo': generated."
)


class _Listing(Section):
    module: ClassVar[str]
    """Module with the functions of the format, which are called with the settings that they have as parameters."""
    shards: int = Field(1, ge=1, le=100_000, description="Parts that are packed and scored separately.")

    def _call(self, function: str, *arguments: Any) -> Any:
        settings = self.model_dump()
        return called(f"{self.module}.{function}", *arguments, **settings, **settings.get("table", {}))

    def watched(self, root: Path) -> list[str]:
        """Return the folders and tables whose modification time changes when clips or labels change.

        Raises:
            UserError: one is missing.
        """
        return list(self._call("clip_folders", root))

    def list_clips(self, root: Path, name: str) -> "tuple[pa.Table, pd.DataFrame]":
        """Return the list of clips (table ``pool_clips``), and the clips that are left out (clip, reason).

        Raises:
            UserError: audio or a csv is missing or damaged, or no clip has a label.
        """
        manifest, lost = self._call("list_clips", root, name)
        return manifest, lost

    @property
    def listed_by(self) -> str:
        """Dotted name of the function that lists clips."""
        return f"{self.module}.list_clips"


class AudioSetListing(_Listing):
    """Listing of AudioSet in one of its layouts."""

    module: ClassVar = "asdpipe.data.pools.audioset"
    format: Literal["audioset"] = Field(description=FORMAT)


class DemoPoolListing(_Listing):
    """Listing of a generated pool in the layout of AudioSet."""

    module: ClassVar = AudioSetListing.module
    format: Literal["demo"] = Field(description=FORMAT)

    def watched(self, root: Path) -> list[str]:
        """Return the generated folder."""
        return [str(root)]


class PoolTable(Section):
    """The csv of a pool of any audio files (``format: folder``)."""

    file: str = Field("labels.csv", description="The csv, below root; its first line names the columns.")
    clip_column: str = Field("file", description="Column of the audio files: path below root, or name, or stem.")
    label_column: str = Field("label", description="Column of the label; several are separated by ; or ,.")


class FolderPoolListing(_Listing):
    """Listing of any audio files with a csv of labels."""

    module: ClassVar = "asdpipe.data.pools.labelled_files"
    format: Literal["folder"] = Field(description=FORMAT)
    table: PoolTable = PoolTable()


PoolListing = Annotated[DemoPoolListing | AudioSetListing | FolderPoolListing, Discriminator("format")]


class _Pool(Decoding):
    listing_kind: ClassVar[type[_Listing]]
    packed: bool = Field(
        True,
        description="Decode once and keep 16 kHz samples (32 kB a second), or decode the files anew in every stage.",
    )
    on_bad_clip: OnBadClip = Field("skip", description="Stop and list the bad clips, or leave them out and list them.")

    @property
    def decoding(self) -> Decoding:
        """Settings for decoding."""
        return settings_of(self, Decoding)

    @property
    def listing(self) -> Any:
        """Settings for listing."""
        return settings_of(self, self.listing_kind)


class DemoPoolSize(Section):
    """Size of the generated external pool (``format: demo``)."""

    seed: int = Field(0, ge=0, description="Seed of the generator.")
    clips_per_class: PositiveInt = Field(100, description="Clips of each class.")


class DemoPoolRecordings(Section):
    """Settings for generating recordings."""

    clip_seconds: float
    demo: DemoPoolSize


class DemoPool(DemoPoolListing, _Pool):
    """A generated external pool."""

    listing_kind: ClassVar = DemoPoolListing
    root: ClassVar[None] = None
    clip_seconds: float = Field(10.0, gt=0, description="Length of generated clips ('demo'), in s.")
    demo: DemoPoolSize = DemoPoolSize()

    @property
    def recordings(self) -> DemoPoolRecordings:
        """Settings for generating recordings."""
        return settings_of(self, DemoPoolRecordings)


class AudioSetPool(AudioSetListing, _Pool):
    """AudioSet, in one of its layouts."""

    listing_kind: ClassVar = AudioSetListing
    root: str | None = Field(None, description="Folder of the pool; may contain {data_root}.")


class FolderPool(FolderPoolListing, _Pool):
    """Any audio files with a csv of labels."""

    listing_kind: ClassVar = FolderPoolListing
    root: str | None = Field(None, description="Folder of the pool; may contain {data_root}.")


Pool = Annotated[
    Annotated[DemoPool | AudioSetPool | FolderPool, Discriminator("format")],
    BeforeValidator(own_keys(demo=DemoPool, audioset=AudioSetPool, folder=FolderPool)),
]
