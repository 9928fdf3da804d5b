"""Fetching: whatever the server does, the file at its path is the right one, and nothing is fetched needlessly."""

import hashlib
import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from asdpipe.data.download import fetch as module
from asdpipe.data.download.checksums import Remote
from asdpipe.data.download.fetch import fetch
from asdpipe.errors import UserError
from tests.http_server import Server, serve

SIZE = 300_000
CONTENT = np.random.default_rng(0).bytes(SIZE)
OTHER = np.random.default_rng(1).bytes(SIZE)
MD5 = hashlib.md5(CONTENT).hexdigest()
PATH = "/records/1/files/a.zip"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(module, "LONGEST_DELAY", 0.02)


@pytest.fixture
def folder(tmp_path):
    """Return the folder that is served; it holds one file."""
    file = tmp_path / "served" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return tmp_path / "served"


def get(server: Server, tmp_path, md5: str | None = MD5, path: str = PATH, **options):
    """Fetch one file from the server and return where it is."""
    target = tmp_path / "got" / path.rpartition("/")[2]
    fetch([Remote(server.url + path, target, md5)], tmp_path / "got/checksums.json", **options)
    return target


def leftovers(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "got").iterdir())


def test_a_file_arrives_whole_and_is_not_fetched_again(folder, tmp_path):
    with serve(folder) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert leftovers(tmp_path) == ["a.zip"]
        get(server, tmp_path)
        assert server.gets() == 1 and server.sent[PATH] == SIZE


@pytest.mark.parametrize("md5", [MD5, None])
def test_after_a_dropped_connection_only_the_rest_is_transferred(folder, tmp_path, md5):
    with serve(folder, drop_after=100_000, drops=2) as server:
        assert get(server, tmp_path, md5).read_bytes() == CONTENT
        offsets = [request.range for request in server.requests if request.method == "GET"]
        assert offsets == [None, "bytes=100000-", "bytes=200000-"]
        assert server.sent[PATH] == SIZE


def test_tries_that_make_progress_are_not_counted(folder, tmp_path):
    with serve(folder, drop_after=40_000) as server:
        assert get(server, tmp_path, attempts=1).read_bytes() == CONTENT
        assert server.gets() == 8


def test_a_server_without_ranges_is_asked_for_the_whole_file_again(folder, tmp_path):
    with serve(folder, ranges=False, drop_after=100_000, drops=1) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert server.sent[PATH] == 100_000 + SIZE


def test_a_server_without_ranges_that_always_drops_is_given_up(folder, tmp_path):
    with serve(folder, ranges=False, drop_after=100_000) as server:
        with pytest.raises(UserError, match=r"a\.zip: the connection failed \(.*3 tries without progress"):
            get(server, tmp_path, attempts=3)
        assert server.gets() == 4
        assert not (tmp_path / "got/a.zip").exists()


def test_without_etag_and_checksum_pieces_are_not_put_together(folder, tmp_path):
    with serve(folder, etags=False, drop_after=100_000, drops=1) as server:
        assert get(server, tmp_path, None).read_bytes() == CONTENT
        assert {request.range for request in server.requests} == {None}


def test_a_file_that_changed_since_its_part_was_fetched_is_fetched_anew(folder, tmp_path):
    got = tmp_path / "got"
    got.mkdir()
    (got / "a.zip.part").write_bytes(OTHER[:100_000])
    (got / "a.zip.part.tag").write_text(f'"{hashlib.md5(OTHER).hexdigest()}"')
    with serve(folder) as server:
        assert get(server, tmp_path, None).read_bytes() == CONTENT
        assert [request.range for request in server.requests if request.method == "GET"] == ["bytes=100000-"]


def test_pieces_of_two_versions_are_noticed_by_the_checksum_and_fetched_as_a_whole(folder, tmp_path):
    got = tmp_path / "got"
    got.mkdir()
    (got / "a.zip.part").write_bytes(OTHER[:100_000])
    with serve(folder, etags=False) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert [request.range for request in server.requests[1:]] == ["bytes=100000-", None]


def test_a_part_that_was_complete_is_taken(folder, tmp_path):
    got = tmp_path / "got"
    got.mkdir()
    (got / "a.zip.part").write_bytes(CONTENT)
    with serve(folder) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert server.gets() == 1 and server.sent[PATH] == 0


def test_a_part_longer_than_the_file_is_thrown_away(folder, tmp_path):
    got = tmp_path / "got"
    got.mkdir()
    (got / "a.zip.part").write_bytes(CONTENT + b"more")
    (got / "a.zip.part.tag").write_text(f'"{MD5}"')
    with serve(folder) as server:
        assert get(server, tmp_path, None).read_bytes() == CONTENT
        assert [request.range for request in server.requests[1:]] == [f"bytes={SIZE + 4}-", None]


def test_a_busy_server_is_asked_again_when_it_says(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY", 60.0)
    monkeypatch.setattr(module, "LONGEST_DELAY", 60.0)
    with serve(folder, failures=1, retry_after="1") as server:
        start = time.monotonic()
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert 1 <= time.monotonic() - start < 5
        assert server.gets() == 2


@pytest.mark.parametrize(
    ("retry_after", "first_delay"),
    # A date in the past: at once. Too long: the limit. Not a time, or nothing: the usual delay.
    [("Wed, 21 Oct 2015 07:28:00 GMT", 60.0), ("86400", 60.0), ("soon", 0.01), (None, 0.01)],
)
def test_other_forms_of_retry_after(folder, tmp_path, monkeypatch, retry_after, first_delay):
    monkeypatch.setattr(module, "FIRST_DELAY", first_delay)
    monkeypatch.setattr(module, "LONGEST_DELAY", first_delay)
    monkeypatch.setattr(module, "LONGEST_RETRY_AFTER", 0.1)
    with serve(folder, failures=1, retry_after=retry_after) as server:
        start = time.monotonic()
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert time.monotonic() - start < 30
        assert server.gets() == 2


def test_a_server_that_stays_busy_is_given_up(folder, tmp_path):
    with serve(folder, failures=99) as server:
        with pytest.raises(UserError, match="503 Service Unavailable; given up after 3 tries without progress"):
            get(server, tmp_path, attempts=3)
        assert server.gets() == 3


def test_a_missing_file_is_an_error_at_once_that_names_it(folder, tmp_path):
    with serve(folder) as server:
        with pytest.raises(UserError, match=rf"{server.url}/records/2/b\.zip: the server answers 404"):
            get(server, tmp_path, path="/records/2/b.zip")
        assert server.gets() == 1
        assert leftovers(tmp_path) == []


def test_no_server_at_all_is_an_error_for_people(tmp_path):
    with pytest.raises(UserError, match=r"connection failed.*refused.*given up after 2 tries"):
        fetch([Remote("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", None)], tmp_path / "lock", attempts=2)
    with pytest.raises(UserError, match=r"nonsense/a\.zip: cannot be fetched"):
        fetch([Remote("nonsense/a.zip", tmp_path / "a.zip", None)], tmp_path / "lock", attempts=2)


def test_a_server_that_falls_silent_is_left(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (1.0, 0.2))
    with serve(folder, bytes_per_second=4000) as server, pytest.raises(UserError, match="timed out"):
        get(server, tmp_path, attempts=1)


def test_a_file_that_is_not_the_published_one_is_removed(folder, tmp_path):
    with serve(folder) as server:
        with pytest.raises(UserError) as error:
            get(server, tmp_path, "0" * 32)
        assert all(part in str(error.value) for part in (server.url + PATH, MD5, "0" * 32, "checksums: recorded"))
        assert server.gets() == 1
        assert "a.zip" not in leftovers(tmp_path) and "a.zip.part" not in leftovers(tmp_path)


def test_a_file_that_was_replaced_since_the_first_download_is_noticed_on_any_mirror(folder, tmp_path):
    with serve(folder) as server:
        get(server, tmp_path, None).unlink()
    entry = json.loads((tmp_path / "got/checksums.json").read_text())[PATH]
    assert entry == {"md5": MD5, "sha256": hashlib.sha256(CONTENT).hexdigest(), "size": SIZE}
    (folder / PATH.lstrip("/")).write_bytes(OTHER)
    with serve(folder) as mirror:
        with pytest.raises(
            UserError, match=rf"recorded at the first.*delete the line of {PATH} from .*checksums\.json"
        ):
            get(mirror, tmp_path, None)
        lines = (tmp_path / "got/checksums.json").read_text().splitlines()
        (tmp_path / "got/checksums.json").write_text("\n".join(line for line in lines if PATH not in line))
        assert get(mirror, tmp_path, None).read_bytes() == OTHER


def test_deleting_the_last_line_of_the_lock_leaves_the_others(folder, tmp_path):
    (folder / "b.csv").write_bytes(OTHER)
    lock = tmp_path / "got/checksums.json"
    with serve(folder) as server:
        get(server, tmp_path, None, "/b.csv")
        get(server, tmp_path, None)
        lock.write_text("\n".join(line for line in lock.read_text().splitlines() if PATH not in line))
        (tmp_path / "got/a.zip").unlink()
        (folder / PATH.lstrip("/")).write_bytes(OTHER)
        assert get(server, tmp_path, None).read_bytes() == OTHER
    assert set(json.loads(lock.read_text())) == {"/b.csv", PATH}


@pytest.mark.parametrize("text", ["{", "[1]", '{"/a": {"md5": 1}}', '{"/a": 3}'])
def test_a_damaged_lock_is_an_error_before_anything_is_fetched(folder, tmp_path, text):
    (tmp_path / "got").mkdir()
    (tmp_path / "got/checksums.json").write_text(text)
    with serve(folder) as server:
        with pytest.raises(UserError, match=r"checksums\.json: is not a file of checksums"):
            get(server, tmp_path)
        assert not server.requests


def test_a_content_length_that_is_too_large_does_not_hang_or_loop(folder, tmp_path):
    with serve(folder, extra_length=1000) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert server.sent[PATH] == SIZE


def test_a_content_length_that_is_too_small_is_noticed(folder, tmp_path):
    with serve(folder, extra_length=-1000) as server, pytest.raises(UserError, match="MD5 is"):
        get(server, tmp_path)


def many(server: Server, folder, tmp_path, count: int) -> list[Remote]:
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(CONTENT[number : 80_000 + number])
    return [Remote(f"{server.url}/{number}.bin", tmp_path / f"got/{number}.bin", None) for number in range(count)]


def test_files_are_fetched_side_by_side_but_not_more_than_asked(folder, tmp_path):
    with serve(folder, bytes_per_second=2e6) as server:
        files = many(server, folder, tmp_path, 9)
        fetch(files, tmp_path / "lock.json", connections=3)
        assert server.most_at_once == 3
    for number, file in enumerate(files):
        assert file.path.read_bytes() == CONTENT[number : 80_000 + number]
    assert len(json.loads((tmp_path / "lock.json").read_text())) == 9


def test_failing_files_do_not_lose_the_others_and_are_all_listed(folder, tmp_path):
    with serve(folder) as server:
        files = many(server, folder, tmp_path, 4)
        (folder / "1.bin").unlink()
        (folder / "2.bin").unlink()
        with pytest.raises(UserError, match="2 of 4 files") as error:
            fetch(files, tmp_path / "lock.json", connections=2)
        assert "/1.bin: the server answers 404" in str(error.value)
        assert "/2.bin: the server answers 404" in str(error.value)
        assert [file.path.exists() for file in files] == [True, False, False, True]


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(folder, tmp_path):
    (tmp_path / "got").write_text("a file")
    with serve(folder) as server, pytest.raises(UserError, match=r"got/a\.zip\.part: cannot be written"):
        fetch([Remote(server.url + PATH, tmp_path / "got/a.zip", None)], tmp_path / "lock.json")


def start_slow_download(server: Server, tmp_path) -> subprocess.Popen:
    """Start a process that fetches, and wait until a part of the file is there."""
    code = f"""
from pathlib import Path
from asdpipe.data.download.checksums import Remote
from asdpipe.data.download.fetch import fetch
fetch([Remote({server.url + PATH!r}, Path("got/a.zip"), None)], Path("got/checksums.json"))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    part = tmp_path / "got/a.zip.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_download_is_resumed(folder, tmp_path, how):
    with serve(folder, bytes_per_second=3e5) as server:
        process = start_slow_download(server, tmp_path)
        process.send_signal(how)
        assert process.wait(timeout=10) != 0
        got = (tmp_path / "got/a.zip.part").stat().st_size
        assert 0 < got < SIZE and not (tmp_path / "got/a.zip").exists()
        server.bytes_per_second, before = math.inf, len(server.requests)
        assert get(server, tmp_path, None).read_bytes() == CONTENT
        assert [request.range for request in server.requests[before:] if request.method == "GET"] == [f"bytes={got}-"]


def test_what_is_counted_is_what_comes_also_a_second_time(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    (folder / "big.bin").write_bytes(bytes(2_500_000))
    with serve(folder, ranges=False, drop_after=1_600_000, drops=1) as server:
        get(server, tmp_path, None, "/big.bin")
    assert "fetching: 5/5 MB" in caplog.text
