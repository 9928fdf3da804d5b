"""Types of the steps' arguments, as the command line shows them, and those that are JSON."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError
from typer import Option

from asdpipe.errors import UserError

InFile = Annotated[Path, Option(exists=True, dir_okay=False, help="Artifact to read.")]
InFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Artifacts to read, one option each.")]
AucFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="auc.csv of every run, one per seed.")]
MaybeFile = Annotated[Path | None, Option(exists=True, dir_okay=False, help="Artifact to read, if there is one.")]
InFolder = Annotated[Path, Option(help="Folder to read.")]
OutFile = Annotated[Path, Option(dir_okay=False, help="Artifact to write.")]
OutFolder = Annotated[Path, Option(file_okay=False, help="Folder to write.")]
Text = Annotated[str, Option()]
Number = Annotated[int, Option(min=0)]
Positive = Annotated[int, Option(min=1)]
Settings = Annotated[str, Option(help="The config values that the step uses, as JSON.")]
MirrorsJson = Annotated[str, Option(envvar="ASDPIPE_DOWNLOAD", help="The config's download section, as JSON.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], Option(envvar="ASDPIPE_DEVICE", help="Where to run; auto: a GPU if there is one.")
]
TorchCompile = Annotated[bool, Option(envvar="ASDPIPE_TORCH_COMPILE", help="Compile networks before training.")]
Parsed = TypeVar("Parsed")


def parsed(option: str, text: str, kind: TypeAdapter[Parsed]) -> Parsed:
    """Return the value of an option that is JSON.

    Raises:
        UserError: it is not, or not of this kind.
    """
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise UserError(f"--{option}: {text!r} is not the JSON that is needed ({error.errors()[0]['msg']})") from None
