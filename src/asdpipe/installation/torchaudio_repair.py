"""Make torchaudio import beside a CPU build of PyTorch.

The registry's torchaudio is built for CUDA: its compiled extension does not load beside a CPU build. The package works
without that file (only forced alignment and CTC decoding need it), so it is moved aside, in this environment only.

Used at run time, all pure Python: ``functional.melscale_fbanks`` (autoencoder, CED), ``transforms.MelSpectrogram``
(log-mel statistics), ``transforms.MFCC`` (candidates) and ``compliance.kaldi.get_mel_banks`` (BEATs, AudioMAE).
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from asdpipe.errors import UserError

EXTENSION = "_torchaudio*"
ASIDE = ".aside"


def imports() -> bool:
    """Tell whether a fresh interpreter of this environment imports torchaudio."""
    return subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, check=False).returncode == 0


def repair(package: Path, works: Callable[[], bool] = imports) -> str:
    """Move the compiled extension aside when torchaudio does not import, and say what was done.

    Args:
        package: folder of torchaudio.

    Raises:
        UserError: torchaudio does not import without its extension either; the extension is put back.
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
    raise UserError(message)


def repair_installed() -> str:
    """Repair the torchaudio of the running interpreter's environment, and say what was done.

    Raises:
        UserError: as ``repair``; or torchaudio is not installed.
    """
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        message = "torchaudio is not installed in this environment: pip install 'asdpipe[train]'"
        raise UserError(message)
    return repair(Path(spec.origin).parent)
