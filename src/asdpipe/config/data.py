"""The configuration of data sets: location, listing and decoding.

Data sets are a union on ``format``. A data set of recordings is a listing plus all other settings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, field_validator, model_validator

from asdpipe.config.base import Name, PositiveInt, Section, own_keys, settings_of
from asdpipe.config.listings import FORMAT, ClipListing, DcaseListing, DemoListing, FolderListing
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.dcase.years import YEARS

OnBadClip = Literal["fail", "skip"]
Channel = Annotated[Literal["mix"] | Annotated[int, Field(ge=0)], Field(description="'mix' (mean), or one channel.")]
Score = Literal["dcase2020", "dcase2021", "dcase2022"]


class Decoding(Section):
    """How audio files are read."""

    channel: Channel = "mix"
    min_seconds: float = Field(0.1, gt=0, description="Shorter clips are bad clips.")
    on_bad_clip: OnBadClip = Field("fail", description="Stop and list the bad clips, or leave them out and list them.")


class _Dataset(Decoding):
    scoring: Score | None = Field(
        None, description="Official score: formula of 2020, of 2021, or of 2022 and later; none: that of the year."
    )
    clip_seconds: float = Field(
        18.0,
        ge=0.5,
        le=120,
        description="Length T that every clip is tiled or cut to, in s; with a year: 10 to 2022, 18 in 2023, then 12.",
    )
    pool: Name | None = Field(None, description="The external pool; none: no external clips.")

    @property
    def official(self) -> Score:
        """The formula of the official score."""
        return self.scoring or "dcase2022"

    @property
    def num_samples(self) -> int:
        """Length that clips are tiled or cut to, in samples."""
        return round(self.clip_seconds * SAMPLE_RATE)

    @property
    def decoding(self) -> Decoding:
        """Settings for decoding."""
        return settings_of(self, Decoding)


class _Recorded(_Dataset):
    listing_kind: ClassVar[type[ClipListing]]

    @property
    def fetched(self) -> bool:
        """Whether the recordings are downloaded."""
        return False

    @property
    def has_supplemental(self) -> bool:
        """Whether the download includes supplemental clips."""
        return False

    @property
    def listing(self) -> Any:
        """Settings for listing."""
        return settings_of(self, self.listing_kind)


class DemoSize(Section):
    """Size of the generated data set (``format: demo``)."""

    seed: int = Field(0, ge=0, description="Seed of the generator.")
    source_clips: PositiveInt = Field(990, description="Normal source training clips per machine type.")
    target_clips: PositiveInt = Field(10, description="Normal target training clips per machine type.")
    test_clips: PositiveInt = Field(50, description="Test clips per machine type, domain and label.")


class DemoRecordings(Section):
    """Settings for generating recordings."""

    clip_seconds: float
    demo: DemoSize


class DemoDataset(DemoListing, _Recorded):
    """A generated data set."""

    listing_kind: ClassVar = DemoListing
    root: ClassVar[None] = None
    year: ClassVar[None] = None
    ground_truth: ClassVar[None] = None
    demo: DemoSize = DemoSize()

    @property
    def recordings(self) -> DemoRecordings:
        """Settings for generating recordings."""
        return settings_of(self, DemoRecordings)


class DcaseDataset(DcaseListing, _Recorded):
    """A data set of DCASE Task 2, or one in its layout."""

    listing_kind: ClassVar = DcaseListing
    root: str | None = Field(
        None, description="Folder of the data set; may contain {data_root}. None: downloads/NAME, fetched (needs year)."
    )
    download: bool | None = Field(
        None, description="Fetch what is missing below root (needs year); none: only if no root is given."
    )
    ground_truth: str | None = Field(
        None,
        description="Folder with the labels of the evaluation test clips; may contain {data_root}. "
        "None: root/ground_truth, if there.",
    )

    @model_validator(mode="before")
    @classmethod
    def _length_of_year(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("year") not in YEARS:
            return values
        return {"clip_seconds": YEARS[values["year"]].seconds, **values}

    @model_validator(mode="after")
    def _download_needs_year(self) -> Self:
        if self.download and self.year is None:
            message = "download needs the year of the challenge"
            raise ValueError(message)
        return self

    @property
    def fetched(self) -> bool:
        """Whether the recordings are downloaded."""
        return self.year is not None and (self.root is None if self.download is None else self.download)

    @property
    def has_supplemental(self) -> bool:
        """Whether the download includes supplemental clips (from 2025 on)."""
        return self.year is not None and self.year >= 2025

    @property
    def official(self) -> Score:
        """The formula of the official score."""
        of_year: dict[int | None, Score] = {2020: "dcase2020", 2021: "dcase2021"}
        return self.scoring or of_year.get(self.year, "dcase2022")

    def machine_types(self, root: Path) -> list[str]:
        """Return the machine types that have folders, or those of the year if they are downloaded."""
        if not self.fetched or self.year is None:
            return super().machine_types(root)
        known = [machine for part in ("dev", "eval") if part in self.parts for machine in YEARS[self.year].part(part)]
        return [machine for machine in dict.fromkeys(known) if self.machines is None or machine in self.machines]


class FolderDataset(FolderListing, _Recorded):
    """A data set of the user's own recordings."""

    listing_kind: ClassVar = FolderListing
    year: ClassVar[None] = None
    ground_truth: ClassVar[None] = None
    root: str | None = Field(None, description="Folder of the data set; may contain {data_root}.")


class UnionSettings(Section):
    """Settings for joining the lists of several data sets."""

    joined: bool = Field(
        False, description="Machine types of the same name are one; false: each is its own, named DATASET_MACHINE."
    )


class UnionDataset(UnionSettings, _Dataset):
    """Several data sets as one."""

    root: ClassVar[None] = None
    year: ClassVar[None] = None
    ground_truth: ClassVar[None] = None
    format: Literal["union"] = Field(description=FORMAT)
    datasets: tuple[Name, ...] = Field(min_length=2, description="The data sets, by name.")
    tested: tuple[Name, ...] | None = Field(
        None, min_length=1, description="Test clips of these data sets only; none: of all."
    )

    @field_validator("datasets", "tested")
    @classmethod
    def _in_order(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # Their order means nothing, so changing it must not re-run anything.
        return None if names is None else tuple(sorted(set(names)))

    def members(self, split: str) -> tuple[str, ...]:
        """Return the data sets whose clips of a split are taken."""
        return self.datasets if self.tested is None or split != "test" else self.tested


# Data sets that have recordings of their own.
Recorded = DemoDataset | DcaseDataset | FolderDataset
Dataset = Annotated[
    Annotated[DemoDataset | DcaseDataset | FolderDataset | UnionDataset, Discriminator("format")],
    BeforeValidator(own_keys(demo=DemoDataset, dcase=DcaseDataset, folder=FolderDataset, union=UnionDataset)),
]


# Downloads ------------------------------------------------------------------------------------------------------------


class Download(Section):
    """Download sources of DCASE's recordings and ground truth, and of checkpoints."""

    zenodo: str = Field("https://zenodo.org", description="Base of the archives; a mirror serves the same paths.")
    github: str = Field(
        "https://raw.githubusercontent.com", description="Base of the ground truth; a mirror serves the same paths."
    )
    huggingface: str = Field("https://huggingface.co", description="Fills {huggingface} in addresses of checkpoints.")
    checksums: Literal["published", "recorded"] = Field(
        "published",
        description="Published MD5s where there are any, else those recorded at the first download; or the latter "
        "only (for a mirror that packed the archives again).",
    )
    connections: int = Field(4, ge=1, le=16, description="Files that are fetched at the same time.")
    attempts: PositiveInt = Field(8, description="Tries without progress, ever longer apart, until a file is given up.")


class DownloadSettings(Section):
    """Settings of a data set that determine the files to download."""

    year: int | None
    machines: tuple[str, ...] | None
    parts: tuple[Literal["dev", "eval"], ...]
    revealed_attributes: bool
