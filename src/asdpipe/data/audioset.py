"""External pools in AudioSet's form: audio named Y<YTID>, segment csvs, display names."""

import csv
from pathlib import Path

import pandas as pd

from asdpipe.data.clips import add_headers, audio_files
from asdpipe.errors import UserError


def list_clips(root: Path, pool: str, shards: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the manifest of a pool and remarks on what is missing.

    Args:
        root: holds audios/**/Y<YTID>.<suffix> and metadata/*_segments.csv, metadata/class_labels_indices.csv.
        shards: parts of nearly equal size, neighbours together.

    Raises:
        UserError: a folder or csv is missing, or the pool has no clip with a label.
    """
    clip_folders(root)
    audios, metadata = root / "audios", root / "metadata"
    segments = read_segments(metadata)
    names = read_display_names(metadata / "class_labels_indices.csv")
    files = {path.stem: path for path in audio_files(audios, recursive=True)}
    labelled = {stem: path for stem, path in files.items() if stem.removeprefix("Y") in segments}
    if not labelled:
        message = (
            f"{root}: the external pool is empty: {len(files)} audio files, {len(segments)} segments, "
            "none in both; fill it, or set the data set's pool to null to do without external clips"
        )
        raise UserError(message)
    remarks = []
    if len(labelled) < len(files):
        remarks.append(f"{len(files) - len(labelled)} of {len(files)} audio files have no segment: left out")
    if len(labelled) < len(segments):
        remarks.append(f"{len(segments) - len(labelled)} of {len(segments)} segments have no audio file")
    paths = list(labelled.values())
    mids = [segments[stem.removeprefix("Y")] for stem in labelled]
    frame = pd.DataFrame(
        {
            "clip_id": [path.relative_to(root).as_posix() for path in paths],
            "path": [str(path) for path in paths],
            "dataset": pool,
            "shard": [row * shards // len(paths) for row in range(len(paths))],
            "mids": mids,
            "display_names": [[names.get(mid, mid) for mid in each] for each in mids],
        }
    )
    return add_headers(frame, paths), remarks


def read_segments(metadata: Path) -> dict[str, list[str]]:
    """Return the labels (mids) of every YTID of the *_segments.csv files, in the order they are listed.

    Raises:
        UserError: there is no such csv, or a row cannot be read.
    """
    files = sorted(metadata.glob("*_segments.csv"))
    if not files:
        raise UserError(f"{metadata}: holds no *_segments.csv; AudioSet's segment csvs belong there")
    segments: dict[str, list[str]] = {}
    for file in files:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for number, row in enumerate(csv.reader(lines, skipinitialspace=True), start=1):
                if not row or row[0].startswith("#"):
                    continue
                mids = [mid.strip() for mid in row[3].split(",") if mid.strip()] if len(row) == 4 else []
                if not mids:
                    message = f'{file}, line {number}: expected YTID, start, end, "mid,mid,..."; found {row}'
                    raise UserError(message)
                segments[row[0]] = mids
    return segments


def read_display_names(file: Path) -> dict[str, str]:
    """Return the display name of every mid.

    Raises:
        UserError: the file is missing or lacks the columns mid and display_name.
    """
    if not file.is_file():
        raise UserError(f"{file}: is missing; it names the labels (index,mid,display_name)")
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines, skipinitialspace=True)
        if not {"mid", "display_name"} <= set(rows.fieldnames or ()):
            raise UserError(f"{file}: lacks the columns mid and display_name")
        return {row["mid"]: row["display_name"] for row in rows}


def clip_folders(root: Path) -> list[str]:
    """Return the folders that hold clips and metadata; adding or removing a file changes the time of its folder.

    Raises:
        UserError: a folder is missing.
    """
    audios, metadata = root / "audios", root / "metadata"
    for folder in (root, audios, metadata):
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder; a pool has audios/ and metadata/ (AudioSet's form)")
    # One level down is enough to see a new part of AudioSet, and does not list millions of files.
    return [str(folder) for folder in (audios, *sorted(each for each in audios.iterdir() if each.is_dir()), metadata)]
