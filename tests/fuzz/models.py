"""Models: damaged weights and descriptions, with the digest of what they are now."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from asdpipe.artifacts.files import file_digest
from asdpipe.models.build import build_extractor
from asdpipe.models.files import load_model, save_model
from tests.fuzz import mutations
from tests.fuzz.harness import Case

NUM_SAMPLES = 4000
KINDS = {
    "0": {
        "kind": "multi_resolution",
        "width": 8,
        "windows": [512, 256],
        "f_min": 200.0,
        "dft_kernels": [32, 16, 8],
        "dft_strides": [16, 8, 4],
    },
    "1": {"kind": "autoencoder", "machines": ["fan"]},
}
SHAPES = {"0": (1, 3, 8), "1": (1, 1, 3)}


def cases(seed: int, first: int, last: int, folder: Path) -> Iterator[Case]:
    """Yield models: the paper's network and autoencoders in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for kind, network in KINDS.items():
        extractor = build_extractor(network, num_samples=NUM_SAMPLES)
        save_model(extractor, network, NUM_SAMPLES, folder / kind, folder / f"{kind}.json")
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
    extractor = load_model(weights, description)
    with torch.inference_mode():
        # Weights may be any numbers, and overflow: that ends in no score, which the steps refuse.
        assert extractor(0.1 * torch.randn(1, extractor.num_samples or NUM_SAMPLES)).shape == SHAPES[kind]
    return "success"
