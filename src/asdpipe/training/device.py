"""Where networks run."""

import torch

from asdpipe.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda".

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("device is cuda, but PyTorch sees no GPU here; use device: auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
