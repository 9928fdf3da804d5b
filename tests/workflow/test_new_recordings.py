"""What new, removed and relabelled recordings run again: plans on results that count as made, and one real run."""

import copy
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.conftest import TINY, run_snakemake
from tests.dcase_trees import write_truth, write_year
from tests.workflow.plans import of, planned, states

SHARDS = 3
TARGETS = [f"results/stage{stage}/auc.csv" for stage in (1, 2)]
DATASETS = {
    "grown": {"format": "dcase", "root": "grown", "pool": "sounds"},
    "own": {"format": "folder", "root": "own", "pool": "audioset"},
    "year": {"format": "dcase", "year": 2023, "root": "year", "check_counts": False, "pool": "sounds"},
}
POOLS = {
    "sounds": {"format": "folder", "root": "sounds", "shards": SHARDS},
    "audioset": {"format": "audioset", "root": "audioset", "shards": SHARDS},
}
# Of one's own data set.
HEAD, *ROWS = "file,label,domain", "fan/test/normal.wav,normal,source", "fan/train/normal.wav,,"
CLIPS = range(6)
SAMPLES = 4000


def config(dataset: str) -> dict:
    return TINY | {"dataset": dataset, "datasets": DATASETS, "pools": POOLS}


def add_to_pool(folder: Path, pool: str, number: int) -> int:
    """Add a clip with a label, as users do; return its shard."""
    noise = 0.1 * np.random.default_rng(number).standard_normal(SAMPLES)
    if pool == "sounds":
        name, table, row = f"deep/{number}.wav", "labels.csv", f"deep/{number}.wav,engine"
    else:
        name, table = f"audios/balanced_train_segments/Y{number:011d}.wav", "metadata/balanced_train_segments.csv"
        row = f'{number:011d}, 0.000, 1.000, "/m/02mk9"'
    (folder / pool / name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / pool / name, noise, 16_000, subtype="PCM_16")
    with (folder / pool / table).open("a") as file:
        file.write(f"{row}\n")
    return zlib.crc32(name.encode()) % SHARDS


def write_recordings(folder: Path) -> None:
    """Write data sets and pools of all formats. Clips that only plans are made of are empty."""
    for machine in ("fan", "pump"):
        for split, label in (("train", "normal"), ("test", "normal"), ("test", "anomaly")):
            for dataset, name in (("grown", f"section_00_source_{split}_{label}_0000"), ("own", label)):
                file = folder / dataset / machine / split / f"{name}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
    (folder / "own/clips.csv").write_text("\n".join([HEAD, *ROWS]) + "\n")
    write_year(folder / "year", 2023, machines=["fan", "bandsaw"], counts=1)
    write_truth(folder / "year/ground_truth", 2023, folder / "year")
    (folder / "sounds").mkdir()
    (folder / "sounds/labels.csv").write_text("file,label\n")
    (folder / "audioset/metadata").mkdir(parents=True)
    (folder / "audioset/metadata/balanced_train_segments.csv").write_text("# a\n# b\n# c\n")
    (folder / "audioset/metadata/class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/02mk9,"Engine"\n')
    for pool in POOLS:
        for number in CLIPS:
            add_to_pool(folder, pool, number)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All results of each data set, on record as made: pools are, all else is empty files."""
    start = tmp_path_factory.mktemp("recordings")
    write_recordings(start)
    packed = [f"results/external/{pool}/{shard}/waveforms.parquet" for pool in POOLS for shard in range(SHARDS)]
    done = run_snakemake(start, *packed, config=config("own"))
    assert done.returncode == 0, done.stdout
    folders = {}
    for dataset in DATASETS:
        folder = folders[dataset] = tmp_path_factory.mktemp(dataset) / "made"
        shutil.copytree(start, folder)
        listed = run_snakemake(folder, "--summary", *TARGETS, config=config(dataset)).stdout
        for file in re.findall(r"^(results/\S+)\t", listed, flags=re.M):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        done = run_snakemake(folder, "--touch", "--forceall", *TARGETS, config=config(dataset))
        assert done.returncode == 0, done.stdout
        assert not planned(folder, *TARGETS, config=config(dataset))
    return folders


def stages(dataset: str) -> dict[int, str]:
    """Return the folder of each stage below results/; stage 1 is that of its owner."""
    return {1: f"{dataset}/ba_trp/seed0/stage1", 2: f"{dataset}/ba_trp_ps_ex/seed0/stage2"}


def evaluated(dataset: str) -> set[str]:
    folders = [f"{dataset}/{method}/seed0/stage{stage}" for method, stage in RUNS]
    return of(f"data/{dataset}", "label_clips") | {f"{folder}/evaluate" for folder in folders} | SUMMARIES


RUNS = (("raw_logmel", 1), ("ba_trp_ps_ex", 1), ("ba_trp_ps_ex", 2))
SUMMARIES = {"stage1/summarize", "stage2/summarize"}


def of_test_clips(dataset: str) -> set[str]:
    """Return the jobs that depend on the test clips."""
    folders = [*stages(dataset).values(), f"{dataset}/raw_logmel/seed0/stage1"]
    scored = [job for folder in folders for job in of(folder, "embed_test", "score")]
    return of(f"data/{dataset}/test", "list_clips", "pack_clips") | evaluated(dataset) | {*scored}


def of_pool(dataset: str, *shards: int) -> set[str]:
    """Return the jobs that depend on clips of these shards of the data set's pool."""
    first, second = stages(dataset).values()
    pool = DATASETS[dataset]["pool"]
    jobs = of(f"external/{pool}", "list_pool_clips", *(f"pack_pool_{shard}" for shard in shards))
    jobs |= of(first, *(f"score_external_{shard}" for shard in shards))
    jobs |= of(f"{dataset}/ba_trp_ps_ex/seed0/stage1", "select")
    jobs |= of(second, "train", "embed_train", "embed_test", "represent", "score", "evaluate")
    return jobs | {"stage2/summarize"}


def of_training_clips(dataset: str) -> set[str]:
    """Return the jobs that depend on the training clips."""
    first = stages(dataset)[1]
    jobs = of(f"data/{dataset}/train", "list_clips", "pack_clips") | evaluated(dataset)
    jobs |= of(f"{dataset}/raw_logmel/seed0/stage1", "embed_train", "score")
    jobs |= of(first, "train", "embed_train", "embed_test", "represent", "score")
    jobs |= of(first, *(f"score_external_{shard}" for shard in range(SHARDS)))
    jobs |= of(f"{dataset}/ba_trp_ps_ex/seed0/stage1", "pseudo_label")
    pool = DATASETS[dataset]["pool"]
    return jobs | of_pool(dataset) - of(f"external/{pool}", "list_pool_clips")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_bytes().decode()
    assert old in text
    file.write_bytes(text.replace(old, new).encode())


def another_label(folder: Path) -> None:
    file = folder / "year/ground_truth/ground_truth_data/ground_truth_bandsaw_section_00_test.csv"
    edit(file, ".wav,1", ".wav,0")


def rename(folder: Path, old: str, new: str) -> None:
    (folder / old).rename(folder / new)


TEST_CLIP = "grown/fan/test/section_00_source_test_{}_000{}.wav"
CHANGES = [
    ("test clip added", "grown", lambda folder: (folder / TEST_CLIP.format("normal", 1)).touch(), of_test_clips),
    ("test clip removed", "grown", lambda folder: (folder / TEST_CLIP.format("normal", 0)).unlink(), of_test_clips),
    (
        "test clip renamed",
        "grown",
        lambda folder: rename(folder, TEST_CLIP.format("normal", 0), TEST_CLIP.format("anomaly", 1)),
        of_test_clips,
    ),
    ("test clip added to one's own", "own", lambda folder: (folder / "own/pump/test/2.wav").touch(), of_test_clips),
    ("test clip moved", "own", lambda folder: (folder / "own/pump/test/anomaly.wav").unlink(), of_test_clips),
    (
        "test clip relabelled in clips.csv",
        "own",
        lambda folder: edit(folder / "own/clips.csv", "normal.wav,normal", "normal.wav,anomaly"),
        of_test_clips,
    ),
    ("clips.csv touched", "own", lambda folder: (folder / "own/clips.csv").touch(), lambda _: set()),
    (
        "rows of clips.csv in another order",
        "own",
        lambda folder: (folder / "own/clips.csv").write_text("\n".join([HEAD, *reversed(ROWS)]) + "\n"),
        lambda _: set(),
    ),
    (
        "training clip's row changed",
        "own",
        lambda folder: edit(folder / "own/clips.csv", "train/normal.wav,,", "train/normal.wav,,target"),
        of_training_clips,
    ),
    (
        "training clip added to one's own",
        "own",
        lambda folder: (folder / "own/fan/train/2.flac").touch(),
        of_training_clips,
    ),
    (
        "training clip added",
        "grown",
        lambda folder: (folder / "grown/pump/train/section_00_source_train_normal_0001.wav").touch(),
        of_training_clips,
    ),
    ("label of the ground truth", "year", another_label, evaluated),
    (
        "test clip of a year removed",
        "year",
        lambda folder: next((folder / "year/dev_data/raw/fan/test").iterdir()).unlink(),
        of_test_clips,
    ),
    (
        "label in the pool",
        "own",
        lambda folder: edit(folder / "audioset/metadata/balanced_train_segments.csv", "02mk9", "0k4j"),
        of_pool,
    ),
]


@pytest.mark.parametrize(("dataset", "change", "again"), [pytest.param(*each[1:], id=each[0]) for each in CHANGES])
def test_changed_recordings_run_again_what_depends_on_them(made, tmp_path, dataset, change, again):
    folder = tmp_path / "copy"
    shutil.copytree(made[dataset], folder)
    change(folder)
    assert planned(folder, *TARGETS, config=config(dataset)) == again(dataset)


@pytest.mark.parametrize("dataset", ["grown", "own"])
def test_a_clip_added_to_a_pool_packs_and_scores_its_shard_only(made, tmp_path, dataset):
    folder = tmp_path / "copy"
    shutil.copytree(made[dataset], folder)
    shard = add_to_pool(folder, DATASETS[dataset]["pool"], len(CLIPS))
    assert planned(folder, *TARGETS, config=config(dataset)) == of_pool(dataset, shard)


def test_another_number_of_shards_or_another_folder_packs_the_pool_again(made, tmp_path):
    again = of_pool("grown", *range(SHARDS))
    more = copy.deepcopy(config("grown"))
    more["pools"]["sounds"]["shards"] = SHARDS + 1
    assert planned(made["grown"], *TARGETS, config=more) == again | of_pool("grown", SHARDS)
    # The same clips elsewhere: the list names files that shards were not packed from.
    folder = tmp_path / "copy"
    shutil.copytree(made["grown"], folder)
    rename(folder, "sounds", "elsewhere")
    moved = copy.deepcopy(config("grown"))
    moved["pools"]["sounds"]["root"] = "elsewhere"
    assert planned(folder, *TARGETS, config=moved) == again


def test_a_list_of_shards_that_is_damaged_is_made_again(made, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made["grown"], folder)
    (folder / "results/external/sounds/shards.json").write_text("[")
    assert planned(folder, *TARGETS, config=config("grown")) <= of_pool("grown")


def test_a_run_after_new_recordings_leaves_every_other_file_as_it_was(tmp_path, write_clip):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/labels.csv").write_text("file,label\n")
    for number in CLIPS:
        add_to_pool(tmp_path, "sounds", number)
        for seed, machine in enumerate(("fan", "pump")):
            write_clip(tmp_path / f"own/{machine}/train/{number}.wav", seed=100 * seed + number)
    for machine in ("fan", "pump"):
        write_clip(tmp_path / f"own/{machine}/test/normal/0.wav", seed=300)
        write_clip(tmp_path / f"own/{machine}/test/anomaly/0.wav", seed=301)
    settings = config("own") | {"yardstick": None, "stages": 1}
    settings["datasets"] = {"own": {"format": "folder", "root": "own", "clip_seconds": 1, "pool": "sounds"}}
    first, own = Path("results/own/ba_trp/seed0/stage1"), Path("results/own/ba_trp_ps_ex/seed0/stage1")
    targets = ["results/stage1/auc.csv", f"{own}/selected.parquet"]
    done = run_snakemake(tmp_path, *targets, config=settings)
    assert done.returncode == 0, done.stdout[-3000:]
    # The first thing to check of one's own data is on the screen.
    assert "16 clips of 2 machine types" in done.stdout
    before, scores = states(tmp_path), pd.read_parquet(tmp_path / first / "scores.parquet").set_index("clip_id")

    write_clip(tmp_path / "own/fan/test/normal/1.wav", seed=302)
    shard = add_to_pool(tmp_path, "sounds", len(CLIPS))
    done = run_snakemake(tmp_path, *targets, config=settings)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "17 clips of 2 machine types" in done.stdout
    packed = ("waveforms.int16", "waveforms.parquet", "skipped.csv")
    made = {"results/data/own/clips.parquet", "results/stage1/auc.csv", "results/stage1/scores.csv"}
    made |= {f"results/data/own/test/{file}" for file in ("clips.parquet", *packed)}
    made |= {f"results/external/sounds/{file}" for file in ("clips.parquet", "shards.json", "left_out.csv")}
    made |= {f"results/external/sounds/{shard}/{file}" for file in packed}
    made |= {f"{first}/{file}" for file in ("embeddings/test.parquet", "scores.parquet", "thresholds.parquet")}
    made |= {f"{first}/external/{shard}{ending}" for ending in (".parquet", "_skipped.csv")}
    made |= {f"{own}/selected.parquet", f"{own}/auc.csv"}
    records = {str(Path(file).parent / "provenance" / f"{Path(file).name}.json") for file in made}
    after = states(tmp_path)
    assert before.keys() == after.keys()
    assert {file for file in after if after[file] != before[file]} == made | records
    # What was scored before has the same score.
    again = pd.read_parquet(tmp_path / first / "scores.parquet").set_index("clip_id")
    assert set(again.index) - set(scores.index) == {"fan/test/normal/1.wav"}
    pd.testing.assert_frame_equal(again.loc[scores.index], scores)
    # The new clip of the pool was packed and may be selected.
    index = pd.read_parquet(tmp_path / f"results/external/sounds/{shard}/waveforms.parquet")
    assert f"deep/{len(CLIPS)}.wav" in set(index.clip_id)
    assert not planned(tmp_path, *targets, config=settings)

    # Gone again, the shard is what it was.
    (tmp_path / f"sounds/deep/{len(CLIPS)}.wav").unlink()
    done = run_snakemake(tmp_path, *targets, config=settings)
    assert done.returncode == 0, done.stdout[-3000:]
    after, names = states(tmp_path), [f"{part}/{file}" for part in range(SHARDS) for file in packed]
    names = [f"results/external/sounds/{name}" for name in (*names, "clips.parquet", "shards.json")]
    assert [after[name][1] for name in names] == [before[name][1] for name in names]
    assert not planned(tmp_path, *targets, config=settings)
