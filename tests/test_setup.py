"""Set-up: one set of versions everywhere, and a torchaudio that imports."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tools.repair_torchaudio import repair


def pins(*extras: str) -> dict[str, str]:
    """Return the versions of the project with some extras, and with those that they include."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = dict(line.split("==") for line in project["dependencies"])
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            included = re.fullmatch(r"asdpipe\[([\w,]+)\]", line)
            found |= pins(*included[1].split(",")) if included else [line.split("==")]
    return found


def test_constraints_and_conda_have_the_versions_of_the_project():
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(line.split("==") for line in environment[-1]["pip"])
    for name, version in pins("dev").items():
        assert {key.lower(): value for key, value in constraints.items()}[name.lower()] == version
    assert pins("export").items() <= conda.items() <= pins("dev").items()


def test_a_bundle_needs_few_packages():
    assert pins("runtime").keys() == {"numpy", "onnxruntime", "rich", "soundfile", "soxr", "tqdm", "typer"}
    assert pins("train").keys() | pins("runtime").keys() | {"onnx", "onnxscript"} == pins("export").keys()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/_torchaudio.abi3.so").write_bytes(b"needs libc10_cuda")
    return tmp_path


def test_a_torchaudio_that_imports_is_left_alone(package):
    assert "nothing to repair" in repair(package, works=lambda: True)
    assert (package / "lib/_torchaudio.abi3.so").is_file()


def test_the_extension_is_moved_aside_where_it_does_not_load(package):
    extension = package / "lib/_torchaudio.abi3.so"
    assert "moved aside" in repair(package, works=lambda: not extension.exists())
    assert not extension.exists()


def test_another_failure_changes_nothing_and_says_so(package):
    with pytest.raises(SystemExit, match="another reason"):
        repair(package, works=lambda: False)
    assert (package / "lib/_torchaudio.abi3.so").is_file()


def test_torchaudio_imports_here():
    import torchaudio

    assert torchaudio.functional.phase_vocoder
