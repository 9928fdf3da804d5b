"""The configuration of data sets: location, listing and decoding.

Data sets are a union on ``format``. Each format has a *listing*: the settings that its list of clips depends on, and
the module with the functions that make the list. A data set is a listing plus all other settings.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, field_validator, model_validator

from asdpipe.config.base import Name, PositiveInt, Section
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.dcase.years import YEARS, unknown_machines
from asdpipe.data.demo.names import machine_types as demo_machine_types
from asdpipe.imports import called

if TYPE_CHECKING:
    import pandas as pd

# Folders may have spaces and umlauts; braces are Snakemake's.
MachineType = Annotated[str, Field(pattern=r"^[^/\\{}]+$")]
OnBadClip = Literal["fail", "skip"]
Channel = Annotated[Literal["mix"] | Annotated[int, Field(ge=0)], Field(description="'mix' (mean), or one channel.")]
Score = Literal["dcase2020", "dcase2021", "dcase2022"]
Kind = TypeVar("Kind", bound=Section)


class Decoding(Section):
    """How audio files are read."""

    channel: Channel = "mix"
    min_seconds: float = Field(0.1, gt=0, description="Shorter clips are bad clips.")
    on_bad_clip: OnBadClip = Field("fail", description="Stop and list the bad clips, or leave them out and list them.")


def settings_of(section: Section, kind: type[Kind]) -> Kind:
    """Return the settings of a section that are also in ``kind``."""
    return kind.model_validate(section.model_dump(include=set(kind.model_fields)))


def own_keys(**formats: type[Section]) -> Callable[[Any], Any]:
    """Return a validator that refuses keys of other formats and names their format."""

    def validator(values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("format") not in formats:
            return values
        own, kept = formats[values["format"]].model_fields, dict(values)
        for key, value in values.items():
            having = [name for name, kind in formats.items() if key in kind.model_fields]
            if key in own or not having:
                continue
            if value is not None:
                raise ValueError(f"{key} is for format: {' and '.join(having)}, not {values['format']}")
            # null unsets a key of the data set that this one changes, such as the year of dcase2023.
            del kept[key]
        return kept

    return validator


# Listings -------------------------------------------------------------------------------------------------------------

FORMAT = "'dcase' folders and names; 'folder': one's own, a folder per machine type; 'demo': generated."


class _Listing(Section):
    module: ClassVar[str]
    """Module with the functions of the format, which are called with the settings that they have as parameters."""
    machines: tuple[MachineType, ...] | None = Field(
        None, description="Only these machine types; none: all that are there."
    )

    @field_validator("machines", "parts", check_fields=False)
    @classmethod
    def _in_order(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # Their order means nothing, so changing it must not re-run anything.
        return None if names is None else tuple(sorted(set(names)))

    def _call(self, function: str, *arguments: Any, **options: Any) -> Any:
        return called(f"{self.module}.{function}", *arguments, **self.model_dump(), **options)

    def machine_types(self, root: Path) -> list[str]:
        """Return the machine types that have folders, those of the development set first.

        Raises:
            UserError: a folder is missing or its name cannot be used.
        """
        return list(self._call("machine_types", root))

    def watched(self, root: Path, split: str) -> list[str]:
        """Return the folders whose modification time changes when clips of a split are added or removed.

        Args:
            split: train, test or supplemental; the folders belong to this split only.

        Raises:
            UserError: a folder is missing or its name cannot be used.
        """
        return list(self._call("clip_folders", root, split))

    def facts(self, root: Path, split: str, truth: Path | None = None) -> str:
        """Return a digest of the rows about a split in csv files; "" if there are none.

        Args:
            truth: folder with the ground truth; None: root/ground_truth, if there.

        Raises:
            UserError: a csv file cannot be read.
        """
        return str(self._call("facts", root, split, truth=truth))

    def list_clips(self, root: Path, dataset_name: str, split: str, truth: Path | None) -> "pd.DataFrame":
        """Return the list of one split (table ``clips``), without the ground truth.

        Args:
            truth: folder with the ground truth; None: root/ground_truth, if there. Attributes of training clips that
                the challenge hid are read from it.

        Raises:
            UserError: folders, files, names or csv files are not as the format requires.
        """
        return self._call("list_clips", root, dataset_name, split, truth=truth)

    def truth_files(self, root: Path, truth: Path | None) -> list[str]:
        """Return the files of the ground truth that ``label_clips`` may read."""
        return list(self._call("truth_files", root, truth=truth))

    def label_clips(self, clips: "pd.DataFrame", root: Path, truth: Path | None) -> "pd.DataFrame":
        """Return the clips of all splits in final order, with the labels of the ground truth.

        Args:
            clips: the lists of all splits, concatenated.
            truth: folder with the ground truth; None: root/ground_truth, if there.

        Raises:
            UserError: ground truth and clips do not match, or the numbers of clips are not the published ones.
        """
        return self._call("label_clips", clips, root=root, truth=truth)

    @property
    def listed_by(self) -> str:
        """Dotted name of the function that lists clips."""
        return f"{self.module}.list_clips"

    @property
    def labelled_by(self) -> str:
        """Dotted name of the function that joins lists and labels."""
        return f"{self.module}.label_clips"


class _DcaseLayout(_Listing):
    module: ClassVar = "asdpipe.data.dcase.manifest"
    parts: tuple[Literal["dev", "eval"], ...] = Field(
        ("dev", "eval"), min_length=1, description="Development and evaluation set, or one of them."
    )


class DcaseListing(_DcaseLayout):
    """Listing by the folders and file names of DCASE."""

    format: Literal["dcase"] = Field(description=FORMAT)
    year: Literal[2020, 2021, 2022, 2023, 2024, 2025] | None = Field(
        None,
        description="Year of DCASE Task 2: its archives, ground truth, counts and scoring; none: only DCASE's form.",
    )
    check_counts: bool = Field(
        True, description="Stop if the numbers of clips are not those published for the year; false for a part of it."
    )
    revealed_attributes: bool = Field(
        True, description="Fill attributes that the challenge hid with those published after it (2024, 2025)."
    )

    @model_validator(mode="after")
    def _known_machines(self) -> Self:
        if self.year is not None:
            unknown, known = unknown_machines(self.year, self.parts, self.machines or ())
            if unknown:
                message = f"DCASE {self.year} has no machine type {', '.join(unknown)}; it has {', '.join(known)}"
                raise ValueError(message)
        return self


class DemoListing(_DcaseLayout):
    """Listing of a generated data set in the layout of DCASE."""

    format: Literal["demo"] = Field(description=FORMAT)

    def machine_types(self, root: Path) -> list[str]:
        """Return the machine types."""
        return [name for name in demo_machine_types(self.parts) if self.machines is None or name in self.machines]

    def watched(self, root: Path, split: str) -> list[str]:
        """Return the generated folder; there are no supplemental clips."""
        return [str(root)] if split in ("train", "test") else []

    def facts(self, root: Path, split: str, truth: Path | None = None) -> str:
        """Return "", because csv files are generated together with the clips."""
        return ""

    def truth_files(self, root: Path, truth: Path | None) -> list[str]:
        """Return no files: the labels are in the file names."""
        return []


class FolderListing(_Listing):
    """Listing of the user's own recordings."""

    module: ClassVar = "asdpipe.data.own_machines"
    format: Literal["folder"] = Field(description=FORMAT)
    table: str | None = Field(
        None,
        description="'folder': csv with domain, section, attributes, labels, below root; none: clips.csv if there.",
    )

    def truth_files(self, root: Path, truth: Path | None) -> list[str]:
        """Return no files: the labels are in folder names and the csv."""
        return []


Listing = Annotated[DemoListing | DcaseListing | FolderListing, Discriminator("format")]


class LabelSettings(Section):
    """Settings of the labelled list of all clips."""

    listing: Listing


# Data sets ------------------------------------------------------------------------------------------------------------


class _Dataset(Decoding):
    listing_kind: ClassVar[type[_Listing]]
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
    def fetched(self) -> bool:
        """Whether the recordings are downloaded."""
        return False

    @property
    def has_supplemental(self) -> bool:
        """Whether the download includes supplemental clips."""
        return False

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


class DemoDataset(DemoListing, _Dataset):
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


class DcaseDataset(DcaseListing, _Dataset):
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


class FolderDataset(FolderListing, _Dataset):
    """A data set of the user's own recordings."""

    listing_kind: ClassVar = FolderListing
    year: ClassVar[None] = None
    ground_truth: ClassVar[None] = None
    root: str | None = Field(None, description="Folder of the data set; may contain {data_root}.")


Dataset = Annotated[
    Annotated[DemoDataset | DcaseDataset | FolderDataset, Discriminator("format")],
    BeforeValidator(own_keys(demo=DemoDataset, dcase=DcaseDataset, folder=FolderDataset)),
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
