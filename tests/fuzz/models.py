"""Models: damaged weights and descriptions, with the digest of what they are now."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from asdpipe.models.autoencoder_files import Trained, load_autoencoders, save_autoencoders

from asdpipe.artifacts.files import file_digest
from asdpipe.config.sections import Network
from asdpipe.models.autoencoder import Autoencoder
from asdpipe.models.files import load_model, save_model
from asdpipe.training.fit import build_network
from tests.fuzz import mutations
from tests.fuzz.harness import Case

SMALL = Network(width=8, windows=(512, 256), dft_kernels=(32, 16, 8), dft_strides=(16, 8, 4))
NUM_SAMPLES = 4000


def cases(seed: int, first: int, last: int, folder: Path) -> Iterator[Case]:
    """Yield models: the paper's network and autoencoders in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_model(build_network(SMALL, NUM_SAMPLES), folder / "0", folder / "0.json", SMALL, NUM_SAMPLES)
    inverse = torch.eye(128, dtype=torch.float64).repeat(2, 1, 1)
    save_autoencoders({"fan": Trained(Autoencoder(), inverse)}, folder / "1", folder / "1.json")
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        kind = str(number % 2)
        weights, description = folder / f"changed_{number}", folder / f"changed_{number}.json"
        shutil.copy(folder / kind, weights)
        shutil.copy(folder / f"{kind}.json", description)
        changed = weights if rng.random() < 0.6 else description
        mutation = rng.choice([*mutations.ANYWHERE, mutations.flip_head, mutations.flip_head, mutations.wrong_number])
        # Nearly all changes are noticed: the first model is whole.
        changed.write_bytes(mutation(changed.read_bytes(), rng) if number else changed.read_bytes())
        if changed == weights and rng.random() < 0.8:
            facts = json.loads(description.read_bytes()) | {"weights_sha256": file_digest(weights)}
            description.write_text(json.dumps(facts))
        name = f"{number:04d}_{mutation.__name__}_{changed.suffix or 'weights'}"
        files = weights, description
        yield Case(name, lambda kind=kind, files=files: _run(kind, *files), (weights.name,))
        weights.unlink()


def _run(kind: str, weights: Path, description: Path) -> str:
    if kind == "0":
        network, num_samples = load_model(weights, description)
        with torch.inference_mode():
            # Weights may be any numbers, and overflow: that ends in no score, which the steps refuse.
            assert network(0.1 * torch.randn(1, num_samples)).shape == (1, 3, 8)
    else:
        assert load_autoencoders(weights, description)
    return "success"
