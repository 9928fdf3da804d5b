"""The demo's external pool: AudioSet's files and metadata, determinism."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from asdpipe.data.demo import pool as demo_pool

SECONDS = 1.0
CLIPS = 3  # per class


def make_pool(folder: Path, seed: int = 7, clips: int = CLIPS) -> Path:
    demo_pool.write_pool(folder, seed=seed, clip_seconds=SECONDS, clips_per_class=clips)
    return folder


def wavs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.wav"))}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("pool"))


def pool_rows(pool: Path) -> list[list[str]]:
    lines = (pool / "metadata" / "balanced_train_segments.csv").read_text(encoding="utf-8").splitlines()
    assert [line.startswith("# ") for line in lines[:4]] == [True, True, True, False]
    return list(csv.reader(lines[3:], skipinitialspace=True))


# Form


def test_audio_is_16_khz_mono_pcm16_with_room_below_clipping(pool: Path) -> None:
    lengths = []
    for path in sorted(pool.rglob("*.wav")):
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16000, 1, "PCM_16", "WAV")
        wave, _ = sf.read(path)
        assert np.abs(wave).max() < 0.95
        assert np.std(wave) > 10 ** (-55 / 20), path
        lengths.append(len(wave))
    assert max(lengths) == SECONDS * 16000
    assert min(lengths) >= 0.75 * SECONDS * 16000
    assert 0.03 < np.mean(np.array(lengths) < max(lengths)) < 0.25


def test_pool_metadata_has_audioset_form(pool: Path) -> None:
    rows = pool_rows(pool)
    ytids = [row[0] for row in rows]
    assert len(set(ytids)) == len(ytids)
    assert all(len(ytid) == 11 and set(ytid) <= set(demo_pool.YTID_ALPHABET) for ytid in ytids)
    assert any(ytid.startswith("-") for ytid in ytids)
    audios = pool / "audios" / "balanced_train_segments"
    assert {path.name for path in audios.iterdir()} == {f"Y{ytid}.wav" for ytid in ytids}
    for ytid, start, end, _ in rows:
        assert float(end) - float(start) == pytest.approx(sf.info(audios / f"Y{ytid}.wav").duration, abs=0.001)
    text = (pool / "metadata" / "balanced_train_segments.csv").read_text(encoding="utf-8")
    labels = sum(len(row[3].split(",")) for row in rows)
    assert f"num_ytids={len(rows)}, num_segs={len(rows)}, num_unique_labels=28, num_positive_labels={labels}" in text
    assert f'{rows[0][0]}, {rows[0][1]}, {rows[0][2]}, "{rows[0][3]}"\n' in text


def test_pool_has_28_classes_and_some_second_labels(pool: Path) -> None:
    with (pool / "metadata" / "class_labels_indices.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert table[0] == {"index": "0", "mid": "/m/09x0r", "display_name": "Speech"}
    assert [row["index"] for row in table] == [str(i) for i in range(len(table))]
    labels = [row[3].split(",") for row in pool_rows(pool)]
    assert len(table) == 28
    assert Counter(label[0] for label in labels) == {row["mid"]: CLIPS for row in table}
    assert {mid for label in labels for mid in label} <= {row["mid"] for row in table}
    assert 0.05 < np.mean([len(label) == 2 for label in labels]) < 0.35
    assert all(len(set(label)) == len(label) <= 2 for label in labels)


# Determinism


def test_another_seed_gives_other_names_and_sounds(pool: Path, tmp_path: Path) -> None:
    old, new = wavs(pool), wavs(make_pool(tmp_path, seed=8, clips=1))
    assert not old.keys() & new.keys()
    assert not set(old.values()) & set(new.values())


def test_same_seed_same_clips_however_many(pool: Path, tmp_path: Path) -> None:
    make_pool(tmp_path, clips=CLIPS - 1)
    assert wavs(tmp_path).items() < wavs(pool).items()
    assert [row for row in pool_rows(pool) if f"Y{row[0]}.wav" in wavs(tmp_path)] == pool_rows(tmp_path)


def test_no_two_clips_are_the_same(pool: Path) -> None:
    data = list(wavs(pool).values())
    assert len(set(data)) == len(data)


# Errors and limits


@pytest.mark.parametrize(("seconds", "clips", "name"), [(0.49, 1, "clip_seconds"), (1.0, 0, "clips_per_class")])
def test_pool_refuses_bad_numbers(seconds: float, clips: int, name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        demo_pool.write_pool(tmp_path / "out", seed=0, clip_seconds=seconds, clips_per_class=clips)


def test_shortest_clips_are_finite_and_audible(tmp_path: Path) -> None:
    demo_pool.write_pool(tmp_path, seed=3, clip_seconds=0.5, clips_per_class=2)
    assert all(np.std(sf.read(path)[0]) > 10 ** (-55 / 20) for path in tmp_path.rglob("*.wav"))
