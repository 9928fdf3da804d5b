"""Files of external pools: walks over millions of them, their manifest and its shards."""

import hashlib
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from asdpipe.artifacts.schemas import SCHEMAS
from asdpipe.data.clips import AUDIO_SUFFIXES

STRINGS = pa.list_(pa.string())


def files_below(
    root: Path, folder: Path, suffixes: Collection[str] = AUDIO_SUFFIXES
) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder in ``folder``, as path below ``root`` with a slash, and its files with such a suffix.

    Folders and names are sorted, links are followed, hidden files and folders are left out.

    Raises:
        OSError: a folder cannot be read.
    """
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        chosen = sorted(name for name in names if _suffix(name) in suffixes and not name.startswith("."))
        if chosen:
            below = Path(parent).relative_to(root).as_posix()
            # Parquet stores UTF-8 only; other names match no label anyway.
            prefix, *chosen = (each.encode("utf-8", "replace").decode() for each in (f"{below}/", *chosen))
            yield prefix.removeprefix("./"), chosen


def list_audio(root: Path, folder: Path) -> pa.Table:
    """Return the audio files in ``folder``: clip_id (path below ``root``), path, row (null) and name."""
    ids, names = [pa.array([], pa.string())], [pa.array([], pa.string())]
    for prefix, files in files_below(root, folder):
        names.append(pa.array(files))
        ids.append(pc.binary_join_element_wise(prefix, names[-1], ""))
    clip_id = pa.concat_arrays(ids)
    path = pc.binary_join_element_wise(str(root), clip_id, "/")
    row = pa.nulls(len(clip_id), pa.int32())
    return pa.table({"clip_id": clip_id, "path": path, "row": row, "name": pa.concat_arrays(names)})


def watched(folder: Path, levels: int = 2) -> list[str]:
    """Return folders whose modification time changes when clips are added or removed.

    These are the folders of the clips and those above them. Listing a folder stops at its first audio file and goes no
    deeper there: there may be millions of them.
    """
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _suffix(entry.name) in AUDIO_SUFFIXES:
                return [str(folder)]
            # Snakemake accepts printable names only as inputs.
            if entry.is_dir() and entry.name.isprintable() and not entry.name.startswith("."):
                folders.append(folder / entry.name)
    deeper = [watched(each, levels - 1) if levels > 1 else [str(each)] for each in sorted(folders)]
    return [str(folder), *(each for below in deeper for each in below)]


def pool_clips(pool: str, clips: pa.Table, names: Mapping[str, str], shards: int) -> pa.Table:
    """Return the manifest of a pool, shard by shard; within a shard the clips keep their order.

    Args:
        clips: clip_id, path, row, mids.
        names: display names by mid; others keep the mid.
        shards: parts of about equal size; small pools may leave some empty. The part of a clip depends on its clip_id
            alone, so that a new clip changes one part only.
    """
    shard = np.array([zlib.crc32(clip_id.encode()) % shards for clip_id in clips["clip_id"].to_pylist()], np.int32)
    mids = clips["mids"].combine_chunks()
    added = {
        "dataset": pa.repeat(pool, len(clips)),
        "shard": pa.array(shard),
        "display_names": renamed(mids, names),
    }
    columns = {name: clips[name] for name in ("clip_id", "path", "mids", "row")} | added
    table = pa.table(columns).select(SCHEMAS["pool_clips"].names)
    return table.take(pa.array(np.argsort(shard, kind="stable"))) if shards > 1 else table


def shard_digests(manifest: pa.Table, shards: int) -> list[str]:
    """Return a digest of each shard's clips, by shard: of all that packing them depends on, in their order.

    Args:
        manifest: shard, clip_id, path and row; sorted by shard, as ``pool_clips`` returns it.
    """
    ends = np.searchsorted(manifest["shard"].to_numpy(), np.arange(shards), side="right").tolist()
    digests = []
    for start, end in zip([0, *ends], ends, strict=False):
        part = manifest.slice(start, end - start).combine_chunks()
        row = pc.fill_null(pc.cast(part["row"], pa.string()), "")
        # File names have no NUL.
        lines = pc.binary_join_element_wise(part["clip_id"], part["path"], row, "", "\0")
        text = b"\n".join(lines.cast(pa.binary()).to_pylist())
        digests.append(hashlib.sha256(text).hexdigest()[:16])
    return digests


def renamed(lists: pa.ListArray, names: Mapping[str, str]) -> pa.ListArray:
    """Return lists of strings with every string replaced by its name, if it has one."""
    encoded = lists.values.dictionary_encode()  # noqa: PD011 (arrow's, not pandas')
    replaced = pa.array([names.get(each, each) for each in encoded.dictionary.to_pylist()], pa.string())
    return pa.ListArray.from_arrays(lists.offsets, replaced.take(encoded.indices))


def left_out(clips_by_reason: Mapping[str, pa.Array]) -> pd.DataFrame:
    """Return the clips that are left out, one row each: clip (path, or name of a clip without a file) and reason."""
    parts = [pa.table({"clip": clips, "reason": pa.repeat(why, len(clips))}) for why, clips in clips_by_reason.items()]
    return pa.concat_tables(parts).to_pandas()


def _suffix(name: str) -> str:
    return name[max(name.rfind("."), 0) :].lower()


def _fail(error: OSError) -> None:
    raise error
