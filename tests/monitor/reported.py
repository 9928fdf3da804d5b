"""Made-up results of a data set, whole down to their records, without a network and without the workflow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdpipe.artifacts.tables import write_table
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.packing import pack
from asdpipe.provenance.records import Record, describe, record_path, recorded
from asdpipe.steps.evaluate import evaluate

DATASET = "made"
SECONDS = 0.3
LABELS = ("Wind", "Siren")


def write_record(file: Path, step: str, inputs: dict[str, Sequence[Path]], **settings: Any) -> None:
    """Write how a file was made."""
    described = {name: [describe(path) for path in paths] for name, paths in inputs.items()}
    record = Record(
        file=describe(file),
        step=step,
        code="0" * 16,
        settings=settings,
        inputs=described,
        config={step: [settings]},
        seeds=[settings.get("seed", 0)],
    )
    place = record_path(file)
    place.parent.mkdir(exist_ok=True)
    place.write_text(record.model_dump_json(exclude_none=True))


def clips(machines: Sequence[str], name: str = "clip", labelled: bool = True, tested: bool = True) -> pd.DataFrame:
    """Return a manifest: of each machine type and domain three training clips and, of each label, six test clips."""
    rows = []
    for machine in machines:
        for domain in ("source", "target"):
            kinds = [("train", True, 3)] + ([("test", True, 6), ("test", False, 6)] if tested else [])
            for split, is_normal, count in kinds:
                for number in range(count):
                    clip_id = f"{machine}/{split}/{name} {domain} {is_normal} {number}.wav"
                    known = is_normal if labelled or split == "train" else None
                    rows.append((clip_id, machine, domain, split, known, f"{name} speed {number}"))
    table = pd.DataFrame(rows, columns=["clip_id", "machine", "domain", "split", "is_normal", "attributes"])
    table["is_normal"] = table.is_normal.astype(object)
    size = {"sample_rate": SAMPLE_RATE, "num_frames": round(SECONDS * SAMPLE_RATE)}
    return table.assign(path=table.clip_id, dataset=DATASET, section="00", part="dev", **size)


def write_packed(folder: Path, names: Sequence[str], rng: np.random.Generator) -> tuple[Path, Path]:
    """Write clips of noise; return their index and samples."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = (rng.standard_normal((len(names), round(SECONDS * SAMPLE_RATE))) * 3000).astype(np.int16)
    index, samples = folder / "waveforms.parquet", folder / "waveforms.int16"
    with samples.open("wb") as file:
        table, _ = pack(((name, name, clip) for name, clip in zip(names, noise, strict=True)), file, lambda _: None)
    write_table("waveforms", table, index)
    return index, samples


def write_data(root: Path, table: pd.DataFrame) -> None:
    """Write a data set."""
    folder, rng = root / "results/data" / DATASET, np.random.default_rng(0)
    for split in ("train", "test"):
        part = table[table.split == split]
        write_packed(folder / split, part.clip_id.tolist(), rng)
        write_table("clips", part, folder / split / "clips.parquet")
    write_table("clips", table, folder / "clips.parquet")


def write_run(root: Path, table: pd.DataFrame, method: str, stage: int, seed: int, label: str = "") -> Path:
    """Write the results of a stage; anomalous clips have higher scores. Return its folder.

    Args:
        label: behind the names of external clips, their labels, and pseudo-labels; empty: there are none.
    """
    rng, data = np.random.default_rng([len(method), stage, seed]), root / "results/data" / DATASET
    folder = root / f"results/{DATASET}/{method}/seed{seed}/stage{stage}"
    (folder / "embeddings").mkdir(parents=True)
    inputs: dict[str, list[Path]] = {}
    for split in ("train", "test"):
        part = table[table.split == split]
        vectors = pd.Series(list(rng.standard_normal((len(part), 4)).astype(np.float32)), part.index, dtype=object)
        file, place = folder / f"embeddings/{split}.parquet", data / split
        write_table("embeddings", part.assign(embedding=vectors), file)
        packed = {"index": [place / "waveforms.parquet"], "samples": [place / "waveforms.int16"]}
        write_record(file, "embed", {"clips": [place / "clips.parquet"], **packed}, num_samples=4800)
        inputs |= {f"{split}_clips": [place / "clips.parquet"], f"{split}_embeddings": [file]}
    score = rng.standard_normal(len(table)) + 1.5 * (table.is_normal == False)  # noqa: E712 (labels may be missing)
    first = table[table.split == "train"].groupby("machine").clip_id.first()
    scored = table.assign(score=score, representative=0, nearest_clip_id=table.machine.map(first))
    write_table("scores", scored, folder / "scores.parquet")
    write_record(folder / "scores.parquet", "score", inputs, seed=seed)
    limits = pd.DataFrame({"machine": first.index, "threshold": 1.0, "decision_threshold": 1.0})
    write_table("thresholds", limits, folder / "thresholds.parquet")
    write_record(folder / "thresholds.parquet", "score", inputs, seed=seed)
    recorded(evaluate)(
        **{"dataset": DATASET, "method": method, "stage": stage, "seed": seed, "scoring": "dcase2022"},
        **{"clips": data / "clips.parquet", "scores": folder / "scores.parquet", "auc": folder / "auc.csv"},
    )
    losses = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})
    losses.to_csv(folder / "training.csv", index=False)
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks/train.tsv").write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t340.5\n")
    if label:
        _hand_on(root, folder, table, label)
    return folder


def _hand_on(root: Path, folder: Path, table: pd.DataFrame, label: str) -> None:
    """Write external clips and pseudo-labels of a stage."""
    pool, machines = root / "results/external/pool", sorted(set(table.machine))
    names = [f"{machine} {kind} {label}" for machine in machines for kind in LABELS]
    index = pool / "0/waveforms.parquet"
    if not index.exists():
        write_packed(pool / "0", names, np.random.default_rng(1))
    representatives = pd.DataFrame({"machine": machines, "domain": "source", "representative": 0, "clip_id": "c"})
    vectors = pd.Series([np.ones(4, np.float32)] * len(machines), dtype=object)
    write_table(
        "representatives", representatives.assign(threshold=0.5, vector=vectors), folder / "representatives.parquet"
    )
    write_record(folder / "representatives.parquet", "represent", {})
    chosen = pd.DataFrame(
        {
            **{"clip_id": names, "path": names, "mid": "/m/0", "shard": 0},
            "display_name": [f"{kind} {label}" for _ in machines for kind in LABELS],
            "machine": [machine for machine in machines for _ in LABELS],
            "score": [-0.5, -0.25] * len(machines),
            "rank": [1, 2] * len(machines),
        }
    )
    facts = {"n_out": dict.fromkeys(machines, 3), "pool": 10}
    write_table("selected", chosen, folder / "selected.parquet", facts)
    made = {"representatives": [folder / "representatives.parquet"], "pool_index": [index]}
    write_record(folder / "selected.parquet", "select", made)
    training = table[table.split == "train"]
    labels = training.assign(
        rank=1, label=[f"{number % 2} {label}" for number in range(len(training))], confidence=None
    )
    ari = dict.fromkeys(machines, 0.25)
    write_table("pseudo_labels", labels, folder / "pseudo_labels.parquet", {"ari": ari})
