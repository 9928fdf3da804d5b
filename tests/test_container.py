"""The Containerfile: its instructions; built and run where there is a builder."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Instructions of the Containerfile, with their arguments; a line that ends with a backslash goes on.
CONTAINER = re.findall(r"^([A-Z]+) (.+)$", (ROOT / "Containerfile").read_text().replace("\\\n", " "), flags=re.M)


def test_the_container_copies_all_that_the_wheel_is_built_from():
    copied = {name for kind, value in CONTAINER if kind == "COPY" for name in value.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    built = re.search(r"WORKFLOW = \((.*)\)", (ROOT / "setup.py").read_text())
    assert built
    assert copied >= set(re.findall(r'"([\w.]+)"', built[1])) | {
        "src",
        "pyproject.toml",
        "setup.py",
        "README.md",
        "LICENSE",
    }
    # What the builder may read is the same.
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == copied


def test_the_container_installs_the_lock_and_runs_as_no_root():
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}
    assert {kind for kind, _ in CONTAINER} <= known
    assert [kind for kind, _ in CONTAINER].index("FROM") == 1
    installs = [value for kind, value in CONTAINER if kind == "RUN" and "pip install" in value]
    assert all("--constraint constraints.txt" in value for value in installs)
    torch = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())["torch"]
    assert installs[0].endswith(f" torch=={torch}")
    assert dict(CONTAINER)["USER"].split(":")[0] not in ("0", "root")
    for kind, value in CONTAINER:
        if kind == "RUN":
            subprocess.run(["bash", "-n", "-c", value], check=True)


@pytest.mark.soak
def test_a_container_is_built_and_starts_a_project(tmp_path: Path):
    for builder in ("docker", "podman"):
        image = ["python:3.11-slim"]
        if (
            shutil.which(builder)
            and not subprocess.run([builder, "image", "inspect", *image], capture_output=True, check=False).returncode
        ):
            break
    else:
        pytest.skip("neither docker nor podman has the image python:3.11-slim here: nothing can be built")
    tag = "asdpipe-test"
    subprocess.run([builder, "build", "--file", "Containerfile", "--tag", tag, "."], cwd=ROOT, check=True)
    tmp_path.chmod(0o777)
    start = [builder, "run", "--rm", "--volume", f"{tmp_path}:/project", tag]
    subprocess.run([*start, "asdpipe", "init", "."], check=True)
    done = subprocess.run([*start, "snakemake", "-n", "--cores", "2"], check=True, capture_output=True, text=True)
    assert re.search(r"^train +5$", done.stdout, flags=re.M)
