"""A manifest with made-up scores and thresholds, as the steps before write them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from asdpipe.artifacts.tables import write_table


class Scored(NamedTuple):
    """The inputs of evaluate, summarize and write_submission."""

    clips: Path
    scores: Path
    thresholds: Path


def clip(machine: str, file: str, score: float, **facts: Any) -> dict[str, Any]:
    """Return a clip: normal, source, test, of the development set's section 00 unless told otherwise."""
    usual = {"section": "00", "domain": "source", "split": "test", "part": "dev", "is_normal": True}
    return {"machine": machine, "file": file, "score": score, **usual, **facts}


def write_scored(folder: Path, clips: Sequence[dict[str, Any]], decision: float = 0.0) -> Scored:
    """Write the clips' three tables, every machine type with the same decision threshold; without score: unscored."""
    files = Scored(*(folder / f"{name}.parquet" for name in Scored._fields))
    table = pd.DataFrame(clips)
    table["clip_id"] = table.part + "/" + table.machine + "/" + table.split + "/" + table.file
    table["path"] = "recordings/" + table.clip_id
    table = table.assign(dataset="d", attributes=None, sample_rate=16_000, num_frames=16_000)
    for column in ("is_normal", "domain"):
        table[column] = pd.Series([facts[column] for facts in clips], dtype=object)
    write_table("clips", table, files.clips)
    scored = table[table.score.notna()].assign(representative=0)
    nearest = scored[scored.split == "train"].groupby("machine").clip_id.first().to_dict()
    scored["nearest_clip_id"] = [nearest.get(machine, "none") for machine in scored.machine]
    # As the step score does: machine type by machine type, not in the manifest's order.
    write_table("scores", scored.sort_values("machine", ascending=False), files.scores)
    machines = sorted(set(table.machine))
    write_table(
        "thresholds",
        pd.DataFrame({"machine": machines, "threshold": np.inf, "decision_threshold": decision}),
        files.thresholds,
    )
    return files
