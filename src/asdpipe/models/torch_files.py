"""Read files that PyTorch saved, without running code from them.

``torch.load(weights_only=True)`` builds tensors and plain containers only. What it does not limit is limited here:
compressed archives, and tensors that claim more numbers than the file holds.
"""

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asdpipe.errors import UserError, short

# Shared tensors are counted each time: BEATs saves its position bias once per layer.
MOST_CLAIMED = 2


def read_torch_file(file: Path) -> Any:
    """Return the content of a file by ``torch.save``, with tensors mapped into memory from the disk.

    Raises:
        UserError: it is damaged, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(file) as opened:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in opened.infolist()):
                message = "is a compressed archive, not a file by torch.save; give the file as published"
                raise UserError(f"{file}: {message}")
            # PyTorch does not compare the checksums of what it maps into memory.
            if damaged := opened.testzip():
                raise UserError(f"{file}: {short(damaged)} in it is damaged; fetch or copy it again")
        # Trainings save their command line beside the weights. It consists of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    # A crafted file may raise any error.
    except Exception as error:
        if named := re.search(r"GLOBAL ([\w.]{1,100})", str(error)):
            message = f"{file}: holds {named[1]}, which is code and never run; give a file of tensors alone"
        else:
            message = f"{file}: is damaged, or no file by torch.save; fetch or copy it again"
        raise UserError(message) from None


def check_claims(file: Path, tensors: dict[str, Tensor]) -> None:
    """Check that tensors are plain numbers that the file holds, before anything is computed with them.

    Raises:
        UserError: one is not, or their sizes add up to more than the file.
    """
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or type(tensor) not in (Tensor, torch.nn.Parameter):
            raise UserError(f"{file}: {short(name)} is no plain tensor of numbers; give the file as published")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > MOST_CLAIMED * file.stat().st_size:
        raise UserError(f"{file}: claims {claimed} bytes of tensors, more than the file has; fetch or copy it again")
