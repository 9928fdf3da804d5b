"""Commands for an installed package."""

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


ALL = (init,)
