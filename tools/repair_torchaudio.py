"""Make torchaudio import beside a CPU build of PyTorch; do nothing where it imports.

The registry's torchaudio is built for CUDA: its compiled extension does not load beside a CPU build. The package works
without that file (only forced alignment and CTC decoding need it), so it is moved aside, in this environment only.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

EXTENSION = "_torchaudio*"
ASIDE = ".aside"


def imports() -> bool:
    """Tell whether a fresh interpreter of this environment imports torchaudio."""
    return subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, check=False).returncode == 0


def repair(package: Path, works: Callable[[], bool] = imports) -> str:
    """Move the compiled extension aside when torchaudio does not import, and say what was done.

    Raises:
        SystemExit: torchaudio does not import without its extension either; the extension is put back.
    """
    if works():
        return "torchaudio imports: nothing to repair"
    moved = []
    for extension in sorted((package / "lib").glob(EXTENSION)):
        if extension.suffix != ASIDE:
            moved.append(extension.rename(extension.with_name(extension.name + ASIDE)))
    if works():
        return f"torchaudio did not import beside this PyTorch; moved aside {', '.join(each.name for each in moved)}"
    for each in moved:
        each.rename(each.with_name(each.name.removesuffix(ASIDE)))
    message = (
        "torchaudio does not import, for another reason than its compiled extension: python -c 'import torchaudio'"
    )
    raise SystemExit(message)


def main() -> None:
    """Repair the torchaudio of the running interpreter's environment."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        message = "torchaudio is not installed in this environment"
        raise SystemExit(message)
    sys.stdout.write(repair(Path(spec.origin).parent) + "\n")


if __name__ == "__main__":
    main()
