"""New projects that run the workflow of the installed package: ``asdpipe init``."""

import re
import shutil
from pathlib import Path

from asdpipe.errors import UserError

PACKAGE = Path(__file__).resolve().parent.parent

SNAKEFILE = '''"""Runs the workflow of the installed asdpipe: snakemake --cores 2"""

from asdpipe.installation.project import workflow_file


# A file given with --configfile stands alone, so that the demo's small settings never leak into another run.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


module pipeline:
    snakefile:
        workflow_file("Snakefile")
    config:
        config


use rule * from pipeline


# Your own rules go here; results/... of the rules above are their inputs.


onstart:
    pipeline.onstart()


onsuccess:
    pipeline.onsuccess()


onerror:
    pipeline.onerror()
'''


def workflow_file(name: str) -> Path:
    """Return a file or folder of the workflow, by its path in a checkout, e.g. ``Snakefile``.

    Raises:
        UserError: it is not there, because the installation is damaged.
    """
    # A wheel has the workflow within the package; an editable installation has it beside src/.
    for folder in (PACKAGE / "workflow_files", PACKAGE.parents[1]):
        if (folder / "Snakefile").is_file() and (folder / name).exists():
            return folder / name
    message = f"{PACKAGE}: the installation lacks the workflow ({name}): install asdpipe again"
    raise UserError(message)


def init(folder: Path) -> list[Path]:
    """Write a new project: Snakefile, ``config/`` and ``profiles/``; return what was written.

    Args:
        folder: made if it is not there; other files in it are left alone.

    Raises:
        UserError: the folder has one of these already.
    """
    written = [folder / name for name in ("Snakefile", "config", "profiles")]
    for path in written:
        if path.exists() or path.is_symlink():
            message = f"{path} exists: nothing was written; name another folder, or move it away"
            raise UserError(message)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config", "profiles"):
        shutil.copytree(workflow_file(name), folder / name)
    for file in (*(folder / "config").iterdir(), *(folder / "profiles").glob("*/*.yaml")):
        file.write_text(_of_a_project(file.read_text(encoding="utf-8")), encoding="utf-8")
    # Last: a folder with a Snakefile is whole.
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    return written


def _of_a_project(text: str) -> str:
    """Return a text of a checkout without its virtual environment and without links to its other files."""
    text = text.replace(".venv/bin/", "")
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", text)
