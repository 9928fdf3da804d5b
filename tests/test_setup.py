"""Set-up: one set of versions everywhere, and a torchaudio that imports."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from asdpipe.errors import UserError
from asdpipe.installation.torchaudio_repair import repair
from tests.conftest import ROOT


def asked(*extras: str) -> dict[str, SpecifierSet]:
    """Return the ranges of versions of the project with some extras, and with those that they include."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    for extra in extras:
        for each in map(Requirement, project["optional-dependencies"][extra]):
            found |= asked(*each.extras) if each.name == "asdpipe" else {each.name: each.specifier}
    return found


def locked() -> dict[str, str]:
    """Return the versions that ``make setup`` installs, by name in lower case."""
    return dict(line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split())


def test_the_lock_has_a_version_within_every_range():
    versions = locked()
    for name, specifier in asked("dev").items():
        assert specifier.contains(versions[name.lower()]), name


def test_the_wheel_pins_nothing_and_knows_where_untested_versions_begin():
    for name, specifier in asked("export").items():
        operators = {each.operator for each in specifier}
        assert "==" not in operators, name
        assert ">=" in operators, name
        lower = next(each.version for each in specifier if each.operator == ">=")
        # What is older than the lock has not been tried.
        assert Version(lower).release == Version(locked()[name.lower()]).release[: len(Version(lower).release)], name


def test_conda_has_the_versions_of_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(line.split("==") for line in environment[-1]["pip"])
    assert conda.items() <= {name: locked()[name.lower()] for name in asked("dev")}.items()
    assert asked("export").keys() <= conda.keys()


def test_set_up_installs_pytorch_first_and_pinned_as_the_lock():
    commands = re.findall(r"pip install .*", (ROOT / "Makefile").read_text())
    assert all("--constraint constraints.txt" in command for command in commands)
    assert commands[0].endswith(f"torch=={locked()['torch']}")


def test_a_bundle_needs_few_packages():
    assert asked("runtime").keys() == {
        "numpy",
        "onnxruntime",
        "packaging",
        "rich",
        "soundfile",
        "soxr",
        "tqdm",
        "typer",
    }
    assert asked("train").keys() | asked("runtime").keys() | {"onnx", "onnxscript"} == asked("export").keys()


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
    with pytest.raises(UserError, match="another reason"):
        repair(package, works=lambda: False)
    assert (package / "lib/_torchaudio.abi3.so").is_file()


def test_torchaudio_imports_here():
    import torchaudio

    assert torchaudio.functional.phase_vocoder
