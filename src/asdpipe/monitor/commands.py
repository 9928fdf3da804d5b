"""Commands for new recordings; their functions import what they need, so that help starts at once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[
    Path, typer.Argument(help="Folder of a stage, or of a run with all its seeds: results/DATASET/METHOD.")
]
Stage = Annotated[int | None, typer.Option(help="Of a run; the last that all seeds have finished.")]
Machine = Annotated[str | None, typer.Option(help="Their machine type, where the folders do not say it.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(envvar="ASDPIPE_DEVICE", help="Where to run; auto: a GPU if there is one."),
]


def score(
    model: Model,
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Audio files, and folders with audio files; none with --watch.")
    ] = None,
    machine: Machine = None,
    condition: Annotated[
        str | None, typer.Option(help="Their domain or other condition, if limits were calibrated for it.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Score windows that begin every so many seconds; the highest score counts.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the rows to this csv.")] = None,
    jsonl: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the rows to this file.")] = None,
    stage: Stage = None,
    device: Device = "auto",
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

        alarms = watch_folder(model, watch, csv, jsonl, interval, machine, hop, device, stage, condition)
    else:
        from asdpipe.monitor import command

        rows = command.score(model, recordings or [], machine, hop, device, stage, condition)
        command.show(rows)
        if csv is not None:
            command.write_csv(rows, csv)
        if jsonl is not None:
            command.write_jsonl(rows, jsonl)
        alarms = sum(map(command.is_alarm, rows))
    if fail_on_alarm and alarms:
        raise typer.Exit(3)


def calibrate(
    model: Model,
    normals: Annotated[
        list[Path], typer.Argument(help="Normal recordings that the model was not trained on, and folders of them.")
    ],
    machine: Machine = None,
    condition: Annotated[
        str | None,
        typer.Option(help="Their domain or other condition (target, night shift), which makes a limit of its own."),
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.2, help="Share of new normal clips that may raise an alarm; as before, or 0.1."),
    ] = None,
    hop: Annotated[float | None, typer.Option(help="As for score: limits hold for this hop only.")] = None,
    add_references: Annotated[
        list[Path], typer.Option(help="Other normal recordings, to compare all recordings with from now on.")
    ] = [],  # noqa: B006 (typer reads it, nobody changes it)
    stage: Stage = None,
    device: Device = "auto",
) -> None:
    """Calibrate the alarm limits of a trained stage with new normal recordings."""
    from asdpipe.monitor import calibrate as command

    folder, limits = command.calibrate(
        model, normals, machine, condition, false_alarms, hop, add_references, device, stage
    )
    command.show(folder, limits)


def explain_clip(
    model: Model,
    recordings: Annotated[list[Path], typer.Argument(help="Audio files, and folders with audio files.")],
    machine: Machine = None,
    output: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Also write a picture (png) and all numbers (npz) to this folder."),
    ] = None,
    stage: Stage = None,
    device: Device = "auto",
) -> None:
    """Say which frequencies at which time make recordings anomalous."""
    from asdpipe.monitor.explain_clip import explain_clips

    for line in explain_clips(model, recordings, machine, output, device, stage):
        typer.echo(line)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="auc.csv files, or folders of stages, seeds or methods, e.g. results/demo/ba.")
    ],
    csv: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write all pairs to this csv.")] = None,
) -> None:
    """Say which differences between methods and stages are real, and what would tell more."""
    from asdpipe.monitor import comparison_words
    from asdpipe.monitor.compared_runs import read_systems
    from asdpipe.monitor.comparison import compare as compare_systems

    found = compare_systems(read_systems(runs))
    comparison_words.show(found)
    if csv is not None:
        comparison_words.write_csv(found, csv)


def export(
    model: Model,
    bundle: Annotated[Path, typer.Argument(help="Folder to write; a bundle that is there is replaced.")],
    clips: Annotated[
        list[Path] | None, typer.Option(help="Recordings or folders to check it with, instead of the data set's clips.")
    ] = None,
    machine: Machine = None,
    stage: Stage = None,
) -> None:
    """Write a trained stage as a folder that is scored without PyTorch, if its scores are the same."""
    from asdpipe.monitor import command
    from asdpipe.monitor.export import export as write

    found = write(model, bundle, [(file, machine) for file in command.recordings(clips or [])], stage)
    files = [file for file in bundle.rglob("*") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    typer.echo(
        f"{bundle}: {len(files)} files, {megabytes:.1f} MB; scores of {found.recordings} recordings differ by "
        f"{found.difference:.1g} at most, decisions are the same"
    )


def status(
    results: Annotated[Path, typer.Argument(help="Folder of the results of one or more runs.")] = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, help="With --watch: seconds between two looks.")] = 2.0,
) -> None:
    """Show how far runs are: what is done, runs, waits or failed, from the files alone."""
    from asdpipe.monitor.run_status_table import show

    show(results, interval if watch else None)


ALL = (score, calibrate, explain_clip, compare, export, status)
"""In the order of ``asdpipe --help``."""
