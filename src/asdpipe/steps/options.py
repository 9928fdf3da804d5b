"""Types of the steps' arguments, as the command line shows them."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

InFile = Annotated[Path, Option(exists=True, dir_okay=False, help="Artifact to read.")]
InFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Artifacts to read, one option each.")]
MaybeFile = Annotated[Path | None, Option(exists=True, dir_okay=False, help="Artifact to read, if there is one.")]
InFolder = Annotated[Path, Option(help="Folder to read.")]
OutFile = Annotated[Path, Option(dir_okay=False, help="Artifact to write.")]
OutFolder = Annotated[Path, Option(file_okay=False, help="Folder to write.")]
Text = Annotated[str, Option()]
Number = Annotated[int, Option(min=0)]
Positive = Annotated[int, Option(min=1)]
Settings = Annotated[str, Option(help="The config values that the step uses, as JSON.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], Option(envvar="ASDPIPE_DEVICE", help="Where to run; auto: a GPU if there is one.")
]
TorchCompile = Annotated[bool, Option(envvar="ASDPIPE_TORCH_COMPILE", help="Compile networks before training.")]
