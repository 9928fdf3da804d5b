"""Artifacts in parquet, damaged or with other values, and each step that reads them."""

import copy
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from asdpipe.artifacts.schemas import SCHEMAS
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.labels import Candidates
from asdpipe.config.method import RankLabelsSettings
from asdpipe.config.schema import Config
from asdpipe.data.manifests import packed_clips
from asdpipe.data.waveforms import Waveforms
from asdpipe.method.classes import MachineLabels, TopMLabels
from asdpipe.paper.results import read_auc
from asdpipe.plan import Plan
from asdpipe.steps.evaluate import evaluate
from asdpipe.steps.label_clips import label_clips
from asdpipe.steps.pack_clips import pack_clips
from asdpipe.steps.pack_pool import pack_pool
from asdpipe.steps.pack_selected import pack_selected
from asdpipe.steps.pseudo_label import pseudo_label
from asdpipe.steps.rank_labels import rank_labels
from asdpipe.steps.represent import represent
from asdpipe.steps.score import score
from asdpipe.steps.select import select
from asdpipe.steps.summarize import summarize
from asdpipe.steps.write_paper_table import write_paper_table
from asdpipe.steps.write_submission import write_submission
from asdpipe.training.embedding import refuse_short
from asdpipe.training.labels import assemble_labels
from tests.fuzz import mutations
from tests.fuzz.harness import Case

CONFIG = {
    "dataset": "d",
    "datasets": {"d": {"format": "folder", "root": "own", "pool": "p", "on_bad_clip": "skip"}},
    "pools": {"p": {"format": "folder", "root": "pool", "on_bad_clip": "skip"}},
    "inference": {"k_source": 2},
    "pseudo_labels": {"k_source": 2, "k_target": 1},
    "external": {"n_max": 3},
}
PLAN = Plan(Config.model_validate(CONFIG))
SPLITS = ("train", "test")
Rng = np.random.Generator
Place = Callable[[str], Path]


def cases(seed: int, first: int, last: int, folder: Path) -> Iterator[Case]:
    """Yield steps with one table of their inputs changed."""
    folder.mkdir(parents=True, exist_ok=True)
    make(folder)
    steps = list(STEPS)
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        # Not in step with the mutations, so that every pair comes up.
        name, table = steps[number % len(steps)]
        path, how = _changed(folder, table, rng, number)
        places: dict[str, Path] = {each.stem: each for each in folder.glob("*.*")} | {table: path}
        name = f"{number:04d}_{name}_{table}_{how}"
        run = STEPS[steps[number % len(steps)]]
        yield Case(
            name, lambda run=run, places=places: _run(run, places, folder), (path.name, str(folder), "fan", "pump")
        )


def _run(step: Callable[[Place], None], places: dict[str, Path], folder: Path) -> str:
    """Run a step; what it writes must be whole tables, in which no score is missing."""
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    step(lambda name: new / name.removeprefix("new_") if name.startswith("new_") else places[name])
    for output in new.iterdir():
        if output.name in SCHEMAS:
            table = read_table(output.name, output)
            assert output.name != "scores" or table.score.notna().all()
        elif output.name == "auc":
            assert read_auc(output).auc.dropna().between(0, 100).all()
    return "success"


# ---------------------------------------------------------------- what steps read


def settings(step: str) -> str:
    return PLAN.settings(step, dataset="d", method="ba_trp_ps_ex")


def _score(at: Place) -> None:
    inputs = at("train_clips"), at("embeddings"), at("test_clips"), at("test_embeddings")
    score(settings("score"), 0, *inputs, at("new_scores"), at("new_thresholds"), at("representatives"))


def _select(at: Place) -> None:
    files = at("pool_clips"), at("new_selected"), at("representatives")
    select(settings("select"), 1, 0, *files, scores=[at("external_scores")])


def _labels(at: Place) -> None:
    selected = read_table("selected", at("selected"))
    packed = read_table("waveforms", at("pool_waveforms"), ["clip_id"]).clip_id
    table, _ = assemble_labels(
        packed_clips(at("train_clips"), at("waveforms")),
        MachineLabels(),
        read_table("pseudo_labels", at("pseudo_labels")),
        selected[selected.clip_id.isin(packed)],
    )
    write_table("labels", table, at("new_labels"))


def _candidates(at: Place) -> None:
    clips = packed_clips(at("train_clips"), at("waveforms"))
    labeller = TopMLabels(2, "ranked")
    table, _ = assemble_labels(clips, labeller, candidates=read_table("pseudo_labels", at("pseudo_labels")))
    write_table("labels", table, at("new_labels"))


def _rank_labels(at: Place) -> None:
    text = as_json(RankLabelsSettings(candidates=Candidates(k2=2)))
    inputs = at("train_clips"), at("waveforms"), at("samples")
    rank_labels(text, 2048, 0, *inputs, at("new_pseudo_labels"), at("new_classes"), at("embeddings"))


def _waveforms(at: Place) -> None:
    waveforms = Waveforms([(at("waveforms"), at("samples"))])
    refuse_short(waveforms, 2048)
    assert sum(len(clip) for clip in waveforms) * 2 == at("samples").stat().st_size


def _label_clips(at: Place) -> None:
    lists = [at("train_clips"), at("test_clips")]
    label_clips(at("clips").parent, settings("label_clips"), lists, at("new_clips"))


def _pack_clips(at: Place) -> None:
    pack_clips(settings("pack_clips"), "train", at("train_clips"), at("new_samples"), at("new_index"), at("new_bad"))


def _pack_pool(at: Place) -> None:
    pack_pool(settings("pack_pool"), 0, at("pool_clips"), at("new_samples"), at("new_index"), at("new_bad"))


def _pack_selected(at: Place) -> None:
    outputs = at("new_samples"), at("new_index"), at("new_bad")
    pack_selected(settings("pack_selected"), at("selected"), at("pool_clips"), *outputs)


def _represent(at: Place) -> None:
    represent(settings("represent"), 0, at("train_clips"), at("embeddings"), at("new_representatives"))


def _pseudo_label(at: Place) -> None:
    pseudo_label(settings("pseudo_label"), 0, at("train_clips"), at("embeddings"), at("new_pseudo_labels"))


def _evaluate(at: Place) -> None:
    evaluate("d", "m", 1, 0, at("clips"), at("scores"), at("new_auc"))


def _summarize(at: Place) -> None:
    summarize(at("clips"), [at("auc")], [at("scores")], [at("thresholds")], at("new_summary"), at("new_csv"))


def _write_submission(at: Place) -> None:
    write_submission(at("clips"), at("scores"), at("thresholds"), at("new_submission"))


def _write_paper_table(at: Place) -> None:
    options: dict[str, Any] = {"selected": [at("selected")], "selected_of": ["d"], "n_max": '{"ba_ex": 2}'}
    write_paper_table("4", '{"d": null}', at("new_csv"), at("new_markdown"), aucs=[at("auc")], **options)


STEPS: dict[tuple[str, str], Callable[[Place], None]] = {
    ("label_clips", "train_clips"): _label_clips,
    ("pack_clips", "train_clips"): _pack_clips,
    ("represent", "train_clips"): _represent,
    ("represent", "embeddings"): _represent,
    ("score", "train_clips"): _score,
    ("score", "embeddings"): _score,
    ("score", "test_clips"): _score,
    ("score", "test_embeddings"): _score,
    ("score", "representatives"): _score,
    ("pseudo_label", "embeddings"): _pseudo_label,
    ("select", "pool_clips"): _select,
    ("select", "external_scores"): _select,
    ("select", "representatives"): _select,
    ("pack_pool", "pool_clips"): _pack_pool,
    ("pack_selected", "selected"): _pack_selected,
    ("labels", "train_clips"): _labels,
    ("labels", "waveforms"): _labels,
    ("labels", "pseudo_labels"): _labels,
    ("labels", "selected"): _labels,
    ("candidates", "pseudo_labels"): _candidates,
    ("rank_labels", "train_clips"): _rank_labels,
    ("rank_labels", "embeddings"): _rank_labels,
    ("waveforms", "waveforms"): _waveforms,
    ("evaluate", "clips"): _evaluate,
    ("evaluate", "scores"): _evaluate,
    ("summarize", "thresholds"): _summarize,
    ("summarize", "scores"): _summarize,
    ("write_submission", "scores"): _write_submission,
    ("write_paper_table", "selected"): _write_paper_table,
}


# ---------------------------------------------------------------- what is changed


def _changed(folder: Path, table: str, rng: Rng, number: int) -> tuple[Path, str]:
    """Write a table with its bytes or its values changed; return it and what was done."""
    whole = folder / f"{table}.parquet"
    path = folder / f"changed_{number}_{table}"
    if rng.random() < 0.4:
        mutation = rng.choice([*mutations.ANYWHERE, mutations.flip_tail, mutations.flip_tail])
        path.write_bytes(mutation(whole.read_bytes(), rng))
        return path, mutation.__name__
    frame = pq.read_table(whole)
    change = rng.choice([_other_value, _other_value, _other_value, _other_type, _rows, _columns])
    pq.write_table(change(frame, rng), path)
    return path, change.__name__


VALUES: dict[str, list[Any]] = {
    "string": [None, "", "\0", "a\nb", "train", "target", "eval", "../x", "x" * 100_000, "ü"],
    "double": [None, math.nan, math.inf, -math.inf, 1e308, -1.0, 0.0, 5e-324],
    "int32": [None, -1, 0, 2**31 - 1, -(2**31)],
    "int64": [None, -1, 0, 2**63 - 1, -(2**63)],
    "bool": [None, True, False],
    "float": [None, math.nan, math.inf, -math.inf, 3e38, 0.0],
}


def _other_value(table: pa.Table, rng: Rng) -> pa.Table:
    """Change one value, or all values of a column."""
    column = int(rng.integers(table.num_columns))
    field = table.schema.field(column)
    values = table[column].to_pylist()
    rows = range(len(values)) if rng.random() < 0.3 else [int(rng.integers(len(values)))]
    if pa.types.is_list(field.type):
        choices = VALUES[str(field.type.value_type)]
        lists = [None, [], [choices[rng.integers(len(choices))]] * 3, [choices[rng.integers(len(choices))]] * 8]
        new = lists[rng.integers(len(lists))]
    else:
        choices = VALUES[str(field.type)]
        new = choices[rng.integers(len(choices))]
    for row in rows:
        values[row] = copy.copy(new)
    return table.set_column(column, field, pa.array(values, field.type))


def _other_type(table: pa.Table, rng: Rng) -> pa.Table:
    """Change the type of a column."""
    column = int(rng.integers(table.num_columns))
    kinds = [pa.string(), pa.int64(), pa.float64(), pa.binary(), pa.list_(pa.int8()), pa.null(), pa.timestamp("us")]
    values = [None] * len(table) if rng.random() < 0.5 else ["1"] * len(table)
    kind = kinds[rng.integers(len(kinds))]
    try:
        new = pa.array(values, kind)
    except (pa.ArrowException, TypeError):
        new = pa.nulls(len(table), kind)
    return table.set_column(column, table.column_names[column], new)


def _rows(table: pa.Table, rng: Rng) -> pa.Table:
    """Lose, repeat or shuffle rows."""
    size = len(table)
    half = np.sort(rng.permutation(size)[: size // 2])
    picks = [[], half, np.repeat(np.arange(size), 2), rng.permutation(size), [0] * size, [0]]
    return table.take(pa.array(picks[rng.integers(len(picks))], pa.int64()))


def _columns(table: pa.Table, rng: Rng) -> pa.Table:
    """Lose, rename or repeat a column, or the facts."""
    column = int(rng.integers(table.num_columns))
    name = table.column_names[column]
    changes = [
        lambda: table.remove_column(column),
        lambda: table.rename_columns({name: "other"}),
        lambda: table.append_column(name, table[column]),
        lambda: table.append_column("other", table[column]),
        lambda: table.replace_schema_metadata({"facts": "[[["}),
        lambda: table.replace_schema_metadata({"facts": '{"n_out": {"fan": "many"}}'}),
        lambda: table.select(table.column_names[::-1]),
    ]
    return changes[rng.integers(len(changes))]()


# ---------------------------------------------------------------- whole tables


def make(folder: Path) -> None:
    """Write the tables of a small data set, its pool and a stage."""
    rng = np.random.default_rng(0)
    names = [
        (machine, split, domain, is_normal)
        for machine in ("fan", "pump")
        for split, domain, is_normal in (
            *[("train", "source", True)] * 5,
            *[("train", "target", True)] * 2,
            *[("test", domain, normal) for domain in ("source", "target") for normal in (True, False)] * 2,
        )
    ]
    clips = pd.DataFrame(names, columns=["machine", "split", "domain", "is_normal"])
    clips["clip_id"] = [f"{each.machine}/{each.split}/{number}.wav" for number, each in enumerate(clips.itertuples())]
    facts = {"dataset": "d", "section": "00", "part": "dev", "attributes": None, "sample_rate": 16_000}
    soundfile.write(folder / "clip.wav", 0.1 * rng.standard_normal(3000), 16_000)
    clips = clips.assign(path=str(folder / "clip.wav"), num_frames=3000, **facts)
    names = (*SCHEMAS, "train_clips", "test_clips", "test_embeddings", "pool_waveforms")
    at = {name: folder / f"{name}.parquet" for name in names}
    write_table("clips", clips, at["clips"])
    for split in SPLITS:
        write_table("clips", clips[clips.split == split], at[f"{split}_clips"])
    train, test = (clips[clips.split == split] for split in SPLITS)
    lengths = rng.integers(2048, 4000, len(train))
    index = pd.DataFrame({"clip_id": train.clip_id, "offset": lengths.cumsum() - lengths, "num_samples": lengths})
    write_table("waveforms", index, at["waveforms"])
    (folder / "samples.int16").write_bytes(rng.bytes(2 * int(lengths.sum())))
    for part, name in ((train, "embeddings"), (test, "test_embeddings")):
        vectors = rng.standard_normal((len(part), 8)).astype(np.float32)
        write_table("embeddings", part.assign(embedding=list(vectors)), at[name])
    represent(settings("represent"), 0, at["train_clips"], at["embeddings"], at["representatives"])
    inputs = at["train_clips"], at["embeddings"], at["test_clips"], at["test_embeddings"]
    score(settings("score"), 0, *inputs, at["scores"], at["thresholds"], at["representatives"])
    pseudo_label(settings("pseudo_label"), 0, at["train_clips"], at["embeddings"], at["pseudo_labels"])
    evaluate("d", "ba_ex", 2, 0, at["clips"], at["scores"], folder / "auc.csv")
    pool = pd.DataFrame({"clip_id": [f"pool/{number}.wav" for number in range(20)], "dataset": "p"})
    pool = pool.assign(path=str(folder / "clip.wav"), mids=[["/m/1", "/m/2"]] * 20)
    pool = pool.assign(display_names=pool.mids, shard=np.arange(20) // 10, row=pd.array([None] * 20, dtype="Int32"))
    write_table("pool_clips", pool, at["pool_clips"], groups="shard")
    packed = pd.DataFrame({"clip_id": pool.clip_id, "offset": np.arange(20) * 100, "num_samples": 100})
    write_table("waveforms", packed, at["pool_waveforms"])
    external = pool.assign(machine=["fan", "pump"] * 10, score=-rng.random(20))
    write_table("external_scores", external, at["external_scores"])
    files = at["pool_clips"], at["selected"], at["representatives"]
    select(settings("select"), 1, 0, *files, scores=[at["external_scores"]])
