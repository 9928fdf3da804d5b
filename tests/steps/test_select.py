"""The selection step on tables: labels, ranks, random selection, nothing selected."""

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.iteration import External
from asdpipe.config.method import SelectSettings
from asdpipe.errors import UserError
from asdpipe.steps.select import select
from tests.conftest import read_facts

POOL = pd.DataFrame(
    {
        "clip_id": [f"c{number}" for number in range(6)],
        "path": [f"audio/c{number}.wav" for number in range(6)],
        "dataset": "pool",
        "shard": [0, 0, 0, 1, 1, 1],
        "mids": [["/m/1", "/m/2"], ["/m/2"], ["/m/3", "/m/1"], ["/m/1"], ["/m/1"], ["/m/2"]],
        "display_names": [["One", "Two"], ["Two"], ["Three", "One"], ["One"], ["One"], ["Two"]],
        "row": None,
    }
)


def settings(**external) -> str:
    return as_json(SelectSettings(external=External(**external)))


def write_representatives(machines, file) -> None:
    """Write a table that names the machine types: all that selection asks of it."""
    frame = pd.DataFrame({"machine": machines, "domain": "source", "representative": 0, "clip_id": "x"})
    write_table("representatives", frame.assign(threshold=-0.5, vector=[[1.0]] * len(machines)), file)


@pytest.fixture
def files(tmp_path):
    write_table("pool_clips", POOL, tmp_path / "pool.parquet")
    indices, scores = [], []
    rows = {
        0: [("c0", "fan", -0.9), ("c0", "valve", -0.95), ("c1", "fan", -0.99), ("c2", "fan", -0.8)],
        1: [("c3", "fan", -0.9), ("c4", "valve", -0.7)],
    }
    for shard, listed in rows.items():
        # c5 could not be decoded: it is in the manifest, but not packed.
        packed = POOL[(POOL.shard == shard) & (POOL.clip_id != "c5")].assign(offset=0, num_samples=1)
        indices.append(tmp_path / f"index{shard}.parquet")
        write_table("waveforms", packed, indices[-1])
        scores.append(tmp_path / f"scores{shard}.parquet")
        write_table("external_scores", pd.DataFrame(listed, columns=["clip_id", "machine", "score"]), scores[-1])
    write_representatives(["fan", "pump", "valve"], tmp_path / "representatives.parquet")
    return {
        "pool_clips": tmp_path / "pool.parquet",
        "pool_index": indices,
        "representatives": tmp_path / "representatives.parquet",
        "selected": tmp_path / "selected.parquet",
    }, scores


def test_the_first_label_counts_and_ranks_follow_the_scores(files):
    paths, scores = files
    select(settings(n_max=2), 1, 0, **paths, scores=scores)
    selected = pd.read_parquet(paths["selected"])
    rows = selected[["clip_id", "machine", "mid", "display_name", "rank", "shard"]].to_numpy().tolist()
    assert rows == [
        ["c1", "fan", "/m/2", "Two", 1, 0],
        ["c3", "fan", "/m/1", "One", 2, 1],
        ["c0", "valve", "/m/1", "One", 1, 0],
        ["c4", "valve", "/m/1", "One", 2, 1],
    ]
    assert read_facts(paths["selected"])["n_out"] == {"fan": 3, "valve": 2}


def test_random_selection_draws_packed_clips_by_seed_and_stage(files):
    paths, _ = files
    drawn = []
    for stage, seed in ((1, 0), (1, 0), (2, 0), (1, 1)):
        select(settings(n_max=1, selection="random"), stage, seed, **paths)
        selected = pd.read_parquet(paths["selected"])
        assert selected.machine.tolist() == ["fan", "pump", "valve"]
        assert selected.clip_id.is_unique
        assert "c5" not in set(selected.clip_id)
        assert selected.score.isna().all()
        drawn.append(tuple(selected.clip_id))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_clips_of_an_unpacked_pool_are_drawn_from_its_manifest(files):
    paths, _ = files
    select(settings(n_max=2, selection="random"), 1, 0, **paths | {"pool_index": []})
    assert sorted(read_table("selected", paths["selected"]).clip_id) == sorted(POOL.clip_id)


def test_stage_0_draws_at_random_for_the_machine_types_of_the_data_set(files, tmp_path):
    paths, scores = files
    names = ["pump", "fan", "pump", "fan"]
    clips = pd.DataFrame({"clip_id": list("abcd"), "path": "x", "dataset": "set", "machine": names, "section": "00"})
    clips = clips.assign(domain="source", split="train", part="dev", is_normal=True, attributes=None)
    write_table("clips", clips.assign(sample_rate=16_000, num_frames=1), tmp_path / "clips.parquet")
    without = {name: file for name, file in paths.items() if name != "representatives"}
    used = settings(n_max=2, first_stage="random")
    select(used, 0, 0, **without, clips=tmp_path / "clips.parquet")
    drawn = read_table("selected", paths["selected"])
    assert drawn.machine.tolist() == ["fan", "fan", "pump", "pump"]
    assert drawn["rank"].tolist() == [1, 2, 1, 2]
    assert drawn.clip_id.is_unique
    assert drawn.score.isna().all()
    labels = POOL.set_index("clip_id").mids.str[0]
    assert (labels[drawn.clip_id].to_numpy() == drawn.mid).all()
    # From stage 1 on the scores decide.
    select(used, 1, 0, **paths, scores=scores)
    assert read_table("selected", paths["selected"]).score.notna().all()
    with pytest.raises(UserError, match="needs --representatives, or --clips"):
        select(used, 0, 0, **without)
    with pytest.raises(UserError, match="needs --scores"):
        select(used, 1, 0, **paths)


def write_training(folder, **clips: list[str]) -> dict:
    """Write manifest and index of the training clips of each machine type, by their domains."""
    rows = [(machine, domain) for machine, domains in clips.items() for domain in domains]
    table = pd.DataFrame(rows, columns=["machine", "domain"]).assign(path="x", dataset="set", section="00")
    table = table.assign(split="train", part="dev", is_normal=True, attributes=None, sample_rate=16_000, num_frames=1)
    table["clip_id"] = [f"t{number}" for number in range(len(table))]
    write_table("clips", table, folder / "train.parquet")
    # The last clip could not be decoded.
    write_table("waveforms", table[:-1].assign(offset=0, num_samples=1), folder / "index.parquet")
    return {"clips": folder / "train.parquet", "index": folder / "index.parquet"}


def test_as_many_clips_as_a_machine_type_trains_on_are_selected_if_n_max_is_auto(files, tmp_path, caplog):
    paths, scores = files
    training = write_training(tmp_path, fan=["source"], pump=["source"] * 2, valve=["source", "target", None])
    with caplog.at_level("INFO"):
        select(settings(n_max="auto"), 1, 0, **paths, **training, scores=scores)
    selected = read_table("selected", paths["selected"])
    assert selected[["clip_id", "machine"]].to_numpy().tolist() == [["c1", "fan"], ["c0", "valve"], ["c4", "valve"]]
    limits = {"fan": 1, "pump": 2, "valve": 2}
    facts = read_facts(paths["selected"])
    assert (facts["n_out"], facts["resolved"]) == ({"fan": 3, "valve": 2}, {"external.n_max": limits})
    assert "auto: external.n_max 1 (fan) or 2 (pump, valve)" in caplog.text
    # At random, too, as far as the pool goes: five clips, at most one each.
    select(settings(n_max="auto", selection="random"), 1, 0, **paths, **training)
    assert read_table("selected", paths["selected"]).machine.tolist() == ["fan", "pump", "valve"]
    with pytest.raises(UserError, match=r"needs --clips and --index for external\.n_max: auto"):
        select(settings(n_max="auto"), 1, 0, **paths, scores=scores)
    training = write_training(tmp_path, fan=["source"] * 2, valve=["source"])
    with pytest.raises(UserError, match=r"index\.parquet: has no clip of pump, valve; delete"):
        select(settings(n_max="auto"), 1, 0, **paths, **training, scores=scores)


@pytest.mark.parametrize(
    ("row", "words"),
    [(("gone", "fan", -0.9), "the clip gone, which is not there"), (("c0", "saw", -0.9), "the machine type saw")],
)
def test_scores_of_what_is_no_longer_there_are_refused(files, tmp_path, row, words):
    paths, scores = files
    foreign = pd.DataFrame([("c0", "fan", -0.8), row], columns=["clip_id", "machine", "score"])
    write_table("external_scores", foreign, tmp_path / "foreign.parquet")
    with pytest.raises(UserError, match=words):
        select(settings(), 1, 0, **paths, scores=[*scores, tmp_path / "foreign.parquet"])


def test_many_scores_in_many_files_are_selected_as_a_plain_sort_would(tmp_path):
    rng = np.random.default_rng(0)
    pool = pd.concat([POOL.assign(clip_id=[f"{n}/{each}" for each in POOL.clip_id]) for n in range(50)])
    write_table("pool_clips", pool, tmp_path / "pool.parquet")
    machines = ["fan", "pump", "valve"]
    write_representatives(machines, tmp_path / "representatives.parquet")
    pairs = pd.DataFrame(
        [(clip, machine) for clip in pool.clip_id for machine in machines], columns=["clip_id", "machine"]
    )
    pairs = pairs.assign(score=-rng.random(len(pairs))).sample(300, random_state=0)
    files = [tmp_path / f"{number}.parquet" for number in range(10)]
    for number, file in enumerate(files):
        write_table("external_scores", pairs.iloc[30 * number : 30 * number + 30], file)
    paths = {"pool_clips": tmp_path / "pool.parquet", "representatives": tmp_path / "representatives.parquet"}
    select(settings(n_max=20), 1, 0, **paths, scores=files, selected=tmp_path / "selected.parquet")
    # Every clip to the machine type with its lowest score, the 20 lowest of each.
    best = pairs.sort_values("score").drop_duplicates("clip_id").groupby("machine").head(20)
    expected = best.sort_values(["machine", "score"])
    selected = read_table("selected", tmp_path / "selected.parquet")
    columns = ["clip_id", "machine", "score"]
    pd.testing.assert_frame_equal(selected[columns], expected[columns].reset_index(drop=True), check_dtype=False)
    chosen = pool.set_index("clip_id").loc[selected.clip_id]
    assert (chosen.path.to_numpy() == selected.path).all()
    assert (chosen.mids.str[0].to_numpy() == selected.mid).all()
    assert (chosen.shard.to_numpy() == selected.shard).all()


def test_an_empty_selection_is_written_and_mentioned(files, caplog):
    paths, _ = files
    empty = paths["selected"].with_name("empty.parquet")
    write_table("external_scores", pd.DataFrame({"clip_id": [], "machine": [], "score": []}), empty)
    select(settings(), 1, 0, **paths, scores=[empty])
    assert pd.read_parquet(paths["selected"]).empty
    assert "trains without external clips" in caplog.text
