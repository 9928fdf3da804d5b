"""Checks of an installation: what is there, what is missing or broken, and what to do."""

import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# What an extra is for, and the packages that tell that it is wanted: other programs install the rest of it, too.
EXTRAS = {
    "runtime": ("scoring with bundles", ("onnxruntime",)),
    "train": ("training, and scoring with trained stages", ("torch", "snakemake")),
    "export": ("writing bundles", ("onnx",)),
}
# Free bytes: below the first nothing can be relied on; the demo needs the second.
TOO_LITTLE, ENOUGH = 200_000_000, 1_000_000_000
# Seconds. An import from a busy network disk takes minutes.
IMPORT_TIMEOUT, SLURM_TIMEOUT = 300, 5
TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
gpus = [torch.cuda.get_device_properties(number) for number in range(count)]
found = [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": found}))
"""


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    state: Literal["ok", "note", "broken"]
    said: str
    remedy: str = ""
    """What to do; empty: nothing."""


def findings() -> Iterator[Finding]:
    """Yield what is found, broken or not; imports PyTorch in processes of their own, which takes seconds."""
    yield _python()
    yield from _packages()
    if importlib.util.find_spec("soundfile") is not None:
        yield _import("soundfile", "install libsndfile with your system's packages, then soundfile again")
    if importlib.util.find_spec("torch") is not None:
        yield from _torch()
    if importlib.util.find_spec("torchaudio") is not None:
        yield _import("torchaudio", "asdpipe doctor --repair")
    yield _disk("results", Path.cwd())
    yield _disk("temporary files", Path(tempfile.gettempdir()))
    yield _slurm()


def _python() -> Finding:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    said = f"{version}, {sys.executable}"
    try:
        needed = metadata.metadata("asdpipe")["Requires-Python"]
    except metadata.PackageNotFoundError:
        return Finding("Python", "ok", said)
    if SpecifierSet(needed).contains(version, prereleases=True):
        return Finding("Python", "ok", said)
    return Finding("Python", "broken", said, f"use Python {needed}")


def _packages() -> Iterator[Finding]:
    """Compare the installed versions with those that the package asks for, by extra."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(text) for text in metadata.requires("asdpipe") or []]
    except metadata.PackageNotFoundError:
        said = "asdpipe runs from a checkout and is not installed, so versions are not checked"
        yield Finding("packages", "note", said, "compare them with environment.yml")
        return
    found = {extra: [each for each in asked if _belongs(each, extra)] for extra in ("", *EXTRAS)}
    wanted = {extra: not extra or any(map(_version, EXTRAS[extra][1])) for extra in found}
    for extra, requirements in found.items():
        if not requirements:
            continue
        what = f"asdpipe[{extra}]" if extra else "asdpipe"
        if not wanted[extra]:
            needed = not (wanted["runtime"] or wanted["train"])
            said = f"not installed: {EXTRAS[extra][0]}"
            yield Finding(
                what, "broken" if needed else "note", said, f"if you want that: pip install 'asdpipe[{extra}]'"
            )
            continue
        wrong = [each for each in requirements if not _fits(each)]
        if not wrong:
            versions = ", ".join(f"{each.name} {_version(each.name)}" for each in requirements)
            yield Finding(what, "ok", versions if extra else f"{_version('asdpipe')}, with {versions}")
        for each in wrong:
            version = _version(each.name)
            said = f"{version} is installed, {each.specifier} is needed" if version else "is not installed"
            yield Finding(each.name, "broken", said, f"pip install '{each.name}{each.specifier}'")


def _belongs(requirement: "Requirement", extra: str) -> bool:
    """Tell whether a requirement is one of an extra, or ("") of every installation, on this machine."""
    if requirement.name == "asdpipe":
        return False
    if requirement.marker is None:
        return not extra
    always = requirement.marker.evaluate({"extra": ""})
    return always if not extra else requirement.marker.evaluate({"extra": extra}) and not always


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(requirement: "Requirement") -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _run(code: str) -> tuple[str, str]:
    """Run code in a fresh interpreter; return its last line of output and, if it failed, of what it said."""
    try:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=IMPORT_TIMEOUT)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {IMPORT_TIMEOUT} s"
    last = [(text.strip().splitlines() or [""])[-1] for text in (done.stdout, done.stderr)]
    return last[0], (last[1] or f"ended with code {done.returncode}") if done.returncode else ""


def _import(name: str, remedy: str) -> Finding:
    error = _run(f"import {name}")[1]
    return Finding(name, "broken", f"does not import: {error}", remedy) if error else Finding(name, "ok", "imports")


def _torch() -> Iterator[Finding]:
    """Check that PyTorch imports, and which GPUs it sees."""
    answer, error = _run(TORCH)
    if error:
        remedy = "install the PyTorch of your machine (CPU, or your driver's CUDA) again"
        yield Finding("torch", "broken", f"does not import: {error}", remedy)
        return
    found = json.loads(answer)
    build = f"CUDA {found['cuda']}" if found["cuda"] else "CPU"
    yield Finding("torch", "ok", f"{found['version']} imports, built for {build}")
    if found["gpus"]:
        yield Finding("GPU", "ok", "; ".join(found["gpus"]))
    elif shutil.which("nvidia-smi") or any(Path("/dev").glob("nvidia[0-9]*")):
        said = f"there is one, but this PyTorch, built for {build}, does not see it: everything runs on the CPU"
        yield Finding("GPU", "note", said, "install the PyTorch of your driver's CUDA, or a newer driver")
    else:
        yield Finding("GPU", "ok", "none: everything runs on the CPU, which is enough for the demo")


def _disk(what: str, folder: Path) -> Finding:
    """Check that a folder can be written, and how much is free."""
    free = shutil.disk_usage(folder).free
    said = f"{folder}: {free / 1e9:.1f} GB free"
    other = "--directory FOLDER" if what == "results" else "TMPDIR"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(65536))
    except OSError as error:
        return Finding(what, "broken", f"{folder}: cannot be written ({error.strerror})", f"another folder: {other}")
    if free < TOO_LITTLE:
        return Finding(what, "broken", said, f"make room, or take another folder: {other}")
    if free < ENOUGH:
        return Finding(what, "note", f"{said}, too little for the demo", f"make room, or take another folder: {other}")
    return Finding(what, "ok", said)


def _slurm() -> Finding:
    """Check whether SLURM takes jobs: Snakemake asks its controller whenever it starts."""
    if shutil.which("sbatch") is None:
        return Finding("SLURM", "ok", "none: jobs run on this machine")
    try:
        # The executor asks the same.
        command = ["scontrol", "show", "config"]
        answers = subprocess.run(command, capture_output=True, check=False, timeout=SLURM_TIMEOUT).returncode == 0
    except (subprocess.TimeoutExpired, OSError):
        answers = False
    if not answers:
        said = (
            "sbatch is there, but the controller does not answer: snakemake may wait ten seconds for it at each start"
        )
        remedy = "start it (sinfo says more); without SLURM: pip uninstall snakemake-executor-plugin-slurm"
        return Finding("SLURM", "note", said, remedy)
    if _version("snakemake-executor-plugin-slurm") is None:
        return Finding("SLURM", "note", "the executor is not installed", "pip install snakemake-executor-plugin-slurm")
    return Finding("SLURM", "ok", "the controller answers: snakemake --workflow-profile profiles/slurm")
