"""The configuration of where sound comes from: data sets, external pools, downloads."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from asdpipe.config.base import Name, PositiveInt, Section
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.dcase.years import YEARS, unknown_machines

# Folders may have spaces and umlauts; braces are Snakemake's.
MachineType = Annotated[str, Field(pattern=r"^[^/\\{}]+$")]


class DemoDataset(Section):
    """Size of the generated data set (``format: demo``)."""

    seed: int = Field(0, ge=0, description="Seed of the generator.")
    source_clips: PositiveInt = Field(990, description="Normal source training clips per machine type.")
    target_clips: PositiveInt = Field(10, description="Normal target training clips per machine type.")
    test_clips: PositiveInt = Field(50, description="Test clips per machine type, domain and label.")


class DemoPool(Section):
    """Size of the generated external pool (``format: demo``)."""

    seed: int = Field(0, ge=0, description="Seed of the generator.")
    clips_per_class: PositiveInt = Field(100, description="Clips of each class.")


OnBadClip = Literal["fail", "skip"]
Channel = Annotated[Literal["mix"] | Annotated[int, Field(ge=0)], Field(description="'mix' (mean), or one channel.")]


class Decoding(Section):
    """How audio files are read."""

    channel: Channel = "mix"
    min_seconds: float = Field(0.1, gt=0, description="Shorter clips are bad clips.")
    on_bad_clip: OnBadClip = Field("fail", description="Stop and list the bad clips, or leave them out and list them.")


class Dataset(Decoding):
    """A data set: where it is and how its clips are read."""

    format: Literal["demo", "dcase", "folder"] = Field(
        description="'dcase' folders and names; 'folder': one's own, a folder per machine type; 'demo': generated."
    )
    year: Literal[2020, 2021, 2022, 2023, 2024, 2025] | None = Field(
        None,
        description="Year of DCASE Task 2: its archives, ground truth, counts and scoring; none: only DCASE's form.",
    )
    root: str | None = Field(
        None, description="Folder of the data set; may contain {data_root}. None: downloads/NAME, fetched (needs year)."
    )
    download: bool | None = Field(
        None, description="Fetch what is missing below root (needs year); none: only if no root is given."
    )
    machines: tuple[MachineType, ...] | None = Field(
        None, description="Only these machine types; none: all that are there."
    )
    parts: tuple[Literal["dev", "eval"], ...] = Field(
        ("dev", "eval"), min_length=1, description="Development and evaluation set, or one of them."
    )
    check_counts: bool = Field(
        True, description="Stop if the numbers of clips are not those published for the year; false for a part of it."
    )
    ground_truth: str | None = Field(
        None,
        description="Folder with the labels of the evaluation test clips; may contain {data_root}. "
        "None: root/ground_truth, if there.",
    )
    revealed_attributes: bool = Field(
        True, description="Fill attributes that the challenge hid with those published after it (2024, 2025)."
    )
    table: str | None = Field(
        None,
        description="'folder': csv with domain, section, attributes, labels, below root; none: clips.csv if there.",
    )
    scoring: Literal["dcase2020", "dcase2021", "dcase2022"] | None = Field(
        None, description="Official score: formula of 2020, of 2021, or of 2022 and later; none: that of the year."
    )
    clip_seconds: float = Field(
        18.0,
        ge=0.5,
        le=120,
        description="Length T that every clip is tiled or cut to, in s; with a year: 10 to 2022, 18 in 2023, then 12.",
    )
    pool: Name | None = Field(None, description="The external pool; none: no external clips.")
    demo: DemoDataset = DemoDataset()

    @model_validator(mode="before")
    @classmethod
    def _of_year(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("year") not in YEARS:
            return values
        return {"clip_seconds": YEARS[values["year"]].seconds, **values}

    @field_validator("machines", "parts")
    @classmethod
    def _in_order(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # Their order means nothing, so it must not run anything again.
        return None if names is None else tuple(sorted(set(names)))

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.format != "dcase" and (self.year is not None or self.download):
            message = f"year and download are for format: dcase, not {self.format}"
            raise ValueError(message)
        if self.download and self.year is None:
            message = "download needs the year of the challenge"
            raise ValueError(message)
        if self.year is not None:
            unknown, known = unknown_machines(self.year, self.parts, self.machines or ())
            if unknown:
                message = f"DCASE {self.year} has no machine type {', '.join(unknown)}; it has {', '.join(known)}"
                raise ValueError(message)
        return self

    @property
    def fetched(self) -> bool:
        """Whether its recordings are downloaded."""
        return self.year is not None and (self.root is None if self.download is None else self.download)

    @property
    def official(self) -> Literal["dcase2020", "dcase2021", "dcase2022"]:
        """The formula of the official score."""
        if self.scoring is not None:
            return self.scoring
        return "dcase2020" if self.year == 2020 else "dcase2021" if self.year == 2021 else "dcase2022"

    @property
    def num_samples(self) -> int:
        """Length of the network's input in samples."""
        return round(self.clip_seconds * SAMPLE_RATE)


class PoolTable(Section):
    """The csv of a pool of any audio files (``format: folder``)."""

    file: str = Field("labels.csv", description="The csv, below root; its first line names the columns.")
    clip_column: str = Field("file", description="Column of the audio files: path below root, or name, or stem.")
    label_column: str = Field("label", description="Column of the label; several are separated by ; or ,.")


class Pool(Decoding):
    """An external pool: unrelated audio with labels."""

    format: Literal["demo", "audioset", "folder"] = Field(
        description="'audioset': audio files or parquet shards with segment csvs; 'folder': any audio files with a csv "
        "of labels; 'demo': generated."
    )
    root: str | None = Field(None, description="Folder of the pool; may contain {data_root}.")
    table: PoolTable = PoolTable()
    shards: int = Field(1, ge=1, le=100_000, description="Parts that are packed and scored separately.")
    packed: bool = Field(
        True,
        description="Decode once and keep 16 kHz samples (32 kB a second), or decode the files anew in every stage.",
    )
    clip_seconds: float = Field(10.0, gt=0, description="Length of generated clips ('demo'), in s.")
    on_bad_clip: OnBadClip = Field("skip", description="Stop and list the bad clips, or leave them out and list them.")
    demo: DemoPool = DemoPool()


class Download(Section):
    """Where recordings and ground truth of DCASE come from."""

    zenodo: str = Field("https://zenodo.org", description="Base of the archives; a mirror serves the same paths.")
    github: str = Field(
        "https://raw.githubusercontent.com", description="Base of the ground truth; a mirror serves the same paths."
    )
    checksums: Literal["published", "recorded"] = Field(
        "published",
        description="Published MD5s where there are any, else those recorded at the first download; or the latter "
        "only (for a mirror that packed the archives again).",
    )
    connections: int = Field(4, ge=1, le=16, description="Files that are fetched at the same time.")
    attempts: PositiveInt = Field(8, description="Tries without progress, ever longer apart, until a file is given up.")
