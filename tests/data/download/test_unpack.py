"""Unpacking: what is right appears whole, and what is wrong leaves no trace."""

import shutil
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from asdpipe.data.download import unpack as module
from asdpipe.data.download.unpack import DamagedArchive, unpack
from asdpipe.errors import UserError

NOISE = np.random.default_rng(0).bytes(5000)


def pack(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CLIPS = {f"fan/{split}/section_00_{number}.wav": NOISE[number:] for split in ("train", "test") for number in range(3)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_clips_and_csvs_appear_below_the_machine_type(tmp_path, method):
    entries = CLIPS | {"fan/attributes_00.csv": b"file_name\n", "fan/supplemental/a.wav": NOISE}
    archive = pack(tmp_path / "dev_fan.zip", {"fan/": b"", "fan/train/": b"", **entries}, method)
    assert unpack(archive, tmp_path / "raw", "fan") == 8
    assert tree(tmp_path / "raw") == entries
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["fan"]
    assert archive.exists()


def test_train_and_test_of_one_machine_type_come_from_two_archives(tmp_path):
    train = {name: content for name, content in CLIPS.items() if "train" in name}
    test = {name: content for name, content in CLIPS.items() if "test" in name}
    unpack(pack(tmp_path / "a.zip", train), tmp_path / "raw", "fan")
    # An empty folder must not take the place of a full one.
    unpack(pack(tmp_path / "b.zip", {"fan/train/": b"", **test}), tmp_path / "raw", "fan")
    assert tree(tmp_path / "raw") == CLIPS


def test_a_half_finished_unpack_is_replaced(tmp_path):
    for name in ("raw/fan/train/old.wav", "raw/.dev_fan.zip/fan/train/old.wav", "raw/fan/test/old.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"old")
    (tmp_path / "raw/fan/notes.txt").write_bytes(b"kept")
    unpack(pack(tmp_path / "dev_fan.zip", CLIPS), tmp_path / "raw", "fan")
    assert tree(tmp_path / "raw") == CLIPS | {"fan/notes.txt": b"kept"}


def test_what_macos_adds_is_left_out(tmp_path):
    junk = {"__MACOSX/fan/train/._a.wav": b"x", ".DS_Store": b"x", "fan/.DS_Store": b"x", "fan/train/._a.wav": b"x"}
    assert unpack(pack(tmp_path / "a.zip", CLIPS | junk), tmp_path / "raw", "fan") == len(CLIPS)
    assert tree(tmp_path / "raw") == CLIPS


def refused(tmp_path: Path, archive: Path, match: str, kind: type[UserError] = UserError) -> None:
    """Check that the archive is refused by name, and that what was there before is as it was."""
    before = tmp_path / "raw/fan/train/mine.wav"
    before.parent.mkdir(parents=True)
    before.write_bytes(b"mine")
    outside = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(kind, match=match) as error:
        unpack(archive, tmp_path / "raw", "fan")
    assert str(archive) in str(error.value)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == outside
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["fan"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("fan/../../escaped.wav", "leads out"),
        ("../escaped.wav", "leads out"),
        ("fan/train/..", "leads out"),
        ("/fan/train/a.wav", "absolute"),
        ("C:/fan/a.wav", "drive letter"),
        ("fan/train/C:a.wav", "drive letter"),
        ("fan\\train\\a.wav", "backslash"),
        ("fan/train/a\n.wav", "control"),
        ("fan/train/a\x1b[31m.wav", "control"),
        ("fan/./a.wav", "empty parts"),
        ("fan//a.wav", "empty parts"),
        ("fan", "in the place of fan/"),
        ("pump/train/a.wav", "not below fan/"),
        ("Fan/train/a.wav", "not below fan/"),
        ("README.txt", "not below fan/"),
    ],
)
def test_names_that_do_not_belong_are_refused(tmp_path, name, problem):
    archive = pack(tmp_path / "bad.zip", CLIPS | {name: NOISE})
    refused(tmp_path, archive, rf"bad\.zip: entry .*{problem}")


def test_a_name_with_a_null_byte_is_refused(tmp_path):
    archive = pack(tmp_path / "bad.zip", CLIPS | {"fan/train/aXb.wav": NOISE})
    archive.write_bytes(archive.read_bytes().replace(b"aXb.wav", b"a\0b.wav"))
    refused(tmp_path, archive, "control")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path, kind):
    archive = pack(tmp_path / "bad.zip", CLIPS)
    with zipfile.ZipFile(archive, "a") as opened:
        info = zipfile.ZipInfo("fan/train/link.wav")
        info.external_attr = (kind | 0o777) << 16
        opened.writestr(info, "/etc/passwd")
    refused(tmp_path, archive, r"entry 'fan/train/link\.wav' is a link or a special file")


def test_encrypted_entries_are_refused(tmp_path):
    archive = pack(tmp_path / "bad.zip", CLIPS)
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    archive.write_bytes(content)
    refused(tmp_path, archive, "is encrypted")


def test_other_compressions_are_refused(tmp_path):
    refused(tmp_path, pack(tmp_path / "bad.zip", CLIPS, zipfile.ZIP_LZMA), "compressed in a way")


@pytest.mark.parametrize(
    "again", ["fan/train/section_00_0.wav", "fan/train/SECTION_00_0.wav", "fan/Train/b.wav", "fan/train", "fan/TEST"]
)
def test_names_that_are_there_twice_are_refused(tmp_path, again):
    path = pack(tmp_path / "bad.zip", CLIPS)
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "a") as opened:
        opened.writestr(zipfile.ZipInfo(again), NOISE)
    refused(tmp_path, path, "is there twice")


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    archive = pack(tmp_path / "bad.zip", {"fan/train/a.wav": bytes(20_000_000)}, zipfile.ZIP_DEFLATED)
    refused(tmp_path, archive, "would unpack to 20000000 bytes")


def test_entries_that_share_their_bytes_are_no_way_around_the_ratio(tmp_path):
    archive = pack(tmp_path / "bad.zip", {"fan/train/00000.wav": 10 * NOISE})
    with zipfile.ZipFile(archive) as opened:
        start = opened.start_dir
    content = archive.read_bytes()
    entry = content[start : content.index(b"PK\x05\x06")]
    entries = b"".join(entry.replace(b"00000", b"%05d" % number) for number in range(2000))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2000, 2000, len(entries), start, 0)
    archive.write_bytes(content[:start] + entries + end)
    refused(tmp_path, archive, "would unpack to 100000000 bytes")


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_ENTRIES", 5)
    refused(tmp_path, pack(tmp_path / "bad.zip", CLIPS), "has 6 entries")


def test_too_little_room_is_said_before_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 29_000, 29_000))
    refused(tmp_path, pack(tmp_path / "big.zip", CLIPS), "needs 29994 bytes below .*raw, but 29000 are free")


def test_an_archive_without_files_is_refused(tmp_path):
    refused(tmp_path, pack(tmp_path / "bad.zip", {"fan/": b"", ".DS_Store": b""}), "holds no file below fan/")


@pytest.mark.parametrize("what", ["truncated", "html", "empty", "crc", "directory", "before the beginning"])
def test_damaged_archives_are_told_from_refused_ones(tmp_path, what):
    archive = pack(tmp_path / "bad.zip", CLIPS)
    content = archive.read_bytes()
    archive.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "html": b"<html>Busy</html>",
            "empty": b"",
            # In the clip that is read last.
            "crc": content.replace(NOISE[2:], NOISE[2:-1] + b"?"),
            "directory": content.replace(b"PK\x01\x02", b"PK\x01\x03", 1),
            # The size and the place of the listing, in the last 22 bytes.
            "before the beginning": content[:-10] + struct.pack("<IIH", 2**31, 0, 0),
        }[what]
    )
    refused(tmp_path, archive, "is not a whole zip", DamagedArchive)
