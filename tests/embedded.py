"""Training and test clips with random embeddings, as the steps before write them."""

from pathlib import Path

import numpy as np
import pandas as pd

from asdpipe.artifacts.tables import read_table, write_table

# Domains of the training clips of each machine type.
TRAIN = {"fan": ("source",) * 8 + ("target",) * 2, "pump": ("source",) * 6 + ("target",) * 3}
SPLITS = ("train", "test")
Files = dict[str, Path]
"""Files by the names of the step's options: train_clips, train_embeddings, test_clips, test_embeddings."""


def write_embedded(folder: Path) -> Files:
    """Write manifests and embeddings of two machine types, with four test clips each."""
    rng = np.random.default_rng(0)
    files = {}
    for split in SPLITS:
        rows = [
            (machine, domain)
            for machine, domains in TRAIN.items()
            for domain in (domains if split == "train" else ("source",) * 4)
        ]
        clips = pd.DataFrame(rows, columns=["machine", "domain"])
        clips = clips.assign(clip_id=[f"{split}{number}" for number in range(len(rows))], split=split)
        clips = clips.assign(path="x", dataset="d", section="00", part="dev", is_normal=True, attributes=None)
        clips = clips.assign(sample_rate=16_000, num_frames=1)
        files |= {f"{split}_{kind}": folder / f"{split}_{kind}" for kind in ("clips", "embeddings")}
        # In another order than the embeddings.
        write_table("clips", clips.sample(frac=1, random_state=0), files[f"{split}_clips"])
        vectors = rng.standard_normal((len(rows), 3)).astype(np.float32)
        table = pd.DataFrame({"clip_id": clips.clip_id, "embedding": list(vectors)})
        write_table("embeddings", table, files[f"{split}_embeddings"])
    return files


def read_embedded(files: Files) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and test clips with unit vectors in column z."""
    tables = []
    for split in SPLITS:
        clips = read_table("clips", files[f"{split}_clips"])
        table = clips.merge(read_table("embeddings", files[f"{split}_embeddings"]), on="clip_id")
        unit = [np.asarray(each, dtype=float) / np.linalg.norm(each) for each in table.embedding]
        tables.append(table.assign(z=unit))
    return tables[0], tables[1]


def of_split(files: Files, split: str = "train") -> Files:
    """Return the files of one split, by the names of the options of steps that read one."""
    return {name: files[f"{split}_{name}"] for name in ("clips", "embeddings")}
