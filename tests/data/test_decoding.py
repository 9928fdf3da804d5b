"""From manifests to samples: files, rows of parquet files, damaged ones, and the order of what is decoded ahead."""

import io
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from asdpipe.data.decoding import PREFETCH, Clip, decoded
from asdpipe.data.reading import BadClip, read_clip
from asdpipe.data.sources import sources

RATES = (16_000, 32_000, 44_100, 48_000, 22_050)


def flac(number: int, seconds: float = 1.0) -> bytes:
    """Return a flac file with a tone of its own; its rate goes round with its number."""
    rate = RATES[number % len(RATES)]
    tone = 0.3 * np.sin(2 * np.pi * (200 + 50 * number) * np.arange(round(seconds * rate)) / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def parquet(file: Path, contents: list[bytes | None], struct: bool, group: int = 20) -> Path:
    if struct:
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        audio = pa.array([each if each is None else {"bytes": each, "path": "x.flac"} for each in contents], kind)
    else:
        audio = pa.array(contents, pa.binary())
    names = [f"clip{row}" for row in range(len(contents))]
    pq.write_table(pa.table({"video_id": names, "audio": audio}), file, row_group_size=group)
    return file


def manifest(file: Path, rows: list[int]) -> pd.DataFrame:
    columns = {"clip_id": [f"id{row}" for row in rows], "path": str(file), "row": pd.array(rows, dtype="Int32")}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("struct", [True, False])
def test_rows_of_parquet_files_are_the_clips_of_the_manifest(tmp_path, struct):
    contents = [flac(number) for number in range(50)]
    file = parquet(tmp_path / "00.parquet", contents, struct)
    # Within a batch of rows, across batches, across row groups, and one row group (20 to 39) left out.
    rows = [0, 1, 15, 16, 19, 40, 49]
    clips = list(sources(manifest(file, rows)))
    assert [clip.clip_id for clip in clips] == [f"id{row}" for row in rows]
    assert [clip.source for clip in clips] == [contents[row] for row in rows]
    tones = [np.abs(np.fft.rfft(read_clip(clip.source))).argmax() for clip in clips]
    lengths = [len(read_clip(clip.source)) for clip in clips]
    assert tones == [200 + 50 * row for row in rows]
    assert lengths == [16_000] * len(rows)


def test_files_and_parquet_files_keep_the_order_of_the_manifest(tmp_path):
    one, two = (parquet(tmp_path / f"{name}.parquet", [flac(0), flac(1)], struct=True) for name in "ab")
    table = pd.concat(
        [
            manifest(one, [0, 1]),
            pd.DataFrame({"clip_id": ["file"], "path": ["x/y.wav"], "row": pd.array([None], dtype="Int32")}),
            manifest(two, [1]),
        ]
    )
    clips = list(sources(table))
    assert [clip.clip_id for clip in clips] == ["id0", "id1", "file", "id1"]
    assert clips[2] == Clip("file", "x/y.wav", Path("x/y.wav"))
    assert clips[3].name == f"{two} row 1"
    # A table of files only has no rows.
    assert [clip.source for clip in sources(table.drop(columns="row"))][2] == Path("x/y.wav")


@pytest.mark.parametrize("damage", ["missing", "cut off", "overwritten"])
def test_a_damaged_parquet_file_gives_bad_clips(tmp_path, damage):
    rng = np.random.default_rng(0)
    file = parquet(tmp_path / "00.parquet", [rng.bytes(5000) for _ in range(9)], struct=True, group=3)
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "cut off":
        file.write_bytes(whole[:-1000])
    else:
        audio = pq.ParquetFile(file).metadata.row_group(1).column(1)
        start = audio.dictionary_page_offset or audio.data_page_offset
        file.write_bytes(whole[:start] + b"\xff" * 50 + whole[start + 50 :])
    clips = list(sources(manifest(file, list(range(9)))))
    assert [clip.clip_id for clip in clips] == [f"id{row}" for row in range(9)]
    bad = [clip for clip in clips if isinstance(clip.source, BadClip)]
    assert "the parquet file cannot be read" in str(bad[-1].source)
    # What comes before the damage is still good.
    assert len(bad) == (6 if damage == "overwritten" else 9)


@pytest.mark.parametrize("threads", [0, 1])
def test_rows_without_audio_are_bad_clips(tmp_path, threads):
    file = parquet(tmp_path / "00.parquet", [flac(0), None, b"", b"no audio"], struct=True)
    done = list(decoded(sources(manifest(file, [0, 1, 2, 3])), read_clip, threads))
    assert len(done[0].samples) == 16_000
    assert [str(each.samples)[:40] for each in done[1:]] == [
        "its row of the parquet file holds no aud",
        "its row of the parquet file holds no aud",
        "the file is not audio that can be read (",
    ]


def test_rows_that_cannot_be_are_bad_clips(tmp_path):
    file = parquet(tmp_path / "00.parquet", [flac(0), flac(1)], struct=True)
    clips = list(sources(manifest(file, [-1, 1, 7])))
    assert [clip.clip_id for clip in clips] == ["id-1", "id1", "id7"]
    assert [isinstance(clip.source, BadClip) for clip in clips] == [True, False, True]
    pq.write_table(pa.table({"audio": [1, 2]}), file)
    assert all("cannot be read" in str(clip.source) for clip in sources(manifest(file, [0, 1])))


def test_clips_are_decoded_in_order_by_several_threads_and_not_too_far_ahead():
    lock, running, most, taken, used = threading.Lock(), 0, 0, 0, 0

    def clips():
        nonlocal taken
        for number in range(100):
            taken += 1
            assert taken - used <= 3 * PREFETCH + 2
            yield Clip(str(number), "", Path(str(number)))

    def read(path: Path) -> np.ndarray:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (int(path.name) % 3))
        with lock:
            running -= 1
        if path.name == "50":
            raise BadClip("no")
        return np.full(1, int(path.name), dtype=np.int16)

    for number, done in enumerate(decoded(clips(), read, threads=3)):
        used += 1
        assert done.clip_id == str(number)
        assert isinstance(done.samples, BadClip) if number == 50 else done.samples.tolist() == [number]
    assert used == 100
    assert 1 < most <= 3
