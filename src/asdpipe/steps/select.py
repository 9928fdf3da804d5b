"""The pseudo-anomalous set for the next stage (paper §4.1)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from typer import Option

from asdpipe.artifacts.resolved import noted
from asdpipe.artifacts.tables import read_arrow, read_table, write_table
from asdpipe.config.base import read_settings
from asdpipe.config.iteration import External
from asdpipe.config.method import SelectSettings
from asdpipe.data.manifests import packed_clips
from asdpipe.errors import UserError
from asdpipe.method.data_size import AUTO, by_machine, count_clips, external_clips
from asdpipe.method.selection import select as select_clips
from asdpipe.method.selection import select_random
from asdpipe.steps.options import InFile, MaybeFile, Number, OutFile, Settings

ScoreFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Scores of all shards; none: at random.")]
IndexFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Packed clips of all shards, if packed.")]

logger = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """Pairs of a clip and a machine type whose threshold it passes."""

    clip: NDArray[np.int64]
    """Row of the clip in the pool's manifest."""
    machine: NDArray[np.int64]
    score: NDArray[np.float64]


def select(
    settings: Settings,
    stage: Number,
    seed: Number,
    pool_clips: InFile,
    selected: OutFile,
    representatives: MaybeFile = None,
    clips: MaybeFile = None,
    index: MaybeFile = None,
    pool_index: IndexFiles = [],  # noqa: B006 (typer reads it, nobody changes it)
    scores: ScoreFiles = [],  # noqa: B006
) -> None:
    """Select external clips by the scores of a stage.

    Args:
        settings: of the selection; stage, seed: only for selection at random, which stage 0 asks of first_stage.
        representatives: of the stage; without them (stage 0), the training clips' manifest names the machine types.
        clips, index: of the training clips; external.n_max: auto counts those that are packed.
        pool_index: of packed pools: bad clips are not there. Of others they are not among the scores.
    """
    external = read_settings(SelectSettings, settings).external
    names = read_arrow("pool_clips", pool_clips, ["clip_id"])["clip_id"].combine_chunks()
    machines = _machines(representatives, clips)
    limits = _limits(external, machines, clips, index)
    facts = noted({"external.n_max": limits} if external.n_max == AUTO else {})
    n_max = np.array([limits[name] for name in machines], dtype=np.int64)
    n_out: dict[str, int] = {}
    if external.selection == "random" or (stage == 0 and external.first_stage == "random"):
        usable = np.arange(len(names))
        if pool_index:
            packed = pa.concat_tables([read_arrow("waveforms", file, ["clip_id"]) for file in pool_index])
            usable = np.flatnonzero(pc.is_in(names, packed["clip_id"]))
        entropy = int(np.random.SeedSequence((seed, stage)).generate_state(1)[0])
        drawn, machine = select_random(len(usable), n_max, entropy)
        clip, score = usable[drawn], np.full(len(drawn), np.nan)
        rank = np.concatenate([np.arange(count) + 1 for count in np.bincount(machine)] or [clip])
    else:
        found = _candidates(scores, names, machines)
        chosen = select_clips(found.clip, found.machine, found.score, n_max, external.assign)
        clip, machine, score = found.clip[chosen.row], found.machine[chosen.row], found.score[chosen.row]
        rank = chosen.rank
        n_out = {machines[index]: count for index, count in chosen.n_out.items()}
    clip_id = names.take(pa.array(clip))
    columns = ["clip_id", "path", "shard", "mids", "display_names"]
    rows = read_arrow("pool_clips", pool_clips, columns, pc.field("clip_id").isin(clip_id))
    rows = rows.take(pc.index_in(clip_id, rows["clip_id"]))
    table = pa.table(
        {
            **{name: rows[name] for name in ("clip_id", "path", "shard")},
            "mid": pc.list_element(rows["mids"], 0),
            "display_name": pc.list_element(rows["display_names"], 0),
            "machine": pa.array(machines, pa.string()).take(pa.array(machine)),
            "score": pa.array(score, from_pandas=True),
            "rank": pa.array(rank),
        }
    )
    taken = np.bincount(machine, minlength=len(machines))
    for name, count in zip(machines, taken.tolist(), strict=True):
        logger.info("%s: N_out %s, N_ex %d", name, n_out.get(name, 0) if scores else "-", count)
    if not len(table):
        logger.warning("no external clip passes a threshold: the next stage trains without external clips")
    write_table("selected", table, selected, {"n_out": n_out, "pool": len(names)} | facts)


def _machines(representatives: Path | None, clips: Path | None) -> list[str]:
    if representatives is not None:
        return sorted(set(read_table("representatives", representatives, ["machine"]).machine))
    if clips is None:
        raise UserError("select needs --representatives, or --clips for the names of the machine types")
    return sorted(pc.unique(read_arrow("clips", clips, ["machine"])["machine"]).to_pylist())


def _limits(external: External, machines: Sequence[str], clips: Path | None, index: Path | None) -> dict[str, int]:
    """Return N_max of every machine type.

    Raises:
        UserError: it is auto, and the training clips are not given.
    """
    if isinstance(external.n_max, int):
        return dict.fromkeys(machines, external.n_max)
    if clips is None or index is None:
        raise UserError("select needs --clips and --index for external.n_max: auto, which counts the training clips")
    table = packed_clips(clips, index)
    limits = by_machine(external.n_max, external_clips, count_clips(table.machine, table.domain))
    if unknown := sorted(set(machines) - set(limits)):
        raise UserError(f"{index}: has no clip of {', '.join(unknown)}; delete what was made from it and run again")
    return limits


def _candidates(files: Sequence[Path], names: pa.StringArray, machines: Sequence[str]) -> Candidates:
    """Read the scores of all shards.

    Raises:
        UserError: they name unknown clips or machine types.
    """
    if not files:
        raise UserError("select needs --scores, unless it is to draw at random (external.selection: random)")
    # Every name comes many times: in a dictionary it takes four bytes.
    encoded = ["clip_id", "machine"]
    table = pa.concat_tables([read_arrow("external_scores", file, dictionaries=encoded) for file in files])
    table = table.combine_chunks()
    columns = []
    for column, known, kind in (
        ("clip_id", names, "clip"),
        ("machine", pa.array(machines, pa.string()), "machine type"),
    ):
        values = table[column].combine_chunks()
        place = pc.index_in(values.dictionary, known)
        if place.null_count:
            unknown = values.dictionary.filter(pc.is_null(place))[0]
            message = f"{files[0].parent}: holds scores of the {kind} {unknown}, which is not there (any more)"
            raise UserError(f"{message}; delete them and run again")
        columns.append(place.take(values.indices).to_numpy().astype(np.int64))
    return Candidates(columns[0], columns[1], table["score"].to_numpy())
