"""The workflow imports a checkpoint from a file, and again once the file is another one."""

import json

from tests.conftest import TINY, run_snakemake
from tests.models.checkpoints import NETWORKS, official_beats, saved
from tests.workflow.plans import planned

TARGET = "results/checkpoints/mine/weights.safetensors"


def test_a_replaced_file_is_imported_again(tmp_path):
    folder = tmp_path / "official files"
    folder.mkdir()
    file = saved(official_beats(), folder / "BEATs (small).pt")
    config = TINY | {"checkpoints": {"mine": {"layout": "beats", "file": str(file)}}}
    done = run_snakemake(tmp_path, TARGET, config=config)
    assert done.returncode == 0, done.stdout
    description = json.loads((tmp_path / TARGET).with_name("description.json").read_text())
    assert description["network"] == NETWORKS["beats"]
    assert planned(tmp_path, TARGET, config=config) == set()
    saved(official_beats(fine_tuned=True), file)
    assert planned(tmp_path, TARGET, config=config) == {"checkpoints/mine/import_checkpoint"}
