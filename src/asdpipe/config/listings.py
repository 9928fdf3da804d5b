"""How the clips of a data set are listed.

Each format has a listing: the settings that its list of clips depends on, and the module with the functions that make
the list.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, field_validator, model_validator

from asdpipe.config.base import Section
from asdpipe.data.dcase.years import unknown_machines
from asdpipe.data.demo.names import machine_types as demo_machine_types
from asdpipe.imports import called

if TYPE_CHECKING:
    import pandas as pd

# Folders may have spaces and umlauts; braces are Snakemake's.
MachineType = Annotated[str, Field(pattern=r"^[^/\\{}]+$")]
FORMAT = (
    "'dcase' folders and names; 'folder': one's own, a folder per machine type; 'demo': generated; 'union': several "
    "data sets as one."
)


class ClipListing(Section):
    """What all formats have."""

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


class _DcaseLayout(ClipListing):
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


class FolderListing(ClipListing):
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
