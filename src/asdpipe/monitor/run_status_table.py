"""How far runs are, as tables on a terminal."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from asdpipe.monitor.run_status import Job, Stage, Status, last_lines, read_status

STYLES = {"failed": "bold red", "silent": "yellow", "running": "bold cyan", "waiting": "dim", "done": "green"}
# Failed jobs whose logs are shown.
MOST_LOGS = 5
# In s; nothing takes so long, but a damaged file may say so.
LONGEST = 1e9


def show(results: Path, interval: float | None) -> None:
    """Print how far the runs in a folder are; with an interval again and again, in s, until Ctrl-C."""
    console = Console()
    # A pipe has 80 columns by default, too few for losses.
    console.width = console.width if console.is_terminal else 200
    if interval is None:
        console.print(tables(results, read_status(results)))
        return
    try:
        with Live(tables(results, read_status(results)), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(tables(results, read_status(results)), refresh=True)
    except KeyboardInterrupt:
        return


def tables(results: Path, status: Status) -> RenderableType:
    """Return everything that there is to show."""
    parts: list[RenderableType] = []
    if status.stages:
        parts.append(_stages(status))
    going = [job for job in status.jobs if job.state in ("running", "silent")]
    if going:
        parts.append(_jobs(results, going))
    failed = [job for job in status.jobs if job.state in ("failed", "silent")]
    for job in failed[:MOST_LOGS]:
        was_killed = job.state == "failed" and job.progress and job.progress.state == "running"
        word = "killed" if was_killed else job.state
        parts.append(Text.assemble((f"{word}: ", STYLES[job.state]), _text(job.log)))
        parts += [_text(f"  {line}", "dim") for line in last_lines(job.log)]
    if len(failed) > MOST_LOGS:
        parts.append(Text(f"and {len(failed) - MOST_LOGS} more", style=STYLES["failed"]))
    parts.append(_text(_summary(results, status)))
    return Group(*parts)


def _stages(status: Status) -> Table:
    numbers = sorted({number for stages in status.stages.values() for number in stages})
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for name in ("data set", "method", "seed", *(f"stage {number}" for number in numbers)):
        table.add_column(name)
    for seed, stages in sorted(status.stages.items()):
        cells = [_cell(stages[number]) if number in stages else Text("") for number in numbers]
        table.add_row(_text(seed.dataset), _text(seed.method), str(seed.seed), *cells)
    return table


def _cell(stage: Stage) -> Text:
    """Return the most urgent that is to be said of a stage."""
    for state in ("failed", "silent", "running", "waiting"):
        jobs = [job for job in stage.jobs if job.state == state]
        if jobs and state == "running":
            words = list(dict.fromkeys(_doing(job) for job in jobs))
        elif jobs and state == "waiting":
            done = stage.planned - len(stage.jobs)
            words = [f"waiting, {done}/{stage.planned} done" if done else "waiting"]
        else:
            words = [f"{state}: {job.rule}" for job in jobs[:1]]
        if words:
            return _text(", ".join(words), STYLES[state])
    return Text(stage.reached or "done", style=STYLES["done"] if stage.reached == "done" else "")


def _doing(job: Job) -> str:
    progress = job.progress
    if progress is None or not progress.total:
        return job.rule
    if progress.epochs:
        return f"{job.rule} {progress.epoch}/{progress.epochs}"
    return f"{job.rule} {progress.done / progress.total:.0%}"


def _jobs(results: Path, jobs: Sequence[Job]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for name in ("running", "epoch", "losses", "done", "rate", "ETA", "for", "on"):
        table.add_column(name, overflow="fold")
    for job in jobs:
        place = job.log.relative_to(results)
        where = _text(f"{place.parent.parent} {place.stem}", STYLES[job.state])
        progress = job.progress
        if job.state == "silent":
            table.add_row(where, Text(f"no sign of life for {_short(job.silence)}", style=STYLES["silent"]))
        elif progress is None:
            table.add_row(where)
        else:
            of_task = progress.total > 0
            table.add_row(
                where,
                f"{progress.epoch}/{progress.epochs}" if progress.epochs else "",
                _text(", ".join(f"{loss} {value:.3f}" for loss, value in progress.losses.items())),
                _text(f"{progress.done}/{progress.total} {progress.unit}" if of_task else ""),
                _text(f"{progress.rate:.1f} {progress.unit}/s" if of_task else ""),
                "" if progress.seconds_left is None else _short(progress.seconds_left),
                _short(time.time() - progress.started),
                _text(progress.host),
            )
    return table


def _text(words: object, style: str = "") -> Text:
    """Return text as it is, without markup; what a terminal would act on, or cannot show, is a question mark."""
    return Text("".join(each if each.isprintable() else "?" for each in str(words)), style=style)


def _short(seconds: float) -> str:
    """Return a duration as text, e.g. "3 min"."""
    if seconds > LONGEST:
        return "years"
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return str(timedelta(minutes=round(seconds / 60))).removesuffix(":00") + " h"


def _summary(results: Path, status: Status) -> str:
    """Return the last line: how many jobs there are of each kind."""
    counts: Counter[str] = Counter(job.state for job in status.jobs)
    words = {"running": "running", "silent": "without a sign of life", "failed": "failed", "waiting": "waiting"}
    known = [f"{counts[state]} {word}" for state, word in words.items() if counts[state]]
    if not status.runs:
        if not status.stages and not status.jobs:
            return f"{results}: nothing has been run yet"
        return f"{', '.join(known) or 'nothing runs here'}; Snakemake is not running, so that nothing waits"
    planned = sum(len(run.jobs) for run in status.runs)
    hosts = ", ".join(dict.fromkeys(run.host for run in status.runs))
    return f"{', '.join(known) or 'no job is left'}; of {planned} jobs that Snakemake has planned on {hosts}"
