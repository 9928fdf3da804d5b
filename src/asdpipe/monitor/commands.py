"""Commands for new recordings; their functions import what they need, so that help starts at once."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def score(
    model: Annotated[
        Path, typer.Argument(help="Folder of a stage, or of a run with all its seeds: results/DATASET/METHOD.")
    ],
    recordings: Annotated[list[Path], typer.Argument(help="Audio files, and folders with audio files.")],
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
) -> None:
    """Score new recordings with a trained stage, the most anomalous first."""
    from asdpipe.monitor import command

    rows = command.score(model, recordings, machine, hop, device, stage)
    command.show(rows)
    if csv is not None:
        command.write_csv(rows, csv)
    if jsonl is not None:
        command.write_jsonl(rows, jsonl)
    if fail_on_alarm and any(map(command.is_alarm, rows)):
        raise typer.Exit(3)


ALL = (score,)
"""In the order of ``asdpipe --help``."""
