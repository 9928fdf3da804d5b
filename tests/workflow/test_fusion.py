"""Fused scores in the plan: no training, and exactly the jobs of the methods that are fused."""

from tests.conftest import TINY, run_snakemake
from tests.workflow.plans import of, planned

METHODS = {
    "knn": {"parent": "ba_ps", "inference": {"backend": "knn"}},
    "mix": {"fusion": {"methods": ["knn", "raw_logmel"], "scale": "rank"}},
}
CONFIG = TINY | {"seeds": [0, 1], "methods": TINY["methods"] | METHODS}
DATA = {
    "data/tiny/generate_dataset",
    "data/tiny/label_clips",
    *(f"data/tiny/{split}/{step}" for split in ("train", "test") for step in ("list_clips", "pack_clips")),
}
EMBEDDED = ("embed_train", "embed_test")


def test_a_fusion_runs_the_methods_that_it_fuses_at_its_stage_and_seed(tmp_path):
    jobs = planned(tmp_path, "results/tiny/mix/seed1/stage2/auc.csv", config=CONFIG)
    assert jobs == (
        DATA
        | of("tiny/ba/seed1/stage1", "train", "embed_train")
        | of("tiny/ba_ps/seed1/stage1", "pseudo_label")
        | of("tiny/ba_ps/seed1/stage2", "train", *EMBEDDED)
        | of("tiny/knn/seed1/stage2", "score")
        # Not trained: one stage, one seed.
        | of("tiny/raw_logmel/seed0/stage1", *EMBEDDED, "score")
        | of("tiny/mix/seed1/stage2", "fuse_scores", "evaluate")
    )


def test_a_fusion_has_no_model(tmp_path):
    done = run_snakemake(tmp_path, "-n", "results/tiny/mix/seed0/stage1/representatives.parquet", config=CONFIG)
    assert done.returncode != 0
    assert "mix fuses the scores of other methods and has no representatives" in done.stdout
