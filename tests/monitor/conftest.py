"""One small run of the workflow with methods of every kind."""

from pathlib import Path

import pytest

from asdpipe.artifacts.tables import read_table
from tests.conftest import TINY, run_snakemake
from tests.models.checkpoints import NETWORKS, official_beats, saved

BEATS = {
    name: size
    for name, size in NETWORKS["beats"].items()
    if name in ("kind", "layers", "width", "ffn", "heads", "patch_width")
}
METHODS = {
    # After one epoch all clips look the same.
    "ba": {"training": {"epochs": 40}},
    "autoencoder": {"training": {"epochs": 1}},
    "smote": {"parent": "ba", "inference": {"backend": {"kind": "knn", "smote_ratio": 0.8}}},
    "tiny_beats": {"network": BEATS | {"weights": "mine"}, "training": "none", "inference": {"backend": "knn"}},
    "mix": {"fusion": {"methods": ["ba", "raw_logmel", "autoencoder"], "scale": "rank"}},
}
KINDS = ("ba", "raw_logmel", "autoencoder", "smote", "tiny_beats", "mix")


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of all kinds."""
    folder = tmp_path_factory.mktemp("monitor")
    file = saved(official_beats(), folder / "beats.pt")
    config = TINY | {
        "datasets": {"tiny": TINY["datasets"]["tiny"] | {"machines": ["fan", "valve"]}},
        "checkpoints": {"mine": {"layout": "beats", "file": str(file)}},
        "methods": METHODS,
    }
    targets = [f"{stage(kind)}/scores.parquet" for kind in KINDS] + [f"{stage('autoencoder', 1)}/scores.parquet"]
    # The first stage of this method is that of ba: it has only an auc.csv of its own.
    done = run_snakemake(folder, *targets, f"{stage('ba_ps')}/auc.csv", config=config)
    assert done.returncode == 0, done.stdout[-5000:]
    return folder


def stage(method: str, seed: int = 0) -> Path:
    """Return the folder of a method's stage 1."""
    return Path(f"results/tiny/{method}/seed{seed}/stage1")


def clips_of_test(folder: Path, machine: str | None = None) -> dict[str, Path]:
    """Return the files of the test clips, of one machine type or all, by their names."""
    clips = read_table("clips", folder / "results/data/tiny/test/clips.parquet")
    clips = clips[clips.machine.isin([machine] if machine else clips.machine)]
    return {name: folder / path for name, path in zip(clips.clip_id, clips.path, strict=True)}
