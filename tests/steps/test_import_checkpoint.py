"""The step import_checkpoint: local files, and files of a server that misbehaves."""

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch

from asdpipe.artifacts.files import file_digest
from asdpipe.data.download import fetch
from asdpipe.errors import UserError
from asdpipe.models.build import build_extractor
from asdpipe.models.layouts import NUM_SAMPLES
from asdpipe.models.pretrained import load_pretrained
from asdpipe.steps.import_checkpoint import import_checkpoint
from tests.http_server import serve
from tests.models.checkpoints import NETWORKS, official_audio_mae, official_beats, official_ced, saved

URL = "{huggingface}/somebody/ced/resolve/main/model.safetensors"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_DELAY", 0.01)


def run(tmp_path: Path, layout: str, file: Path | None = None, mirror: str = "", **settings) -> tuple[Path, dict]:
    """Run the step; return the weights and the description."""
    stated = {"layout": layout, "fine_tuned": False, "url": None, "sha256": None, **settings}
    weights, description = tmp_path / "weights.safetensors", tmp_path / "description.json"
    mirrors = json.dumps({"huggingface": mirror + "/", "attempts": 2})
    import_checkpoint("mine", str(tmp_path / "downloads"), json.dumps(stated), weights, description, file, mirrors)
    return weights, json.loads(description.read_text())


@pytest.fixture
def mirror(tmp_path):
    """Return the file that a server has at the address."""
    path = tmp_path / "mirror/somebody/ced/resolve/main/model.safetensors"
    path.parent.mkdir(parents=True)
    safetensors.torch.save_file(official_ced(), path)
    return path


def test_a_local_file_becomes_weights_that_its_network_adopts(tmp_path):
    file = saved(official_beats(), tmp_path / "official.pt")
    weights, description = run(tmp_path, "beats", file)
    extractor = build_extractor(NETWORKS["beats"], num_samples=NUM_SAMPLES)
    assert description == {
        "layout": "beats",
        "fine_tuned": False,
        "network": NETWORKS["beats"],
        "parameters": sum(value.numel() for value in extractor.parameters()),
        "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    load_pretrained(extractor, weights, description["network"])
    before = weights.read_bytes()
    run(tmp_path, "beats", file)
    assert weights.read_bytes() == before


def test_pretrained_and_fine_tuned_files_are_not_mixed_up(tmp_path):
    for layout, official in (("beats", official_beats), ("audio_mae", official_audio_mae)):
        for fine_tuned in (False, True):
            file = saved(official(fine_tuned), tmp_path / "official.pt")
            assert run(tmp_path, layout, file, fine_tuned=fine_tuned)[1]["fine_tuned"] is fine_tuned
            said = "is fine-tuned .it has '.*checkpoints.mine.fine_tuned is false: give the pre-trained file"
            if not fine_tuned:
                said = "is not fine-tuned .*checkpoints.mine.fine_tuned is true: give a fine-tuned file"
            with pytest.raises(UserError, match=rf"official.pt: {said}"):
                run(tmp_path, layout, file, fine_tuned=not fine_tuned)


def test_a_file_with_another_digest_than_stated_is_refused(tmp_path):
    file = saved(official_beats(), tmp_path / "official.pt")
    run(tmp_path, "beats", file, sha256=file_digest(file))
    with pytest.raises(UserError, match=rf"SHA-256 is {file_digest(file)}, not 0000.*checkpoints.mine.sha256"):
        run(tmp_path, "beats", file, sha256="0" * 64)
    assert file.exists()


def test_a_file_is_fetched_once_and_verified_afterwards(tmp_path, mirror):
    with serve(tmp_path / "mirror") as server:
        weights, description = run(tmp_path, "ced", mirror=server.url, url=URL, fine_tuned=True)
        assert description["source_sha256"] == file_digest(mirror)
        first, asked = weights.read_bytes(), len(server.requests)
        weights.unlink()
        run(tmp_path, "ced", mirror=server.url, url=URL, fine_tuned=True)
        assert (weights.read_bytes(), len(server.requests)) == (first, asked)

        # What was fetched is damaged since, and then the server has another file.
        kept = tmp_path / "downloads/model.safetensors"
        data = bytearray(kept.read_bytes())
        data[-1] ^= 1
        kept.write_bytes(data)
        with pytest.raises(UserError, match=r"was recorded at the first download; the file was removed"):
            run(tmp_path, "ced", mirror=server.url, url=URL, fine_tuned=True)
        assert not kept.exists()
        mirror.write_bytes(data)
        with pytest.raises(UserError, match=r"was recorded at the first download.*delete the line of /somebody/ced"):
            run(tmp_path, "ced", mirror=server.url, url=URL, fine_tuned=True)


def test_an_interrupted_download_continues(tmp_path, mirror):
    half = mirror.stat().st_size // 2
    with serve(tmp_path / "mirror", drop_after=half) as server:
        server.drops = 1
        run(tmp_path, "ced", mirror=server.url, url=URL, fine_tuned=True)
        assert [each.range for each in server.requests if each.method == "GET"] == [None, f"bytes={half}-"]
        assert server.bytes_sent == mirror.stat().st_size


def test_a_download_with_another_digest_than_stated_is_removed_and_may_be_fetched_again(tmp_path, mirror):
    digest = file_digest(mirror)
    with serve(tmp_path / "mirror") as server:
        with pytest.raises(UserError, match=r"SHA-256 is .*the file was removed.*checkpoints.mine.sha256"):
            run(tmp_path, "ced", mirror=server.url, url=URL, fine_tuned=True, sha256="0" * 64)
        assert not (tmp_path / "downloads/model.safetensors").exists()
        run(tmp_path, "ced", mirror=server.url, url=URL, fine_tuned=True, sha256=digest)


def test_what_cannot_be_fetched_is_named(tmp_path, mirror):
    with serve(tmp_path / "mirror") as server, pytest.raises(UserError, match=r"somewhere.*the server answers 404"):
        run(tmp_path, "ced", mirror=server.url, url="{huggingface}/somewhere.safetensors", fine_tuned=True)
    with pytest.raises(UserError, match=r"checkpoints.mine.file is not set"):
        run(tmp_path, "ced")
