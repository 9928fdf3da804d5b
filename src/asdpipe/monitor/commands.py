"""Commands for new recordings; their functions import what they need, so that help starts at once."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def score(
    model: Annotated[
        Path, typer.Argument(help="Folder of a stage, or of a run with all its seeds: results/DATASET/METHOD.")
    ],
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Audio files, and folders with audio files; none with --watch.")
    ] = None,
    machine: Annotated[str | None, typer.Option(help="Their machine type, where the folders do not say it.")] = None,
    hop: Annotated[
        float | None, typer.Option(help="Score windows that begin every so many seconds; the highest score counts.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the rows to this csv.")] = None,
    jsonl: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the rows to this file.")] = None,
    stage: Annotated[int | None, typer.Option(help="Of a run; the last that all seeds have finished.")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(envvar="ASDPIPE_DEVICE", help="Where to run; auto: a GPU if there is one."),
    ] = "auto",
    fail_on_alarm: Annotated[
        bool, typer.Option("--fail-on-alarm", help="Exit with code 3 if a score is above its limit.")
    ] = False,
    watch: Annotated[
        Path | None,
        typer.Option(help="Score the recordings that arrive in this folder, until stopped; rows go to --csv, --jsonl."),
    ] = None,
    interval: Annotated[
        float, typer.Option(min=0.05, help="With --watch: seconds between two looks at the folder.")
    ] = 2.0,
) -> None:
    """Score new recordings with a trained stage, the most anomalous first."""
    if (watch is None) is (not recordings):
        raise typer.BadParameter("give recordings, or --watch FOLDER")
    if watch is not None and csv is None and jsonl is None:
        raise typer.BadParameter("--watch needs --csv FILE or --jsonl FILE for the rows")
    if watch is not None:
        from asdpipe.monitor.watch import watch_folder

        alarms = watch_folder(model, watch, csv, jsonl, interval, machine, hop, device, stage)
    else:
        from asdpipe.monitor import command

        rows = command.score(model, recordings or [], machine, hop, device, stage)
        command.show(rows)
        if csv is not None:
            command.write_csv(rows, csv)
        if jsonl is not None:
            command.write_jsonl(rows, jsonl)
        alarms = sum(map(command.is_alarm, rows))
    if fail_on_alarm and alarms:
        raise typer.Exit(3)


ALL = (score,)
"""In the order of ``asdpipe --help``."""
