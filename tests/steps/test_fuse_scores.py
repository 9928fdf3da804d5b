"""Fused scores of real score tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.method import Method
from asdpipe.errors import UserError
from asdpipe.steps.evaluate import evaluate
from asdpipe.steps.fuse_scores import fuse_scores
from asdpipe.steps.score import score
from asdpipe.steps.write_submission import write_submission
from tests.embedded import Files, read_embedded, write_embedded

BACKENDS = ("knn", "city_block")


def settings(scale: str = "z_score", *methods: str) -> str:
    fusion = {"methods": methods or BACKENDS, "scale": scale}
    return as_json(Method(fusion=fusion).fuse_settings())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_embedded(tmp_path)


@pytest.fixture
def tables(files, tmp_path) -> list[Path]:
    for kind in BACKENDS:
        used = as_json(Method(inference={"backend": kind}).score_settings())
        score(used, 0, **files, scores=tmp_path / kind, thresholds=tmp_path / "thresholds")
    return [tmp_path / kind for kind in BACKENDS]


def fused(files: Files, tables: list[Path], folder: Path, used: str | None = None) -> pd.DataFrame:
    lists = {name: files[name] for name in ("train_clips", "test_clips")}
    fuse_scores(
        used or settings(), **lists, scores=tables, fused=folder / "fused.parquet", thresholds=folder / "limits.parquet"
    )
    return read_table("scores", folder / "fused.parquet").set_index("clip_id")


@pytest.mark.parametrize("scale", ["z_score", "rank"])
def test_scores_are_fused_machine_type_by_machine_type(files, tables, tmp_path, scale):
    found = fused(files, tables, tmp_path, settings(scale))
    train, test = read_embedded(files)
    assert sorted(found.index) == sorted([*train.clip_id, *test.clip_id])
    assert found.nearest_clip_id.isna().all()
    assert found.representative.isna().all()
    limits = read_table("thresholds", tmp_path / "limits.parquet").set_index("machine")
    for machine, own in train.groupby("machine"):
        clips = [*own.clip_id, *test.clip_id[test.machine == machine]]
        expected = np.zeros(len(clips))
        for file in tables:
            values = read_table("scores", file).set_index("clip_id").score
            training = values[own.clip_id].to_numpy()
            if scale == "z_score":
                expected += (values[clips] - training.mean()).to_numpy() / training.std() / 2
            else:
                below = [(training < value).mean() + (training == value).mean() / 2 for value in training]
                expected[: len(own)] += np.array(below) / 2
        known = slice(None) if scale == "z_score" else slice(len(own))
        assert found.score[clips].to_numpy()[known] == pytest.approx(expected[known])
        assert limits.threshold[machine] == found.score[own.clip_id].max()
        assert limits.decision_threshold[machine] == pytest.approx(np.quantile(found.score[own.clip_id], 0.9))


def test_fused_scores_are_evaluated_and_submitted_like_others(files, tables, tmp_path):
    fused(files, tables, tmp_path)
    train, test = (read_table("clips", files[f"{split}_clips"]) for split in ("train", "test"))
    is_normal = pd.Series(np.arange(len(test)) % 2 == 0, dtype=object, index=test.index)
    labelled = pd.concat(
        [train.assign(is_normal=pd.Series([True] * len(train), dtype=object)), test.assign(is_normal=is_normal)]
    )
    write_table("clips", labelled.assign(path="recordings/" + labelled.clip_id), tmp_path / "labelled")
    scores = {"clips": tmp_path / "labelled", "scores": tmp_path / "fused.parquet"}
    evaluate("d", "both", 1, 0, **scores, auc=tmp_path / "auc.csv")
    auc = pd.read_csv(tmp_path / "auc.csv").auc
    assert auc.between(0, 100).all()
    write_submission(**scores, thresholds=tmp_path / "limits.parquet", folder=tmp_path / "submission")
    assert len(list((tmp_path / "submission").iterdir())) == 4


def test_labels_of_test_clips_change_nothing(files, tables, tmp_path):
    before = fused(files, tables, tmp_path)
    test = read_table("clips", files["test_clips"])
    write_table("clips", test.assign(is_normal=False), files["test_clips"])
    pd.testing.assert_frame_equal(fused(files, tables, tmp_path), before, check_exact=True)


def damaged(file: Path, folder: Path, change) -> Path:
    write_table("scores", change(read_table("scores", file)), folder / "damaged")
    return folder / "damaged"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.iloc[1:], "damaged: has scores of other clips than .*knn, e.g. .*; delete both"),
        (lambda table: table.assign(clip_id="x" + table.clip_id), "damaged: has scores of other clips than"),
    ],
)
def test_tables_of_different_clips_are_refused(files, tables, tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        fused(files, [tables[0], damaged(tables[1], tmp_path, change)], tmp_path)
    assert not (tmp_path / "fused.parquet").exists()


def test_clips_that_are_not_listed_and_missing_tables_are_refused(files, tables, tmp_path):
    write_table("clips", read_table("clips", files["test_clips"]).iloc[1:], files["test_clips"])
    with pytest.raises(UserError, match=r"knn: has clips that .*train_clips and .*test_clips lack"):
        fused(files, tables, tmp_path)
    with pytest.raises(UserError, match="3 methods, but 2 tables of scores"):
        fused(files, tables, tmp_path, settings("rank", "a", "b", "c"))
