"""The socket: a new objective is one file of the method, its settings in the union, and a line of YAML."""

import json
import re
import shutil
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, TINY, run_snakemake
from tests.workflow.test_reruns import CONFIG, GROWN, TARGETS, made, planned  # noqa: F401 (made is a fixture)

OBJECTIVE = '''
"""CosFace (Wang et al., CVPR 2018): a margin between the cosine of a clip's class and those of the others."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from asdpipe.method.objectives import Batch, Embed, Objective


class CosFaceObjective(Objective):
    """Softmax over s * (cosine - margin of the own class), one learned centre for each class."""

    names = ("cosface_loss",)

    def __init__(self, embedding_shape: tuple[int, int], num_classes: int, *, margin: float, scale: float) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        branches, dim = embedding_shape
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes, branches * dim)))

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the loss."""
        label = batch.class_index.to(batch.x.device)
        cosine = F.linear(F.normalize(embed(batch.x).flatten(1)), F.normalize(self.weight))
        own = F.one_hot(label, cosine.shape[1])
        yield F.cross_entropy(self.scale * (cosine - self.margin * own), label)
'''
SETTINGS = '''
class CosFace(_Loss):
    """CosFace."""

    target: ClassVar = "asdpipe.method.cosface.CosFaceObjective"
    kind: Literal["cosface"] = "cosface"
    margin: float = Field(0.35, ge=0, description="Margin of the cosine.")
    scale: float = Field(30.0, gt=0, description="Scale s.")


'''
UNION = re.compile(r"^Loss = Annotated\[\s*", flags=re.MULTILINE)
METHOD = "cosface: {parent: ba, loss: {kind: cosface, margin: 0.3}}\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow and the package, with the new objective."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("workflow", "config", "src", "profiles"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, copy)
    package = copy / "src/asdpipe"
    (package / "method/cosface.py").write_text(textwrap.dedent(OBJECTIVE).lstrip())
    union = package / "config/losses.py"
    text = union.read_text()
    text, replaced = UNION.subn(lambda found: f"{SETTINGS.strip()}\n\n\n{found[0]}CosFace | ", text)
    assert replaced == 1
    union.write_text(text)
    methods = package / "config/methods.yaml"
    methods.write_text(methods.read_text() + METHOD)
    return copy


def test_a_new_objective_plans_no_other_methods_training_again(made, tree):  # noqa: F811 (the fixture)
    # The same results as without it, and the autoencoder and log-mel statistics of the summaries, too.
    assert not planned(made, *TARGETS, *GROWN, config=CONFIG, tree=tree)
    first = "results/tiny/cosface/seed0/stage1"
    jobs = planned(made, f"{first}/auc.csv", config=CONFIG, tree=tree)
    assert jobs == {
        *(f"tiny/cosface/seed0/stage1/{step}" for step in ("train", "embed_train", "embed_test")),
        *(f"tiny/cosface/seed0/stage1/{step}" for step in ("represent", "score", "evaluate")),
    }


def test_a_new_objective_trains_and_is_scored(tree, tmp_path):
    done = run_snakemake(tmp_path, "results/tiny/cosface/seed0/stage1/auc.csv", config=TINY, tree=tree)
    assert done.returncode == 0, done.stdout[-3000:]
    folder = tmp_path / "results/tiny/cosface/seed0/stage1"
    history = pd.read_csv(folder / "training.csv")
    assert {"cosface_loss", "triplet_loss"} <= set(history.columns)
    # Chance among six classes, with a margin against the own one.
    assert 1 < history.cosface_loss.iloc[-1] < 40
    assert history.loss.iloc[-1] == pytest.approx(history.cosface_loss.iloc[-1] + history.triplet_loss.iloc[-1])
    said = json.loads((folder / "model.json").read_text())["training"]["loss"]
    assert said == {"kind": "cosface", "margin": 0.3, "scale": 30.0}
    assert pd.read_csv(folder / "auc.csv").auc.between(0, 100).all()
