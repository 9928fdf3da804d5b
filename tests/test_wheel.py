"""The package away from its checkout: what a wheel has, asdpipe init, and asdpipe doctor where things are broken."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from asdpipe.installation import doctor
from asdpipe.provenance.code import code_digest
from tests.conftest import ROOT

# Neither the folders of a checkout that is used, nor what a source distribution leaves out.
NOT_BUILT = (".*", "results", "downloads", "build", "dist", "tests", "docs", "__pycache__", "*.egg-info")
TORCH = """
from types import SimpleNamespace
__version__ = "2.13.0+cpu"
version = SimpleNamespace(cuda=None)
cuda = SimpleNamespace(is_available=lambda: False)
"""
TORCHAUDIO = """
from pathlib import Path
if any(Path(__file__).parent.glob("lib/*.so")):
    raise OSError("libc10_cuda.so: cannot open shared object file: No such file or directory")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the wheel; it reads all other packages where they are."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*NOT_BUILT))
    # From a source distribution, so that this is whole, too.
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=folder / "tree", check=True, capture_output=True)
    with tarfile.open(next((folder / "tree/dist").iterdir())) as archive:
        archive.extractall(folder / "sdist", filter="data")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    found = folder / "venv/bin/python"
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    # A line of a .pth file is a folder; the .pth files in that folder, such as the checkout's, are not read.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    pip = [sys.executable, "-m", "pip", "--python", found, "install", *options, next((folder / "sdist").iterdir())]
    subprocess.run(pip, check=True)
    return found


def run(python: Path, *arguments: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m`` with arguments, without the checkout."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, "-m", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=inherited | environment, timeout=600
    )


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_wheel_has_the_whole_workflow_its_types_and_its_licence(python):
    (package,) = python.parents[1].glob("lib/python*/site-packages/asdpipe")
    for name in ("config", "profiles", "workflow"):
        assert names(package / "workflow_files" / name) == names(ROOT / name)
    assert os.access(package / "workflow_files/profiles/slurm/no-accounting/sacct", os.X_OK)
    assert (package / "py.typed").is_file()
    assert [*package.parent.glob("asdpipe-*.dist-info/licenses/LICENSE")]
    assert names(package) >= {name for name in names(ROOT / "src/asdpipe") if "__pycache__" not in name}


def test_a_new_project_plans_the_demo_with_the_workflow_of_the_wheel(python, tmp_path):
    done = run(python, "asdpipe", "init", "my-project", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    project = tmp_path / "my-project"
    assert f"cd {project.name} && snakemake --cores 2" in done.stdout
    assert (project / "config/config.yaml").read_text() == (ROOT / "config/config.yaml").read_text()
    for file in [*(project / "config").iterdir(), project / "Snakefile"]:
        assert not re.search(r"\.venv|\]\(\.\./", file.read_text()), f"{file} speaks of a checkout"
    plan = run(python, "snakemake", "-n", "--cores", "2", folder=project)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert re.search(r"^train +5$", plan.stdout, flags=re.M)
    assert "profiles/default for setting default" in plan.stderr
    # Packages are those of the environment of the tests, which may lie in the checkout.
    assert str(ROOT) not in (plan.stdout + plan.stderr).replace(sys.prefix, "")


def test_a_project_is_never_overwritten(python, tmp_path):
    (tmp_path / "profiles").mkdir()
    done = run(python, "asdpipe", "init", tmp_path, folder=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/profiles exists: nothing was written" in done.stderr
    assert names(tmp_path) == set()


@pytest.mark.soak
def test_the_first_jobs_of_the_demo_run_from_the_wheel(python, tmp_path):
    run(python, "asdpipe", "init", ".", folder=tmp_path)
    target = "results/demo/raw_logmel/seed0/stage1/auc.csv"
    done = run(python, "snakemake", "--cores", "2", target, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / target).is_file()
    again = run(python, "snakemake", "--cores", "2", target, folder=tmp_path)
    assert "Nothing to be done" in again.stdout + again.stderr
    # The same code digests as in a checkout: results can move between both.
    record = (tmp_path / "results/demo/raw_logmel/seed0/stage1/provenance/auc.csv.json").read_text()
    assert f'"code": "{code_digest("evaluate")}"' in record
    # What a Snakefile does at the start is done for a module, too.
    (tmp_path / "bin").mkdir()
    for name in ("bash", "which"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    refused = run(python, "snakemake", "--executor", "slurm", "--jobs", "1", folder=tmp_path, PATH=f"{tmp_path}/bin")
    assert refused.returncode != 0
    assert "sbatch is not found" in refused.stdout + refused.stderr


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return a function that stubs PyTorch and programs, and returns the variables for them."""

    def make(torch: str = TORCH, torchaudio: str = TORCHAUDIO, programs: tuple[str, ...] = ()) -> dict[str, str]:
        for name, text in (("torch", torch), ("torchaudio", torchaudio)):
            (tmp_path / "stubs" / name / "lib").mkdir(parents=True)
            (tmp_path / "stubs" / name / "__init__.py").write_text(text)
        (tmp_path / "bin").mkdir()
        for program in programs:
            (tmp_path / "bin" / program).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / "bin" / program).chmod(0o755)
        return {"PYTHONPATH": str(tmp_path / "stubs"), "PATH": str(tmp_path / "bin")}

    return make


def test_the_doctor_finds_nothing_in_a_whole_environment(python, tmp_path, environment):
    done = run(python, "asdpipe", "doctor", folder=tmp_path, **environment())
    assert done.returncode == 0, done.stdout
    assert "broken" not in done.stdout
    assert re.search(rf"^ok +asdpipe\[train\] .*pandas {metadata.version('pandas')}", done.stdout, flags=re.M)
    assert re.search(r"^ok +torch +2.13.0\+cpu imports, built for CPU", done.stdout, flags=re.M)
    assert re.search(r"^ok +SLURM +none", done.stdout, flags=re.M)


def test_the_doctor_repairs_a_torchaudio_for_another_pytorch(python, tmp_path, environment):
    variables = environment()
    extension = tmp_path / "stubs/torchaudio/lib/_torchaudio.abi3.so"
    extension.touch()
    done = run(python, "asdpipe", "doctor", folder=tmp_path, **variables)
    assert done.returncode == 1
    line = r"^broken +torchaudio +does not import: OSError: libc10_cuda.so.*\n +-> asdpipe doctor --repair$"
    assert re.search(line, done.stdout, flags=re.M)
    done = run(python, "asdpipe", "doctor", "--repair", folder=tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "moved aside" in done.stdout
    assert not extension.exists()


def test_the_doctor_says_what_pytorch_says_when_it_does_not_import(python, tmp_path, environment):
    done = run(
        python, "asdpipe", "doctor", folder=tmp_path, **environment(torch="raise ImportError('libcublas.so.12')")
    )
    assert done.returncode == 1
    assert re.search(
        r"^broken +torch +does not import: ImportError: libcublas.so.12\n +-> install", done.stdout, flags=re.M
    )


def test_the_doctor_finds_old_packages_and_a_controller_that_does_not_answer(python, tmp_path, environment):
    variables = environment(programs=("sbatch", "scontrol"))
    old = tmp_path / "stubs/pandas-2.0.0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: pandas\nVersion: 2.0.0\n")
    done = run(python, "asdpipe", "doctor", folder=tmp_path, **variables)
    assert done.returncode == 1
    assert re.search(
        r"^broken +pandas +2.0.0 is installed, .* is needed\n +-> pip install 'pandas", done.stdout, flags=re.M
    )
    assert re.search(r"^note +SLURM .*does not answer", done.stdout, flags=re.M)


def test_an_installation_that_can_neither_score_nor_train_is_broken(monkeypatch):
    asked = ["numpy>=2", "onnxruntime>=1; extra == 'runtime'", "torch>=2; extra == 'train'", "onnx; extra == 'export'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked)
    monkeypatch.setattr(doctor, "_version", {"numpy": "2.4"}.get)
    assert [(each.what, each.state) for each in doctor._packages()] == [
        ("asdpipe", "ok"),
        *((f"asdpipe[{extra}]", "broken") for extra in ("runtime", "train", "export")),
    ]
    monkeypatch.setattr(doctor, "_version", {"numpy": "2.4", "onnxruntime": "1.32"}.get)
    assert [each.state for each in doctor._packages()] == ["ok", "ok", "note", "note"]
