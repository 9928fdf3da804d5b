"""Two years of DCASE as one data set through the real workflow."""

import csv

import pandas as pd

from asdpipe.artifacts.tables import read_table
from asdpipe.data.manifests import packed_clips
from tests.conftest import TINY, run_asdpipe, run_snakemake
from tests.dcase_trees import write_truth, write_year
from tests.workflow.plans import of, planned

TARGET = "results/tables/topm_beats.csv"
CONFIG = TINY | {
    "dataset": "all",
    "method": "raw_logmel",
    "yardstick": None,
    "datasets": {
        "dcase2023": {"root": "2023", "machines": ["fan", "bandsaw"], "check_counts": False},
        "dcase2025": {"root": "2025", "machines": ["fan", "ToyPet"], "check_counts": False},
        "all": {"format": "union", "datasets": ["dcase2023", "dcase2025"], "tested": ["dcase2025"], "clip_seconds": 1},
    },
    "tables": {"methods": ["raw_logmel"]},
}


def test_two_years_are_listed_packed_labelled_and_scored_as_one(tmp_path, write_clip) -> None:
    clip = write_clip(tmp_path / "clip.wav", seconds=0.3)
    expected = {
        year: write_year(tmp_path / str(year), year, machines=machines, clip=clip)
        for year, machines in ((2023, ["fan", "bandsaw"]), (2025, ["fan", "ToyPet"]))
    }
    # 2023 is not tested, so it needs no ground truth.
    write_truth(tmp_path / "2025/ground_truth", 2025, tmp_path / "2025")
    done = run_snakemake(tmp_path, TARGET, config=CONFIG)
    assert done.returncode == 0, done.stdout[-4000:]

    rows = [frame.assign(year=year) for year, frame in expected.items()]
    wanted = pd.concat(rows, ignore_index=True)
    wanted = wanted[(wanted.split != "test") | (wanted.year == 2025)]
    names = "dcase" + wanted.year.astype(str)
    wanted = wanted.assign(clip_id=names + "/" + wanted.clip_id, machine=names + "_" + wanted.machine)
    found = read_table("clips", tmp_path / "results/data/all/clips.parquet")
    columns = ["clip_id", "machine", "part", "section", "split", "domain", "is_normal", "revealed"]
    pd.testing.assert_frame_equal(
        *(
            frame[columns]
            .sort_values("clip_id", ignore_index=True)
            .astype(object)
            .where(lambda each: each.notna(), None)
            for frame in (found.rename(columns={"attributes": "revealed"}), wanted)
        )
    )
    assert set(found.dataset) == {"dcase2023", "dcase2025"}
    for split in ("train", "test"):
        folder = tmp_path / f"results/data/all/{split}"
        packed = packed_clips(folder / "clips.parquet", folder / "waveforms.parquet")
        assert set(packed.clip_id) == set(wanted.clip_id[wanted.split == split])
        assert (folder / "waveforms.int16").stat().st_size == len(packed) * 2 * 4800

    # The table has the machine type of 2025's development set by the paper's name.
    with (tmp_path / TARGET).open(newline="") as file:
        ours = [row for row in csv.DictReader(file) if row["mean"]]
    assert {(row["dataset"], row["system"], row["machine"]) for row in ours} == {("all", "raw_logmel", "fan")}
    auc = pd.read_csv(tmp_path / "results/all/raw_logmel/seed0/stage1/auc.csv")
    assert set(auc.machine) == {"dcase2025_fan", "dcase2025_ToyPet", "mean", "hmean"}
    # Its history leads back to both years.
    told = run_asdpipe("explain", tmp_path / "results/data/all/train/clips.parquet").stdout
    assert "unite_clips" in told
    assert all(f"results/data/dcase{year}/train/clips.parquet" in told for year in expected)

    # A test clip of one member concerns the test split of the union only.
    assert not planned(tmp_path, TARGET, config=CONFIG)
    next((tmp_path / "2025/dev_data/raw/fan/test").iterdir()).unlink()
    again = of("data/dcase2025", "test/list_clips", "label_clips")
    again |= of("data/all", "test/unite_clips", "test/pack_clips", "unite_clips")
    again |= of("all/raw_logmel/seed0/stage1", "embed_test", "score", "evaluate") | {"tables/topm_beats"}
    assert planned(tmp_path, TARGET, config=CONFIG) == again
    # That of what is not tested concerns nothing.
    next((tmp_path / "2023/dev_data/raw/fan/test").iterdir()).unlink()
    assert planned(tmp_path, TARGET, config=CONFIG) == again
