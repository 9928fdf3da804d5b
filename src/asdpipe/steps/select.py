"""Step 6, select: the pseudo-anomalous set for the next stage."""

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from typer import Option

from asdpipe.artifacts import read_table, write_table
from asdpipe.config import Method
from asdpipe.method.selection import select as select_clips
from asdpipe.method.selection import select_random
from asdpipe.steps.options import InFile, InFiles, Number, OutFile, Settings

ScoreFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Scores of all shards; none: at random.")]

logger = logging.getLogger(__name__)


def select(
    settings: Settings,
    stage: Number,
    seed: Number,
    pool_clips: InFile,
    pool_index: InFiles,
    thresholds: InFile,
    selected: OutFile,
    scores: ScoreFiles = [],  # noqa: B006 (typer reads it, nobody changes it)
) -> None:
    """Select external clips by the scores of a stage.

    Args:
        settings: uses external; stage, seed: only for selection at random.
        pool_index: packed clips of every shard; clips that could not be read are not there.
    """
    external = Method.model_validate_json(settings).external
    packed = pd.concat([read_table("waveforms", file) for file in pool_index])
    pool = read_table("pool_clips", pool_clips)
    pool = pool[pool.clip_id.isin(packed.clip_id)].reset_index(drop=True)
    machines = sorted(read_table("thresholds", thresholds).machine)
    if external.selection == "random":
        entropy = int(np.random.SeedSequence((seed, stage)).generate_state(1)[0])
        clip, machine = select_random(len(pool), len(machines), external.n_max, entropy)
        score = np.full(len(clip), np.nan)
        rank = np.concatenate([np.arange(count) + 1 for count in np.bincount(machine)] or [clip])
        n_out = {}
    else:
        table = pd.concat([read_table("external_scores", file) for file in scores], ignore_index=True)
        position = pd.Series(range(len(pool)), index=pool.clip_id)
        candidates = position[table.clip_id].to_numpy(dtype=np.int64)
        machine_index = pd.Categorical(table.machine, categories=machines).codes.astype(np.int64)
        all_scores = table.score.to_numpy()
        chosen = select_clips(candidates, machine_index, all_scores, external.n_max, external.assign)
        clip, machine, score = candidates[chosen.row], machine_index[chosen.row], all_scores[chosen.row]
        rank = chosen.rank
        n_out = {machines[index]: count for index, count in chosen.n_out.items()}
    rows = pool.iloc[clip]
    frame = rows[["clip_id", "path", "shard"]].assign(
        mid=rows.mids.str[0],
        display_name=rows.display_names.str[0],
        machine=np.array(machines, dtype=object)[machine],
        score=score,
        rank=rank,
    )
    taken = frame.machine.value_counts()
    for name in machines:
        logger.info("%s: N_out %s, N_ex %d", name, n_out.get(name, 0) if scores else "-", taken.get(name, 0))
    if frame.empty:
        logger.warning("no external clip passes a threshold: the next stage trains without external clips")
    write_table("selected", frame, selected, {"n_out": n_out, "pool": len(pool)})
