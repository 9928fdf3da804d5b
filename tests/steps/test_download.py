"""The step download: a data set of a year from a server that holds small archives under the published names."""

import fcntl
import hashlib
import json
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from asdpipe.data.dcase.archives import Archive, archives, ground_truth_files
from asdpipe.data.dcase.years import YEARS
from asdpipe.data.download import fetch
from asdpipe.errors import UserError
from asdpipe.steps.download import download
from tests.http_server import Server, serve

BOTH = ("dev", "eval")


def write_archive(path: Path, machine: str, names: list[str], seed: int = 0) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as opened:
        for number, name in enumerate(names):
            opened.writestr(f"{machine}/{name}", np.random.default_rng([seed, number]).bytes(2000))
    return path.read_bytes()


def write_year(folder: Path, year: int) -> dict[str, Archive]:
    """Write all archives and csvs of a year as a mirror serves them."""
    found = {}
    for archive in archives(year, BOTH):
        names = [f"{place}/{number}.wav" for place in archive.folders for number in range(2)]
        write_archive(folder / archive.url_path.lstrip("/"), archive.machine, [*names, "attributes_00.csv"])
        found[archive.name] = archive
    for file in ground_truth_files(year, None, BOTH, True):
        path = folder / file.url_path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{file.path}\n")
    return found


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_DELAY", 0.01)


@pytest.fixture
def mirror(tmp_path):
    """Return the served folder; it has the whole year 2025."""
    write_year(tmp_path / "mirror", 2025)
    return tmp_path / "mirror"


def run(server: Server, tmp_path: Path, year: int = 2025, checksums: str = "published", **settings) -> dict:
    """Run the step and return the index."""
    dataset = {"year": year, "machines": None, "parts": BOTH, "revealed_attributes": True, **settings}
    mirrors = {"zenodo": server.url, "github": server.url + "/", "checksums": checksums, "attempts": 2}
    index = tmp_path / "index.json"
    download("mine", str(tmp_path / "root"), json.dumps(dataset), index, json.dumps(mirrors))
    return json.loads(index.read_text())


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("year", YEARS)
def test_a_year_is_fetched_whole_and_then_never_again(tmp_path, year):
    wanted = write_year(tmp_path / "mirror", year)
    with serve(tmp_path / "mirror") as server:
        index = run(server, tmp_path, year, "recorded")
        root = tmp_path / "root"
        assert [entry["name"] for entry in index["archives"]] == list(wanted)
        for entry in index["archives"]:
            archive = wanted[entry["name"]]
            content = (tmp_path / "mirror" / archive.url_path.lstrip("/")).read_bytes()
            assert entry["md5"] == hashlib.md5(content).hexdigest()
            assert entry["sha256"] == hashlib.sha256(content).hexdigest()
            assert entry["files"] == 2 * len(archive.folders) + 1
            for place in archive.folders:
                raw = root / f"{archive.part}_data/raw" / archive.machine
                assert sorted(path.name for path in (raw / place).iterdir()) == ["0.wav", "1.wav"]
        # What a csv says is where it should be.
        for path in index["ground_truth"]:
            assert (root / "ground_truth" / path).read_text().strip() == path
        assert not list((root / "archives").glob("*.zip"))

        before, text, asked = tree(root), (tmp_path / "index.json").read_bytes(), len(server.requests)
        (tmp_path / "index.json").unlink()
        run(server, tmp_path, year, "recorded")
        assert (tmp_path / "index.json").read_bytes() == text
        assert tree(root) == before and len(server.requests) == asked


def test_only_the_chosen_machine_types_and_parts_are_asked_for(mirror, tmp_path):
    with serve(mirror) as server:
        run(server, tmp_path, machines=["fan", "bearing", "ToyPet"], revealed_attributes=False)
        assert {path for path in server.paths() if path.endswith(".zip")} == {
            "/records/15097779/files/dev_fan.zip",
            "/records/15097779/files/dev_bearing.zip",
            "/records/15392814/files/eval_data_ToyPet_train.zip",
            "/records/15519362/files/eval_data_ToyPet_test.zip",
        }
        assert [path.rpartition("/")[2] for path in server.paths() if path.endswith(".csv")] == [
            "eval_data_list_2025.csv"
        ]
        server.requests.clear()
        index = run(server, tmp_path, machines=["fan", "valve"], parts=["dev"])
        assert server.paths() == {"/records/15097779/files/dev_valve.zip"}
        assert [entry["name"] for entry in index["archives"]] == ["dev_fan.zip", "dev_valve.zip"]


def test_published_checksums_are_checked_and_a_mirror_that_packed_anew_can_be_used(tmp_path):
    write_year(tmp_path / "mirror", 2023)
    with serve(tmp_path / "mirror") as server:
        with pytest.raises(UserError, match=r"9348591e96fb0ad499a1e33b082562fc was published.*checksums: recorded"):
            run(server, tmp_path, 2023, machines=["fan"])
        assert not (tmp_path / "root/dev_data").exists()
        index = run(server, tmp_path, 2023, "recorded", machines=["fan"])
        assert index["archives"][0]["name"] == "dev_fan.zip"


def test_what_arrived_is_not_fetched_again_because_something_else_failed(mirror, tmp_path):
    missing = mirror / "records/15097779/files/dev_valve.zip"
    content = missing.read_bytes()
    missing.unlink()
    with serve(mirror) as server:
        with pytest.raises(UserError, match=r"dev_valve\.zip: the server answers 404"):
            run(server, tmp_path, machines=["fan", "valve", "slider"])
        missing.write_bytes(content)
        server.requests.clear()
        assert len(run(server, tmp_path, machines=["fan", "valve", "slider"])["archives"]) == 3
        assert server.paths() == {"/records/15097779/files/dev_valve.zip"}


def test_a_damaged_archive_is_removed_so_that_the_next_run_fetches_it_anew(mirror, tmp_path):
    archive = mirror / "records/15097779/files/dev_fan.zip"
    content = archive.read_bytes()
    archive.write_bytes(content[:-500])
    with serve(mirror) as server:
        with pytest.raises(UserError, match=r"dev_fan\.zip: is not a whole zip.*run again to fetch it anew"):
            run(server, tmp_path, machines=["fan", "valve"])
        # The other one is not lost, and the lock does not insist on the damaged one.
        assert (tmp_path / "root/dev_data/raw/valve/train/0.wav").exists()
        archive.write_bytes(content)
        server.requests.clear()
        run(server, tmp_path, machines=["fan", "valve"])
        assert server.paths() == {"/records/15097779/files/dev_fan.zip"}


def test_a_refused_archive_is_named_and_leaves_no_clips(mirror, tmp_path):
    with zipfile.ZipFile(mirror / "records/15097779/files/dev_fan.zip", "a") as opened:
        opened.writestr(zipfile.ZipInfo("../escaped.wav"), b"x")
    with serve(mirror) as server, pytest.raises(UserError, match=r"dev_fan\.zip: entry '\.\./escaped\.wav' leads out"):
        run(server, tmp_path, machines=["fan"])
    assert not list(tmp_path.rglob("escaped.wav"))
    assert not (tmp_path / "root/dev_data").exists()


def test_an_archive_that_was_put_there_by_hand_is_unpacked_and_checked_without_fetching(tmp_path):
    (tmp_path / "empty").mkdir()
    root = tmp_path / "root/archives"
    write_archive(root / "dev_fan.zip", "fan", ["train/0.wav", "test/0.wav"])
    with serve(tmp_path / "empty") as server:
        run(server, tmp_path, machines=["fan"])
        assert not server.requests and (tmp_path / "root/dev_data/raw/fan/train/0.wav").exists()
    write_archive(tmp_path / "root2/archives/dev_fan.zip", "fan", ["train/0.wav", "test/0.wav"])
    with serve(tmp_path / "empty") as server, pytest.raises(UserError, match="was published"):
        (tmp_path / "root").rename(tmp_path / "root1")
        (tmp_path / "root2").rename(tmp_path / "root")
        run(server, tmp_path, 2023, machines=["fan"])


def test_clips_that_were_put_there_by_hand_stay_as_they_are(mirror, tmp_path):
    for place in ("train", "test"):
        path = tmp_path / f"root/dev_data/raw/fan/{place}/mine.wav"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
    with serve(mirror) as server:
        index = run(server, tmp_path, machines=["fan", "valve"])
        assert server.paths() == {"/records/15097779/files/dev_valve.zip"}
    assert index["archives"][0] == {
        "name": "dev_fan.zip",
        "record": 15097779,
        "md5": None,
        "sha256": None,
        "files": None,
    }
    assert [path.name for path in (tmp_path / "root/dev_data/raw/fan/train").iterdir()] == ["mine.wav"]


def test_a_half_finished_unpack_is_finished_from_the_archive(mirror, tmp_path):
    with serve(mirror) as server:
        run(server, tmp_path, machines=["fan"])
        # As if the process had been killed before it wrote the marker and deleted the archive.
        root = tmp_path / "root"
        (root / "archives/dev_fan.zip.done").unlink()
        (root / "archives/dev_fan.zip").write_bytes((mirror / "records/15097779/files/dev_fan.zip").read_bytes())
        (root / "dev_data/raw/fan/train/1.wav").unlink()
        server.requests.clear()
        run(server, tmp_path, machines=["fan"])
        assert not server.requests and (root / "dev_data/raw/fan/train/1.wav").exists()
        assert not (root / "archives/dev_fan.zip").exists()


def test_clips_that_were_deleted_are_fetched_again(mirror, tmp_path):
    with serve(mirror) as server:
        run(server, tmp_path, machines=["fan"])
        (tmp_path / "root/dev_data/raw/fan").rename(tmp_path / "elsewhere")
        run(server, tmp_path, machines=["fan"])
        assert (tmp_path / "root/dev_data/raw/fan/train/0.wav").exists()


def test_two_years_do_not_mix_in_one_root(mirror, tmp_path):
    write_year(tmp_path / "mirror", 2024)
    with serve(mirror) as server:
        run(server, tmp_path, machines=["fan"])
        with pytest.raises(UserError, match=r"holds another year's dev_fan\.zip; give DCASE 2024 a root of its own"):
            run(server, tmp_path, 2024, machines=["fan"])


def test_it_waits_while_another_process_fetches_into_the_same_folder(mirror, tmp_path, caplog):
    (tmp_path / "root/archives").mkdir(parents=True)
    with serve(mirror) as server, (tmp_path / "root/archives/.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=run, args=(server, tmp_path), kwargs={"machines": ["fan"]})
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive() and not server.requests
        assert "waiting for another process" in caplog.text
        fcntl.flock(other, fcntl.LOCK_UN)
        thread.join(timeout=10)
        assert (tmp_path / "index.json").exists()


@pytest.mark.parametrize("text", ["{", "3"])
def test_a_damaged_marker_is_named(mirror, tmp_path, text):
    with serve(mirror) as server:
        run(server, tmp_path, machines=["fan"])
        (tmp_path / "root/archives/dev_fan.zip.done").write_text(text)
        with pytest.raises(UserError, match=r"dev_fan\.zip\.done: is not JSON; delete it"):
            run(server, tmp_path, machines=["fan"])


@pytest.mark.parametrize("year", [None, 2019])
def test_a_year_of_the_challenge_is_needed(tmp_path, year):
    settings = {"year": year, "machines": None, "parts": BOTH, "revealed_attributes": True}
    with pytest.raises(UserError, match=r"datasets\.mine: download needs the year of the challenge, 2020 to 2025"):
        download("mine", str(tmp_path), json.dumps(settings), tmp_path / "index.json")


def test_settings_are_complete(tmp_path):
    with pytest.raises(UserError, match="machines"):
        download("mine", str(tmp_path), '{"year": 2025, "parts": ["dev"], "revealed_attributes": true}', tmp_path / "i")
