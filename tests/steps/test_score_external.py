"""Scores of a pool whose files are decoded on the fly, beside those of the packed pool."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import soundfile
import torch

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.data import Decoding
from asdpipe.config.method import ExternalScoreSettings
from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor
from asdpipe.models.files import save_model
from asdpipe.steps.pack_pool import pack_pool
from asdpipe.steps.score_external import score_external
from tests.conftest import read_facts

CLIPS = 75
BAD = {3, 40, 74}
NUM_SAMPLES = 4000
SMALL = {
    **{"kind": "multi_resolution", "width": 8, "windows": [512, 256], "f_min": 200.0},
    **{"dft_kernels": [32, 16, 8], "dft_strides": [16, 8, 4]},
}


def settings(similarity: str = "cosine", **decoding) -> str:
    return as_json(ExternalScoreSettings(decoding=Decoding(**decoding), similarity=similarity))


SKIP = settings(on_bad_clip="skip")


def new_network() -> FeatureExtractor:
    return build_extractor(SMALL, num_samples=NUM_SAMPLES)


def sound(number: int) -> bytes:
    """Return a clip: flac or wav, of 4 rates, mono or stereo, 0.2 to 1.5 s; some are no clips."""
    rng = np.random.default_rng(number)
    rate = (16_000, 32_000, 44_100, 48_000)[number % 4]
    samples = 0.2 * rng.standard_normal((round(rng.uniform(0.2, 1.5) * rate), 1 + number % 2))
    if number == 74:
        samples = samples[:100]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC" if number % 3 else "WAV", subtype="PCM_16")
    return buffer.getvalue() if number not in (3, 40) else buffer.getvalue()[: 20 * (number - 3)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    """A small network, its representatives of two machine types, and a pool of files and rows of a parquet file."""
    folder = tmp_path_factory.mktemp("external")
    torch.manual_seed(0)
    network = new_network().eval()
    # As after some training: the mean of what batch normalisation has seen is no longer zero.
    network.train()(0.2 * torch.randn(16, NUM_SAMPLES))
    save_model(network.eval(), SMALL, NUM_SAMPLES, folder / "weights", folder / "description")
    with torch.inference_mode():
        vectors = network(0.2 * torch.randn(6, NUM_SAMPLES)).flatten(1).numpy()
    frame = pd.DataFrame({"machine": ["fan", "pump"] * 3, "domain": "source", "representative": 0, "clip_id": "x"})
    # Every clip passes.
    write_table("representatives", frame.assign(vector=list(vectors), threshold=2.0), folder / "representatives")
    contents = [sound(number) for number in range(CLIPS)]
    pq.write_table(pa.table({"video_id": ["x"] * 30, "audio": contents[:30]}), folder / "a.parquet", row_group_size=7)
    for number in range(30, CLIPS):
        (folder / f"{number}.audio").write_bytes(contents[number])
    paths = [str(folder / ("a.parquet" if number < 30 else f"{number}.audio")) for number in range(CLIPS)]
    table = pd.DataFrame({"clip_id": [f"c{number}" for number in range(CLIPS)], "path": paths, "dataset": "pool"})
    rows = pd.array([number if number < 30 else None for number in range(CLIPS)], dtype="Int32")
    table = table.assign(mids=[["/m/1"]] * CLIPS, display_names=[["One"]] * CLIPS, row=rows)
    table["shard"] = [0] * 5 + [1] * (CLIPS - 5)
    write_table("pool_clips", table, folder / "clips", groups="shard")
    skip = as_json(Decoding(on_bad_clip="skip"))
    pack_pool(skip, 1, folder / "clips", folder / "samples", folder / "index", folder / "skipped")
    return {name: folder / name for name in ("weights", "description", "representatives")}


def on_the_fly(files: dict, folder, settings: str = SKIP, shard: int = 1) -> None:
    clips = files["weights"].with_name("clips")
    outputs = {"scores": folder / "scores", "skipped": folder / "skipped"}
    score_external(settings, "pool", **files, **outputs, pool_clips=clips, shard=shard, device="cpu")


def packed(files: dict, folder, settings: str = SKIP) -> pd.DataFrame:
    """Score the packed shard 1; return the scores."""
    pack = {name: files["weights"].with_name(name) for name in ("index", "samples")}
    outputs = {"scores": folder / "packed", "skipped": folder / "packed_skipped"}
    score_external(settings, "pool", **files, **outputs, **pack, device="cpu")
    return read_table("external_scores", folder / "packed")


def test_packed_and_unpacked_clips_get_the_same_scores_bit_for_bit(files, tmp_path):
    first = packed(files, tmp_path)
    on_the_fly(files, tmp_path)
    second = read_table("external_scores", tmp_path / "scores")
    good = [f"c{number}" for number in range(5, CLIPS) if number not in BAD]
    assert first.clip_id[first.machine == "fan"].tolist() == good
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert read_facts(tmp_path / "packed") == read_facts(tmp_path / "scores") == {"pool": "pool", "scored": len(good)}
    skipped = (tmp_path / "skipped").read_text()
    assert skipped == files["weights"].with_name("skipped").read_text()
    # Those of a packed shard were left out before.
    assert pd.read_csv(tmp_path / "packed_skipped").empty
    assert len(skipped.splitlines()) == 1 + 2
    assert "74.audio" in skipped


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_scores_are_minus_the_largest_similarity_and_only_those_under_the_threshold_are_kept(
    files, tmp_path, similarity
):
    folder = files["weights"].parent
    samples, index = np.fromfile(folder / "samples", dtype="<i2"), read_table("waveforms", folder / "index")
    network = new_network().eval()
    network.load_state_dict(safetensors.torch.load_file(files["weights"]))
    clips = [samples[clip.offset : clip.offset + clip.num_samples] for clip in index.itertuples()]
    x = np.stack([np.resize(clip, NUM_SAMPLES).astype(np.float32) / 32768 for clip in clips])
    with torch.inference_mode():
        embeddings = network(torch.from_numpy(x)).flatten(1).numpy()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    vectors = read_table("representatives", files["representatives"])
    expected, limits = {}, {}
    for machine, part in vectors.groupby("machine").vector:
        centre = np.stack(part.tolist())
        norms = np.linalg.norm(centre, axis=1) if similarity == "cosine" else 1
        score = -(unit @ centre.T / norms).max(axis=1)
        # The threshold lies between two scores, so that rounding does not matter.
        kept = 20 if machine == "fan" else 50
        limits[machine] = np.sort(score)[[kept - 1, kept]].mean()
        expected |= {(index.clip_id[row], machine): score[row] for row in np.argsort(score)[:kept]}
    vectors = vectors.assign(threshold=vectors.machine.map(limits))
    write_table("representatives", vectors, tmp_path / "representatives")
    own = files | {"representatives": tmp_path / "representatives"}
    on_the_fly(own, tmp_path, settings(similarity, on_bad_clip="skip"))
    scores = read_table("external_scores", tmp_path / "scores")
    found = {(row.clip_id, row.machine): row.score for row in scores.itertuples()}
    assert len(scores) == len(found) == 70
    assert found == pytest.approx(expected, abs=1e-6)


def test_representatives_of_another_network_are_refused(files, tmp_path):
    vectors = read_table("representatives", files["representatives"])
    write_table("representatives", vectors.assign(vector=[np.ones(5)] * len(vectors)), tmp_path / "other")
    with pytest.raises(UserError, match=r"other: is of another network than .*weights; delete it and run again"):
        packed(files | {"representatives": tmp_path / "other"}, tmp_path)


def test_bad_clips_stop_the_scoring_where_they_shall(files, tmp_path):
    with pytest.raises(UserError, match=r"1 of 5 clips cannot be used:\n.*a.parquet row 3: .*") as error:
        on_the_fly(files, tmp_path, settings(), shard=0)
    assert "on_bad_clip: skip" in str(error.value)
    assert not (tmp_path / "scores").exists()
    outputs = {"scores": tmp_path / "scores", "skipped": tmp_path / "skipped"}
    with pytest.raises(UserError, match="needs --index and --samples, or --pool-clips"):
        score_external(SKIP, "pool", **files, **outputs, device="cpu")


def test_a_shard_without_a_clip_has_no_scores(files, tmp_path):
    on_the_fly(files, tmp_path, shard=2)
    assert read_table("external_scores", tmp_path / "scores").empty
    assert read_facts(tmp_path / "scores")["scored"] == 0


def test_a_packed_shard_without_a_clip_has_no_scores(files, tmp_path):
    # More shards than clips: the last ones are empty.
    inputs = {name: tmp_path / name for name in ("samples", "index", "skipped")}
    pack_pool(as_json(Decoding()), 2, files["weights"].with_name("clips"), **inputs)
    assert inputs["samples"].stat().st_size == 0
    outputs = {"scores": tmp_path / "scores", "skipped": tmp_path / "external_skipped"}
    pack = {name: inputs[name] for name in ("index", "samples")}
    score_external(SKIP, "pool", **files, **outputs, **pack, device="cpu")
    assert read_table("external_scores", tmp_path / "scores").empty
    assert read_facts(tmp_path / "scores") == {"pool": "pool", "scored": 0}
