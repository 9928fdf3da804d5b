"""Scores from embeddings, whatever the back end."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.inference import Backend, Inference
from asdpipe.config.method import Method
from asdpipe.errors import UserError
from asdpipe.steps.represent import represent
from asdpipe.steps.score import score
from tests.embedded import Files, of_split, read_embedded, write_embedded
from tests.steps.test_represent import DAMAGES


def settings(kind: str = "kmeans", similarity: str = "cosine", **backend) -> str:
    inference = Inference(k_source=3, similarity=similarity, backend={"kind": kind, **backend})
    return as_json(Method(inference=inference).score_settings())


@pytest.fixture
def files(tmp_path) -> Files:
    return write_embedded(tmp_path)


@pytest.fixture
def representatives(files, tmp_path) -> Path:
    used = as_json(Method(inference=Inference(k_source=3)).represent_settings())
    represent(used, 0, **of_split(files), representatives=tmp_path / "representatives")
    return tmp_path / "representatives"


def scored(files: Files, folder: Path, settings: str, **more: Path) -> tuple[pd.Series, pd.DataFrame]:
    score(settings, 0, **files, scores=folder / "scores", thresholds=folder / "thresholds", **more)
    frame = read_table("scores", folder / "scores").set_index("clip_id")
    return frame.score, frame


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_papers_score_is_minus_the_similarity_to_the_nearest_representative(
    files, representatives, tmp_path, similarity
):
    used = as_json(Method(inference=Inference(k_source=3, similarity=similarity)).represent_settings())
    represent(used, 0, **of_split(files), representatives=representatives)
    scores, frame = scored(files, tmp_path, settings(similarity=similarity), representatives=representatives)
    train, test = read_embedded(files)
    table = read_table("representatives", representatives)
    assert sorted(scores.index) == sorted([*train.clip_id, *test.clip_id])
    for clip in pd.concat([train, test]).itertuples():
        part = table[table.machine == clip.machine].reset_index(drop=True)
        lengths = [np.linalg.norm(vector) if similarity == "cosine" else 1 for vector in part.vector]
        similar = [vector @ clip.z / length for vector, length in zip(part.vector, lengths, strict=True)]
        assert scores[clip.clip_id] == pytest.approx(-max(similar), abs=1e-6)
        assert frame.representative[clip.clip_id] == np.argmax(similar)
        assert frame.nearest_clip_id[clip.clip_id] == part.clip_id[np.argmax(similar)]
    limits = read_table("thresholds", tmp_path / "thresholds").set_index("machine").threshold
    # External clips are held against the scores of the training clips.
    assert limits.to_dict() == table.groupby("machine").threshold.first().to_dict()
    assert limits.to_dict() == {machine: scores[own.clip_id].max() for machine, own in train.groupby("machine")}


@pytest.mark.parametrize("k", [1, 2])
def test_nearest_neighbours_are_training_clips_of_one_domain_but_never_the_clip_itself(files, tmp_path, k):
    scores, frame = scored(files, tmp_path, settings("knn", neighbours=k))
    train, test = read_embedded(files)
    for clip in pd.concat([train, test]).itertuples():
        others = train[(train.machine == clip.machine) & (train.clip_id != clip.clip_id)]
        cosines = {
            domain: sorted((z @ clip.z for z in part.z), reverse=True) for domain, part in others.groupby("domain")
        }
        assert scores[clip.clip_id] == pytest.approx(-max(np.mean(each[:k]) for each in cosines.values()), abs=1e-6)
        nearest = max(others.itertuples(), key=lambda other: other.z @ clip.z)
        assert frame.nearest_clip_id[clip.clip_id] == nearest.clip_id
    limits = read_table("thresholds", tmp_path / "thresholds").set_index("machine")
    for machine, own in train.groupby("machine"):
        assert limits.threshold[machine] == scores[own.clip_id].max()
        assert scores[own.clip_id].min() < limits.decision_threshold[machine] <= 1


def test_smote_can_only_bring_test_clips_nearer_and_depends_on_the_seed(files, tmp_path):
    plain, _ = scored(files, tmp_path, settings("knn"))
    used = settings("knn", smote_ratio=2.0, smote_neighbours=1)
    more, frame = scored(files, tmp_path, used)
    train, test = read_embedded(files)
    assert (more[test.clip_id] <= plain[test.clip_id] + 1e-7).all()
    assert (more[test.clip_id] < plain[test.clip_id] - 1e-3).any()
    assert set(frame.nearest_clip_id) <= set(train.clip_id)
    # Nor is a clip its own neighbour by way of a synthetic one: both target clips of fan are ends of all of these.
    fan = train[(train.machine == "fan") & (train.domain == "target")].clip_id
    assert more[fan].tolist() == plain[fan].tolist()
    score(used, 1, **files, scores=tmp_path / "other", thresholds=tmp_path / "thresholds")
    other = read_table("scores", tmp_path / "other").set_index("clip_id").score
    assert not np.allclose(other, more)


def test_rescaled_scores_divide_distances_by_the_spacing_around_the_training_clip(files, tmp_path):
    scores, _ = scored(files, tmp_path, settings("rescaled", density_neighbours=2))
    train, test = read_embedded(files)
    for machine, own in train.groupby("machine"):
        spacing = [
            np.mean(sorted(np.linalg.norm(z - other) for row, other in enumerate(own.z) if row != place)[:2])
            for place, z in enumerate(own.z)
        ]
        for clip in test[test.machine == machine].itertuples():
            ratios = [np.linalg.norm(clip.z - z) / around for z, around in zip(own.z, spacing, strict=True)]
            assert scores[clip.clip_id] == pytest.approx(min(ratios) - 1, abs=1e-6)


@pytest.mark.parametrize("kind", ["rescaled", "shrinkage_mahalanobis"])
def test_per_domain_changes_scores(files, tmp_path, kind):
    together, frame = scored(files, tmp_path, settings(kind))
    apart, _ = scored(files, tmp_path, settings(kind, per_domain=True))
    train, _ = read_embedded(files)
    assert not np.allclose(together, apart)
    assert np.isfinite(apart).all()
    assert set(frame.nearest_clip_id) <= set(train.clip_id)


def test_city_block_distances_are_to_another_training_clip_with_every_dimension_scaled_by_its_spread(files, tmp_path):
    scores, frame = scored(files, tmp_path, settings("city_block"))
    train, test = read_embedded(files)
    for clip in pd.concat([train, test]).itertuples():
        own = train[train.machine == clip.machine]
        spread = np.stack(list(own.embedding)).astype(float).std(axis=0)
        others = own[own.clip_id != clip.clip_id]
        distances = [np.abs((other - clip.embedding) / spread).sum() for other in others.embedding]
        assert scores[clip.clip_id] == pytest.approx(min(distances), abs=1e-5)
        assert frame.nearest_clip_id[clip.clip_id] == others.clip_id.iloc[np.argmin(distances)]


def test_the_autoencoders_scores_are_its_error_or_the_smaller_distance(files, tmp_path):
    train, test = read_embedded(files)
    distances = pd.DataFrame(list(test.embedding), index=test.clip_id).abs()
    frame = pd.DataFrame({"clip_id": distances.index, "embedding": distances.to_numpy().tolist()})
    write_table("embeddings", frame, files["test_embeddings"])
    frame = pd.DataFrame({"clip_id": train.clip_id, "embedding": [[0.5, 2.0, np.nan]] * len(train)})
    write_table("embeddings", frame, files["train_embeddings"])
    simple, table = scored(files, tmp_path, settings("reconstruction"))
    assert simple[distances.index].to_numpy() == pytest.approx(distances[0].to_numpy())
    assert table.nearest_clip_id.isna().all()
    assert table.representative.isna().all()
    limits = read_table("thresholds", tmp_path / "thresholds")
    assert limits.decision_threshold.to_numpy() == pytest.approx(0.5)
    selective, _ = scored(files, tmp_path, settings("mahalanobis"))
    assert selective[distances.index].to_numpy() == pytest.approx(distances[[1, 2]].min(axis=1).to_numpy())
    # Without target training clips there is no distance to them.
    assert (selective[train.clip_id] == 2).all()


def test_the_papers_scores_need_representatives_and_others_take_none(files, representatives, tmp_path):
    with pytest.raises(UserError, match="needs --representatives"):
        scored(files, tmp_path, settings())
    alone, _ = scored(files, tmp_path, settings("knn"))
    beside, _ = scored(files, tmp_path, settings("knn"), representatives=representatives)
    assert alone.equals(beside)


# ---------------------------------------------------------------- without test clips, or without training clips


KINDS = get_args(get_args(Backend)[0])


@pytest.mark.parametrize("kind", [each.model_fields["kind"].default for each in KINDS])
def test_without_test_clips_the_training_clips_are_scored_as_with_them(files, representatives, tmp_path, kind):
    more = {"representatives": representatives} if kind == "kmeans" else {}
    with_test, _ = scored(files, tmp_path, settings(kind), **more)
    limits = read_table("thresholds", tmp_path / "thresholds")
    for table in ("clips", "embeddings"):
        write_table(table, read_table(table, files[f"test_{table}"]).head(0), files[f"test_{table}"])
    scores, _ = scored(files, tmp_path, settings(kind), **more)
    train, _ = read_embedded(files)
    assert sorted(scores.index) == sorted(train.clip_id)
    assert scores.to_dict() == with_test[scores.index].to_dict()
    pd.testing.assert_frame_equal(read_table("thresholds", tmp_path / "thresholds"), limits, check_exact=True)


def without_pump(files: Files, split: str) -> None:
    clips = read_table("clips", files[f"{split}_clips"])
    kept = clips[clips.machine != "pump"]
    embeddings = read_table("embeddings", files[f"{split}_embeddings"])
    write_table("clips", kept, files[f"{split}_clips"])
    write_table("embeddings", embeddings[embeddings.clip_id.isin(kept.clip_id)], files[f"{split}_embeddings"])


def test_a_machine_type_without_training_clips_is_named(files, representatives, tmp_path):
    without_pump(files, "train")
    for kind, more in (("kmeans", {"representatives": representatives}), ("city_block", {})):
        said = r"^pump: has test clips but no training clips; add some, or leave it out of the data set's machines$"
        with pytest.raises(UserError, match=said):
            scored(files, tmp_path, settings(kind), **more)
    assert not (tmp_path / "scores").exists()


def test_a_machine_type_without_test_clips_has_scores_of_its_training_clips(files, tmp_path):
    without_pump(files, "test")
    scores, _ = scored(files, tmp_path, settings("knn"))
    train, test = read_embedded(files)
    assert sorted(scores.index) == sorted([*train.clip_id, *test.clip_id])
    assert read_table("thresholds", tmp_path / "thresholds").machine.tolist() == ["fan", "pump"]


# ---------------------------------------------------------------- tables that do not belong together, or are damaged


def changed(files: Files, split: str, folder: Path, change) -> Files:
    """Return the files with other embeddings of a split."""
    name = f"{split}_embeddings"
    write_table("embeddings", change(read_table("embeddings", files[name])), folder / "changed")
    return files | {name: folder / "changed"}


# A data set may have no test clips.
@pytest.mark.parametrize(
    ("split", "said"), [*(("train", said) for said in DAMAGES), *(("test", said) for said in list(DAMAGES)[:-1])]
)
def test_embeddings_that_cannot_be_scored_are_refused(files, representatives, tmp_path, split, said):
    other = changed(files, split, tmp_path, DAMAGES[said])
    with pytest.raises(UserError, match=f"changed: .*{said}.*; delete it and run again"):
        scored(other, tmp_path, settings(), representatives=representatives)
    assert not (tmp_path / "scores").exists()


def test_embeddings_of_another_network_are_refused(files, representatives, tmp_path):
    other = changed(files, "test", tmp_path, lambda frame: frame.assign(embedding=[np.ones(4)] * len(frame)))
    said = rf"changed: is of another network than {re.escape(str(files['train_embeddings']))}; delete both"
    with pytest.raises(UserError, match=said):
        scored(other, tmp_path, settings(), representatives=representatives)


def test_a_score_that_is_not_a_number_is_refused(files, tmp_path):
    # An autoencoder's distances may be NaN, but not all of them.
    used = settings("mahalanobis")
    scored(
        changed(files, "train", tmp_path, lambda frame: frame.assign(embedding=[[1, 2, np.nan]] * len(frame))),
        tmp_path,
        used,
    )
    for split in ("train", "test"):
        nothing = changed(
            files, split, tmp_path, lambda frame: frame.assign(embedding=[[1, np.nan, np.nan]] * len(frame))
        )
        with pytest.raises(UserError, match=rf"changed: the score of {split}\d+ is not a number"):
            scored(nothing, tmp_path, used)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame[frame.machine == "fan"], "has none of machine type pump"),
        (lambda frame: frame.assign(vector=[[1.0, 2.0]] * len(frame)), "has 2 numbers, not 3"),
        (lambda frame: frame.assign(vector=[[1.0, np.inf, 1.0]] * len(frame)), "is not finite"),
        (lambda frame: frame.head(0), "has no row"),
    ],
)
def test_representatives_of_something_else_are_refused(files, representatives, tmp_path, change, said):
    write_table("representatives", change(read_table("representatives", representatives)), tmp_path / "other")
    with pytest.raises(UserError, match=f"other: .*{said}"):
        scored(files, tmp_path, settings(), representatives=tmp_path / "other")
