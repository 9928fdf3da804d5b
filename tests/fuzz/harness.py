"""Run many bad inputs in a process of their own, which has limits, and tell how each one ends.

``python -m tests.fuzz.harness FAMILY SEED FIRST LAST FOLDER`` runs the inputs FIRST to LAST of a family and prints a
line of JSON before and after each. A family is a module of tests.fuzz with ``cases``: see ``Case``.
"""

import importlib
import json
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from asdpipe.errors import UserError
from tests.conftest import ROOT

SECONDS = 10
MEGABYTES = 1000
LONGEST_MESSAGE = 3000


class Case(NamedTuple):
    """An input; whatever it raises but UserError is a failure."""

    name: str
    run: Callable[[], str]
    """Returns "success" or "skip" (a listed one)."""
    named: tuple[str, ...]
    """One of these must be in the message of a UserError: the file or the key."""


class Outcome(NamedTuple):
    """How an input ended."""

    name: str
    kind: str
    """success, skip, error (a message for people), or failure."""
    message: str = ""
    megabytes: float = 0.0
    """Peak of the process so far."""


def outcomes(family: str, count: int, folder: Path, seed: int = 0) -> list[Outcome]:
    """Return how the first inputs of a family end, and print how many ended how."""
    found: list[Outcome] = []
    while len(found) < count:
        command = [sys.executable, "-m", "tests.fuzz.harness", family, *map(str, (seed, len(found), count, folder))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found += [Outcome(**line["end"]) for line in lines if "end" in line]
        if done.returncode:
            begun = lines[-1].get("begin", "none") if lines else "none"
            how = signal.Signals(-done.returncode).name if done.returncode < 0 else str(done.returncode)
            found.append(Outcome(begun, "failure", f"the process ended with {how}: {done.stderr[-2000:]}"))
        elif "Traceback" in done.stderr:
            found[-1] = Outcome("somewhere", "failure", done.stderr[-3000:])
    counts = Counter(each.kind for each in found)
    peak = max(each.megabytes for each in found)
    print(f"{family}: {len(found)} inputs, {dict(counts)}, peak {peak:.0f} MB")
    return found


def check(found: list[Outcome]) -> None:
    """Fail if an input failed or took too much memory."""
    failures = [each for each in found if each.kind == "failure"]
    listed = "\n".join(f"{each.name}: {each.message}" for each in failures[:10])
    assert not failures, f"{len(failures)} of {len(found)} inputs failed:\n{listed}"
    most = max(found, key=lambda each: each.megabytes)
    assert most.megabytes < MEGABYTES, f"{most.megabytes:.0f} MB after {most.name}"


def _run(case: Case) -> Outcome:
    # Time of the processor, in user code and system: others may keep this process waiting.
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        kind, message = case.run(), ""
    except UserError as error:
        kind, message = "error", str(error)
        if not any(each in message for each in case.named):
            kind, message = "failure", f"names none of {case.named}: {message}"
        elif "\n\n" in message or len(message) > LONGEST_MESSAGE or "Traceback" in message:
            kind, message = "failure", f"is no paragraph: {message[:LONGEST_MESSAGE]}"
    except MemoryError as error:
        kind, message = "failure", f"memory: {error}"
    except Exception as error:
        kind, message = "failure", f"{type(error).__name__}: {error}"[:1000] + f" at {_place(error)}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    return Outcome(case.name, kind, message, _peak_megabytes())


def _peak_megabytes() -> float:
    """Return the largest memory of this program; getrusage would count that of the process that started it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def _place(error: BaseException) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        place += f" {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _limit_memory() -> None:
    """Let what is allocated beyond what the imports took fail above the limit, also where it is never touched."""
    status = Path("/proc/self/status")
    if status.is_file():
        data = next(line for line in status.read_text().splitlines() if line.startswith("VmData:"))
        most = int(data.split()[1]) * 1024 + MEGABYTES * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def main(family: str, seed: int, first: int, last: int, folder: Path) -> None:
    """Run inputs, a line before and a line after each."""
    cases: Callable[[int, int, int, Path], Iterator[Case]] = importlib.import_module(f"tests.fuzz.{family}").cases
    warnings.simplefilter("error", RuntimeWarning)
    _limit_memory()
    for case in cases(seed, first, last, folder):
        print(json.dumps({"begin": case.name}), flush=True)
        start = time.monotonic()
        outcome = _run(case)
        print(json.dumps({"end": outcome._asdict(), "seconds": round(time.monotonic() - start, 3)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5]))
