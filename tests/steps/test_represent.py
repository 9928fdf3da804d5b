"""Representatives from embeddings."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.inference import Inference
from asdpipe.config.method import Method
from asdpipe.errors import UserError
from asdpipe.steps.represent import represent
from tests.conftest import read_facts
from tests.embedded import Files, of_split, read_embedded, write_embedded


def settings(**inference) -> str:
    return as_json(Method(inference=Inference(**{"k_source": 3} | inference)).represent_settings())


@pytest.fixture
def files(tmp_path) -> Files:
    return write_embedded(tmp_path)


def made(files: Files, folder: Path, **inference) -> pd.DataFrame:
    represent(settings(**inference), 0, **of_split(files), representatives=folder / "representatives")
    return read_table("representatives", folder / "representatives")


def test_representatives_are_centroids_and_target_clips_and_know_the_selection_threshold(files, tmp_path):
    table = made(files, tmp_path)
    train, _ = read_embedded(files)
    for machine, part in table.groupby("machine"):
        own = train[train.machine == machine]
        target = own[own.domain == "target"]
        assert (part.domain == "source").sum() == 3
        assert part.clip_id[part.domain == "target"].tolist() == target.clip_id.tolist()
        centres = np.stack(list(part.vector)) / np.linalg.norm(np.stack(list(part.vector)), axis=1, keepdims=True)
        largest = max(-max(centre @ z for centre in centres) for z in own.z)
        assert part.threshold.to_numpy() == pytest.approx(largest, abs=1e-6)


def test_with_the_similarity_dot_centroids_count_with_their_lengths(files, tmp_path):
    cosine, dot = (made(files, tmp_path, similarity=similarity) for similarity in ("cosine", "dot"))
    train, _ = read_embedded(files)
    pd.testing.assert_frame_equal(cosine.drop(columns="threshold"), dot.drop(columns="threshold"))
    for machine, part in dot.groupby("machine"):
        largest = max(-max(vector @ z for vector in part.vector) for z in train[train.machine == machine].z)
        assert part.threshold.to_numpy() == pytest.approx(largest, abs=1e-6)
        # Means of unit vectors are shorter than these: similarities are smaller, scores larger.
        assert largest > cosine.threshold[cosine.machine == machine].iloc[0] + 0.01


def test_a_machine_type_without_target_clips_has_source_representatives_only(files, tmp_path, caplog):
    clips = read_table("clips", files["train_clips"])
    write_table("clips", clips.assign(domain="source"), files["train_clips"])
    with caplog.at_level(logging.WARNING):
        table = made(files, tmp_path)
    assert table.groupby("machine").domain.apply(list).to_dict() == {"fan": ["source"] * 3, "pump": ["source"] * 3}
    assert "fan has no target training clips: source representatives only" in caplog.text


def test_centroids_that_are_auto_are_one_per_ten_source_clips_of_a_machine_type(files, tmp_path, caplog):
    # Twice the clips: fan has 16 source clips, pump 12.
    clips, embeddings = (read_table(name, files[f"train_{name}"]) for name in ("clips", "embeddings"))
    rng = np.random.default_rng(1)
    more = [embeddings, embeddings.assign(clip_id=embeddings.clip_id + "a")]
    vectors = [table.assign(embedding=list(rng.standard_normal((len(table), 3)))) for table in more]
    write_table("embeddings", pd.concat(vectors), files["train_embeddings"])
    write_table("clips", pd.concat([clips, clips.assign(clip_id=clips.clip_id + "a")]), files["train_clips"])
    with caplog.at_level(logging.INFO):
        table = made(files, tmp_path, k_source="auto")
    assert (table.domain == "source").groupby(table.machine).sum().to_dict() == {"fan": 2, "pump": 1}
    assert "auto: inference.k_source 1 (pump) or 2 (fan)" in caplog.text
    assert read_facts(tmp_path / "representatives") == {"resolved": {"inference.k_source": {"fan": 2, "pump": 1}}}
    same = made(files, tmp_path, k_source=2)
    assert read_facts(tmp_path / "representatives") == {}
    pd.testing.assert_frame_equal(*(each[each.machine == "fan"] for each in (table, same)))


# Changes of the embeddings, and what is said of them.
DAMAGES = {
    "is not finite": lambda frame: frame.assign(embedding=[np.array([1, np.nan, 1])] * len(frame)),
    "has 2 numbers, not 3": lambda frame: frame.assign(embedding=[*frame.embedding[:-1], np.ones(2)]),
    "has clips that .*clips does not list": lambda frame: frame.assign(clip_id=[*frame.clip_id[:-1], "unknown"]),
    "has no training clip": lambda frame: frame.head(0),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_embeddings_that_have_no_representatives_are_refused(files, tmp_path, said):
    frame = DAMAGES[said](read_table("embeddings", files["train_embeddings"]))
    write_table("embeddings", frame, tmp_path / "changed")
    with pytest.raises(UserError, match=f"changed: .*{said}.*; delete it and run again"):
        made(files | {"train_embeddings": tmp_path / "changed"}, tmp_path)
    assert not (tmp_path / "representatives").exists()
