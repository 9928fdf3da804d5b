"""Set-up: one set of versions everywhere, and a torchaudio that imports."""

import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tools.repair_torchaudio import repair


def pins() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["dev"]
    return dict(line.split("==") for line in lines)


def test_constraints_and_conda_have_the_versions_of_the_project():
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(line.split("==") for line in environment[-1]["pip"])
    runtime = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for name, version in pins().items():
        assert {key.lower(): value for key, value in constraints.items()}[name.lower()] == version
    assert {f"{name}=={version}" for name, version in conda.items()} >= set(runtime)
    assert conda.items() <= pins().items()


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
