"""Commands for an installed package: start a project, check the environment."""

from pathlib import Path
from typing import Annotated

import typer


def init(folder: Annotated[Path, typer.Argument(help="Of the new project; made if it is not there.")]) -> None:
    """Start a project: write its Snakefile, config/ and profiles/."""
    from importlib.util import find_spec

    from asdpipe.installation.project import init as write

    for path in write(folder):
        typer.echo(f"wrote {path}")
    if find_spec("snakemake") is None:
        typer.echo("first: pip install 'asdpipe[train]'")
    typer.echo(f"next:  cd {folder} && snakemake --cores 2")
    typer.echo("       the demo, on generated sounds; your own machines: config/own.yaml, every key: config/README.md")


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="First repair a torchaudio that does not import beside a CPU build.")
    ] = False,
) -> None:
    """Check Python, packages, GPU, disk and SLURM, and say what to do; exit code 1 if something needed is broken."""
    from asdpipe.installation.doctor import findings
    from asdpipe.installation.torchaudio_repair import repair_installed

    if repair:
        typer.echo(repair_installed())
    broken = 0
    for finding in findings():
        broken += finding.state == "broken"
        typer.echo(f"{finding.state:6}  {finding.what:17}  {finding.said}")
        if finding.remedy:
            typer.echo(f"{'':6}  {'':17}  -> {finding.remedy}")
    if broken:
        typer.echo(f"{broken} broken")
        raise typer.Exit(1)


ALL = (init, doctor)
