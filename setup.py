"""Copy the workflow into the package, so that a wheel works without a checkout; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Beside src/ in a checkout, where Snakemake and its users look for them.
WORKFLOW = ("Snakefile", "environment.yml", "config", "profiles", "workflow")


class BuildWithWorkflow(build_py):
    """Build the package and its folder ``workflow_files``; an editable installation uses the checkout's."""

    def run(self) -> None:
        """Build, and replace what an earlier build has left."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "asdpipe/workflow_files"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in WORKFLOW:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy(source, target)


setup(cmdclass={"build_py": BuildWithWorkflow})
