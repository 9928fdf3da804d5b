"""Representatives and scores from embeddings, whatever the back end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.errors import UserError
from asdpipe.steps.score import represent, score

TRAIN = {"fan": ("source",) * 8 + ("target",) * 2, "pump": ("source",) * 6 + ("target",) * 3}


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Two machine types with random embeddings: training clips, and four test clips of each."""
    rows = [
        (machine, split, domain)
        for machine, domains in TRAIN.items()
        for split, domain in [*(("train", each) for each in domains), *(("test", "source"),) * 4]
    ]
    clips = pd.DataFrame(rows, columns=["machine", "split", "domain"])
    clips = clips.assign(
        clip_id=[f"c{number}" for number in range(len(rows))], path="x", dataset="d", section="00", part="dev"
    )
    clips = clips.assign(is_normal=True, attributes=None, sample_rate=16_000, num_frames=1)
    # In another order than the embeddings.
    write_table("clips", clips.sample(frac=1, random_state=0), tmp_path / "clips")
    vectors = np.random.default_rng(0).standard_normal((len(rows), 3)).astype(np.float32)
    frame = pd.DataFrame({"clip_id": clips.clip_id, "embedding": list(vectors)})
    write_table("embeddings", frame, tmp_path / "embeddings")
    return {"clips": tmp_path / "clips", "embeddings": tmp_path / "embeddings"}


def tables(files: dict[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and test clips with unit vectors in column z."""
    table = read_table("clips", files["clips"]).merge(read_table("embeddings", files["embeddings"]), on="clip_id")
    table["z"] = [np.asarray(each, dtype=float) / np.linalg.norm(each) for each in table.embedding]
    return table[table.split == "train"], table[table.split == "test"]


def scored(files: dict[str, Path], folder: Path, settings: str, **more: Path) -> tuple[pd.Series, pd.DataFrame]:
    score(settings, 0, **files, scores=folder / "scores", thresholds=folder / "thresholds", **more)
    frame = read_table("scores", folder / "scores").set_index("clip_id")
    return frame.score, frame


def test_representatives_are_centroids_and_target_clips_and_know_the_selection_threshold(files, tmp_path):
    represent(3, 0, **files, representatives=tmp_path / "representatives")
    table = read_table("representatives", tmp_path / "representatives")
    train, _ = tables(files)
    for machine, part in table.groupby("machine"):
        own = train[train.machine == machine]
        target = own[own.domain == "target"]
        assert (part.domain == "source").sum() == 3
        assert part.clip_id[part.domain == "target"].tolist() == target.clip_id.tolist()
        centres = np.stack(list(part.vector)) / np.linalg.norm(np.stack(list(part.vector)), axis=1, keepdims=True)
        largest = max(-max(centre @ z for centre in centres) for z in own.z)
        assert part.threshold.to_numpy() == pytest.approx(largest, abs=1e-6)
        scores, _ = scored(files, tmp_path, "{}", representatives=tmp_path / "representatives")
        assert scores[own.clip_id].max() == part.threshold.iloc[0]
    limits = read_table("thresholds", tmp_path / "thresholds").set_index("machine").threshold
    assert limits.to_dict() == table.groupby("machine").threshold.first().to_dict()


@pytest.mark.parametrize("k", [1, 2])
def test_nearest_neighbours_are_training_clips_of_one_domain_but_never_the_clip_itself(files, tmp_path, k):
    settings = f'{{"inference": {{"backend": "knn", "neighbours": {k}}}}}'
    scores, frame = scored(files, tmp_path, settings)
    train, test = tables(files)
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
    plain, _ = scored(files, tmp_path, '{"inference": {"backend": "knn"}}')
    settings = '{"inference": {"backend": "knn", "smote_ratio": 2.0, "smote_neighbours": 1}}'
    more, frame = scored(files, tmp_path, settings)
    train, test = tables(files)
    assert (more[test.clip_id] <= plain[test.clip_id] + 1e-7).all()
    assert (more[test.clip_id] < plain[test.clip_id] - 1e-3).any()
    assert set(frame.nearest_clip_id) <= set(train.clip_id)
    # Nor is a clip its own neighbour by way of a synthetic one: both target clips of fan are ends of all of these.
    fan = train[(train.machine == "fan") & (train.domain == "target")].clip_id
    assert more[fan].tolist() == plain[fan].tolist()
    score(settings, 1, **files, scores=tmp_path / "other", thresholds=tmp_path / "thresholds")
    other = read_table("scores", tmp_path / "other").set_index("clip_id").score
    assert not np.allclose(other, more)


def test_rescaled_scores_divide_distances_by_the_spacing_around_the_training_clip(files, tmp_path):
    settings = '{"inference": {"backend": "rescaled", "density_neighbours": 2}}'
    scores, _ = scored(files, tmp_path, settings)
    train, test = tables(files)
    for machine, own in train.groupby("machine"):
        spacing = [
            np.mean(sorted(np.linalg.norm(z - other) for row, other in enumerate(own.z) if row != place)[:2])
            for place, z in enumerate(own.z)
        ]
        for clip in test[test.machine == machine].itertuples():
            ratios = [np.linalg.norm(clip.z - z) / around for z, around in zip(own.z, spacing, strict=True)]
            assert scores[clip.clip_id] == pytest.approx(min(ratios) - 1, abs=1e-6)


def test_the_autoencoders_scores_are_its_error_or_the_smaller_distance(files, tmp_path):
    _, test = tables(files)
    distances = pd.DataFrame(list(test.embedding), index=test.clip_id).abs()
    frame = pd.DataFrame({"clip_id": distances.index, "embedding": distances.to_numpy().tolist()})
    train, _ = tables(files)
    both = pd.concat([frame, pd.DataFrame({"clip_id": train.clip_id, "embedding": [[0.5, 2.0, np.nan]] * len(train)})])
    write_table("embeddings", both, files["embeddings"])
    simple, table = scored(files, tmp_path, '{"kind": "autoencoder"}')
    assert simple[distances.index].to_numpy() == pytest.approx(distances[0].to_numpy())
    assert table.nearest_clip_id.isna().all()
    limits = read_table("thresholds", tmp_path / "thresholds")
    assert limits.decision_threshold.to_numpy() == pytest.approx(0.5)
    settings = '{"kind": "autoencoder", "inference": {"autoencoder_score": "selective"}}'
    selective, _ = scored(files, tmp_path, settings)
    assert selective[distances.index].to_numpy() == pytest.approx(distances[[1, 2]].min(axis=1).to_numpy())
    # Without target training clips there is no distance to them.
    assert (selective[train.clip_id] == 2).all()


def test_the_papers_scores_need_representatives(files, tmp_path):
    with pytest.raises(UserError, match="needs --representatives"):
        scored(files, tmp_path, "{}")


# ---------------------------------------------------------------- tables that do not belong together, or are damaged


def changed(files: dict[str, Path], folder: Path, change) -> dict[str, Path]:
    """Return the files with other embeddings."""
    write_table("embeddings", change(read_table("embeddings", files["embeddings"])), folder / "changed")
    return files | {"embeddings": folder / "changed"}


DAMAGES = {
    "is not finite": lambda frame: frame.assign(embedding=[np.array([1, np.nan, 1])] * len(frame)),
    "has 2 numbers, not 3": lambda frame: frame.assign(embedding=[*frame.embedding[:-1], np.ones(2)]),
    "has clips that .*clips does not list": lambda frame: frame.assign(clip_id=[*frame.clip_id[:-1], "unknown"]),
    "has no row that belongs here": lambda frame: frame.head(0),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_embeddings_that_cannot_be_scored_are_refused(files, tmp_path, said):
    represent(3, 0, **files, representatives=tmp_path / "representatives")
    other = changed(files, tmp_path, DAMAGES[said])
    with pytest.raises(UserError, match=f"changed: .*{said}.*; delete it and run again"):
        represent(3, 0, **other, representatives=tmp_path / "new")
    with pytest.raises(UserError, match=f"changed: .*{said}.*; delete it and run again"):
        scored(other, tmp_path, "{}", representatives=tmp_path / "representatives")
    assert not (tmp_path / "scores").exists()


def test_a_score_that_is_not_a_number_is_refused(files, tmp_path):
    # An autoencoder's distances may be NaN, but not all of them.
    settings = '{"kind": "autoencoder", "inference": {"autoencoder_score": "selective"}}'
    scored(
        changed(files, tmp_path, lambda frame: frame.assign(embedding=[[1, 2, np.nan]] * len(frame))),
        tmp_path,
        settings,
    )
    nothing = changed(files, tmp_path, lambda frame: frame.assign(embedding=[[1, np.nan, np.nan]] * len(frame)))
    with pytest.raises(UserError, match=r"changed: the score of c\d+ is not a number"):
        scored(nothing, tmp_path, settings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame[frame.machine == "fan"], "has none of machine type pump"),
        (lambda frame: frame.assign(vector=[[1.0, 2.0]] * len(frame)), "has 2 numbers, not 3"),
        (lambda frame: frame.assign(vector=[[1.0, np.inf, 1.0]] * len(frame)), "is not finite"),
    ],
)
def test_representatives_of_something_else_are_refused(files, tmp_path, change, said):
    represent(3, 0, **files, representatives=tmp_path / "representatives")
    table = change(read_table("representatives", tmp_path / "representatives"))
    write_table("representatives", table, tmp_path / "other")
    with pytest.raises(UserError, match=f"other: .*{said}"):
        scored(files, tmp_path, "{}", representatives=tmp_path / "other")


def test_a_machine_type_without_training_clips_is_named(files, tmp_path):
    table = read_table("clips", files["clips"])
    write_table("clips", table.assign(split=table.split.where(table.machine != "pump", "test")), tmp_path / "none")
    with pytest.raises(UserError, match="embeddings: has no training clip of machine type pump"):
        scored(files | {"clips": tmp_path / "none"}, tmp_path, '{"kind": "raw_logmel"}')
