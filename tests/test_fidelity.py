"""The pages on fidelity name only what exists; and what the first says of training where no other test checks it."""

import ast
import math
import re
from collections.abc import Iterator
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pydantic
import pytest
import torch
import yaml
from pydantic import BaseModel

from asdpipe.artifacts.tables import write_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.base import Section, merge
from asdpipe.config.method import KNOWN_METHODS, Method
from asdpipe.config.reading import read_config
from asdpipe.config.schema import Config
from asdpipe.data.dcase.counts import published
from asdpipe.data.dcase.years import YEARS
from asdpipe.data.manifests import packed_clips
from asdpipe.method import objectives
from asdpipe.method.losses import SubspaceLoss
from asdpipe.models.build import build_extractor
from asdpipe.steps.train import noise_groups
from asdpipe.training import on_clips
from asdpipe.training.batches import Batch, Epoch, TrainingSet, num_batches
from asdpipe.training.crop import make_crop
from asdpipe.training.job import Job, objective_context
from asdpipe.training.state import Checkpoint
from tests.config import test_top_m
from tests.conftest import ROOT

# ---------------------------------------------------------------- one step of training

CPU = torch.device("cpu")
SAMPLES, WIDTH, CLASSES = 4000, 16, 3
SMALL = {"width": WIDTH, "windows": (256, 64), "dft_kernels": (32, 8, 4), "dft_strides": (8, 4, 2)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are slower on two threads, much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(clips: int = 18) -> TrainingSet:
    """Three machine types and as many classes, a third of the clips of the target domain."""
    rng, index = np.random.default_rng(0), np.arange(clips, dtype=np.int32)
    samples = [rng.integers(-3000, 3000, SAMPLES, dtype=np.int16) for _ in index]
    return TrainingSet(samples, index, index % 3, index % 3, index % 6 == 5)


class Run:
    """A training on batches of all 15 source clips and 3 target clips; ``network`` is the one that it trains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.views: list[torch.Tensor] = []

    def __call__(self, epochs: int = 1, training: dict[str, Any] | None = None, **changes: Any) -> None:
        training = {"epochs": epochs, "source_per_batch": 20, "target_per_batch": 3, **(training or {})}
        method = Method.model_validate({"network": SMALL, "training": training, **changes})
        clips = noise()
        job = Job(
            clips=clips,
            machine=clips.machine_index.astype(object),
            network={},
            build_extractor=lambda **_: self.built(method),
            build_objective=lambda extractor: objectives.Sum(
                method.training_settings().objectives(**objective_context(extractor), num_classes=CLASSES)
            ),
            seed=(0, 1),
            device=CPU,
            checkpoint=lambda name: Checkpoint(self.folder / f"{name}.safetensors", {"settings": str(method)}),
        )
        method.training.build().train(job)

    def built(self, method: Method) -> torch.nn.Module:
        self.network = build_extractor(method.network.model_dump(), num_samples=SAMPLES)
        self.network.register_forward_pre_hook(lambda _, inputs: self.views.append(inputs[0].clone()))
        return self.network


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path)


class Watched(torch.optim.AdamW):
    """AdamW that keeps the gradients and the learning rate of every step."""

    last: "Watched"

    def __init__(self, parameters: Any, **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.gradients: list[list[torch.Tensor]] = []
        self.rates: list[float] = []
        Watched.last = self

    def step(self, *arguments: Any) -> Any:
        (group,) = self.param_groups
        self.rates.append(group["lr"])
        self.gradients.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in group["params"]])
        return super().step(*arguments)


class Plane(SubspaceLoss):
    """A loss whose gradient is 5 for each of its own weights and nothing else."""

    def forward(self, *arguments: Any) -> torch.Tensor:
        return sum((5 * each.sum() for each in self.parameters()), 0 * super().forward(*arguments))


def test_a_step_follows_the_sum_of_both_losses(monkeypatch, run):
    """Eq. 12: neither has a weight, and nothing else is added."""
    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    monkeypatch.setattr(objectives, "SubspaceLoss", Plane)
    # Its gradient is 7 for each of the network's weights.
    monkeypatch.setattr(
        objectives,
        "triplet_loss",
        lambda *_, **__: torch.stack([7 * each.sum() for each in run.network.parameters()]).sum(),
    )
    run()
    (gradients,) = Watched.last.gradients
    network, centres = gradients[:-3], gradients[-3:]
    assert [each.shape for each in centres] == [(WIDTH, CLASSES * 16)] * 3
    assert len(network) > 50
    for each in network:
        torch.testing.assert_close(each, torch.full_like(each, 7))
    for each in centres:
        torch.testing.assert_close(each, torch.full_like(each, 5))


def test_mixup_is_for_the_subspace_loss_only_and_every_view_has_statistics_of_its_own(monkeypatch, run):
    batches: list[Batch] = []
    make_batches = on_clips.epoch_batches

    def watched_batches(*arguments: Any, **keywords: Any) -> Any:
        for batch in make_batches(*arguments, **keywords):
            batches.append(batch)
            yield batch

    monkeypatch.setattr(on_clips, "epoch_batches", watched_batches)
    run(loss={"mixup_probability": 1})
    (batch,) = batches
    # A small batch: all views in one forward pass.
    mixed, plain, positive, negative = torch.cat(run.views).chunk(4)
    x = make_crop(noise(), plain.shape[1], CPU)(batch)
    assert torch.equal(plain, x)
    # Mixed clips lie between the clip and its mirror, all at places of their own.
    towards, other = (mixed - x).double(), (x.flip(0) - x).double()
    share = (towards * other).sum(dim=1) / other.square().sum(dim=1)
    torch.testing.assert_close(towards, share[:, None] * other, atol=1e-6, rtol=0)
    assert 0 < float(share.min()) < float(share.max()) < 1
    # The triplet's other two views are made of the plain clips: what is added is a plain clip of another machine type.
    added = torch.nn.functional.cosine_similarity((positive - plain)[:, None], x[None], dim=2)
    assert float(added.amax(dim=1).min()) > 0.999
    assert (batch.machine_index[added.argmax(dim=1)] != batch.machine_index).all()
    assert not torch.allclose(negative, plain, atol=0.01)
    # Batch normalisation has seen four batches.
    state = run.network.state_dict()
    assert {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")} == {4}


def test_the_optimiser_is_adamw_at_a_constant_learning_rate(monkeypatch, run):
    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    run(epochs=3)
    assert Watched.last.rates == [1e-3] * 3
    assert Watched.last.defaults["weight_decay"] == 0.01
    run(training={"learning_rate": 0.02, "weight_decay": 0.3})
    assert (Watched.last.rates, Watched.last.defaults["weight_decay"]) == ([0.02], 0.3)


def test_an_epoch_of_a_random_half_takes_fewer_steps(monkeypatch, run):
    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    run(training={"source_per_batch": 3})
    assert len(Watched.last.rates) == 5
    run(training={"source_per_batch": 3, "epoch": "random_half"})
    assert len(Watched.last.rates) == 3


@pytest.mark.parametrize(("scale", "subclusters"), [("fixed", 5), ("adaptive", 16)])
def test_training_takes_sub_clusters_and_scale_from_the_config(monkeypatch, run, scale, subclusters):
    made = []

    class Kept(SubspaceLoss):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            made.append(self)

    monkeypatch.setattr(objectives, "SubspaceLoss", Kept)
    run(loss={"scale": scale, "subclusters": subclusters}, triplet={"enabled": False})
    (loss,) = made
    start = math.sqrt(2) * math.log(CLASSES * subclusters - 1)
    for each in (loss.concatenated, *loss.subspaces):
        assert each.weight.shape[1] == CLASSES * subclusters
        assert (float(each.scale) == pytest.approx(start, rel=1e-6)) is (scale == "fixed")


# ---------------------------------------------------------------- external clips as noise, unknown domains


def test_an_external_clip_is_of_the_machine_type_that_it_was_selected_for():
    table = pd.DataFrame({"machine": ["fan", "pump", "fan", "pump"], "origin": ["original"] * 2 + ["external"] * 2})
    fan, pump, external_fan, external_pump = noise_groups(table)
    assert fan == external_fan != pump == external_pump
    # With one machine type alone they stand in for the others.
    original, external = noise_groups(table[table.machine == "fan"])
    assert original != external


def test_training_clips_of_unknown_domain_count_as_source(tmp_path):
    domains = ["source", None, "target", None]
    clips = pd.DataFrame({"clip_id": list("abcd"), "domain": domains, "split": "train"})
    clips = clips.assign(path="x", dataset="d", machine="fan", section="00", part="dev", is_normal=True)
    clips = clips.assign(attributes=None, sample_rate=16_000, num_frames=1)
    write_table("clips", clips, tmp_path / "clips")
    write_table("waveforms", clips[["clip_id"]].assign(offset=0, num_samples=1), tmp_path / "index")
    write_table("embeddings", clips[["clip_id"]].assign(embedding=[[1.0]] * 4), tmp_path / "embeddings")
    trained = packed_clips(tmp_path / "clips", tmp_path / "index")
    scored, _ = embedded_clips(tmp_path / "clips", tmp_path / "embeddings")
    for table in (trained, scored):
        assert table.clip_id.tolist() == list("abcd")
        assert table.domain.tolist() == ["source", "source", "target", "source"]


# ---------------------------------------------------------------- the documents

KEY = re.compile(r"([a-z_]+(?:\.[A-Za-z_0-9]+)*)(?:: (.+))?")


class Page:
    """A page on fidelity.

    Args:
        name: of the file in docs/.
        bases: settings that a stated value of a key may be a change of.
    """

    def __init__(self, name: str, *bases: dict[str, Any]) -> None:
        self.name, self.bases = name, bases

    @cached_property
    def text(self) -> str:
        return (ROOT / "docs" / self.name).read_text()

    @cached_property
    def quoted(self) -> list[str]:
        return unquoted(self.text)

    def table(self, first_cell: str) -> list[list[str]]:
        """Return the cells of the rows of the table whose header starts with a word."""
        lines = self.text.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
        rows = []
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                return rows
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        return rows


TOP_M = read_config([ROOT / "config/top_m.yaml"], {"data_root": "x"})
BACKBONES = {name: TOP_M.resolve_method(f"topm_{name}_m1") for name in ("beats", "audio_mae")}
PRE_TRAINING = TOP_M.resolve_method("audio_mae_pretraining")
FIRST = Page("fidelity.md", {})
SECOND = Page(
    "fidelity-top-m.md",
    *(each.model_dump(mode="json", exclude={"parent"}) for each in (*BACKBONES.values(), PRE_TRAINING)),
)
PAGES = pytest.mark.parametrize("page", [FIRST, SECOND], ids=lambda page: page.name)
NOT_THE_FIRST_PAPERS = {
    *("raw_logmel", "autoencoder", "autoencoder_mahalanobis"),
    "ba_trp_ps_ex_log_mel",
    *("ba_arc_face", "ba_sub_center_arc_face", "ba_ada_proj"),
    *test_top_m.KNOWN,
}


def unquoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def definitions(file: Path) -> set[str]:
    """Return the functions, classes and methods (Class.method) that a file defines."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def place(name: str) -> Path:
    """Return the file that the document means: below the repository, or else below the package."""
    return next((folder / name for folder in (ROOT, ROOT / "src/asdpipe") if (folder / name).is_file()), Path(name))


def sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a key may hold: one, the kinds of a union, or the values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for each in get_args(annotation) for section in sections(each)]


def field(key: str) -> pydantic.fields.FieldInfo:
    """Return a key's field of the configuration; NAME stands for a data set."""
    first, *_ = key.split(".")
    models: list[type[BaseModel]] = [Method if first in Method.model_fields else Config]
    for part in key.split("."):
        if part != "NAME":
            found = next((model.model_fields[part] for model in models if part in model.model_fields), None)
            assert found is not None, f"there is no key {key}"
            models = sections(found.annotation)
    return found


def plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.kind
    return list(value) if isinstance(value, tuple) else value


@PAGES
def test_every_file_function_and_test_that_a_page_names_exists(page: Page) -> None:
    named = [each for each in page.quoted if re.search(r"\.(py|smk|yaml)\b", each)]
    assert len(named) > 25
    for each in named:
        name, _, inner = each.partition("::")
        assert place(name).is_file(), f"{each}: no such file"
        if inner:
            assert inner in definitions(place(name)), f"{each}: not defined there"
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.text):
        assert (ROOT / "docs" / link).is_file(), link
    tests = {each for each in page.quoted if each.startswith("test_")}
    assert len(tests) > 50
    defined = {name for file in (ROOT / "tests").rglob("test_*.py") for name in definitions(file)}
    assert tests <= defined, f"no such test: {sorted(tests - defined)}"


@PAGES
def test_every_key_that_a_page_names_exists_and_takes_the_values_named(page: Page) -> None:
    keys = [match.groups() for match in map(KEY.fullmatch, page.quoted) if match]
    keys = [(key, value) for key, value in keys if "." in key or value]
    assert len(keys) > 50
    for key, value in keys:
        found = field(key)
        if value is None:
            continue
        stated = yaml.safe_load(value)
        if key.startswith("datasets."):
            pydantic.TypeAdapter(found.annotation).validate_python(stated)
        else:
            change = reduce(lambda nested, part: {part: nested}, reversed(key.split(".")), stated)
            assert any(accepts(base, change) for base in page.bases), f"{key}: {value} is refused"


def accepts(base: dict[str, Any], change: dict[str, Any]) -> bool:
    """Return whether a change of settings is valid."""
    try:
        return bool(Method.model_validate(merge(base, change)))
    except pydantic.ValidationError:
        return False


def test_the_first_page_gives_the_defaults_of_the_config():
    rows = [(unquoted(row[3]), unquoted(row[4]), row[0]) for row in FIRST.table("Setting")]
    stated = {key[0]: default[0] for key, default, _ in rows if key}
    assert all(len(key) == len(default) for key, default, _ in rows), rows
    for key, default in stated.items():
        assert plain(field(key).default) == yaml.safe_load(default), key
    # No setting of the method is left out; of inference the paper has two.
    for section in ("network", "loss", "triplet", "training", "external", "pseudo_labels"):
        for name in type(Method.model_fields[section].default).model_fields:
            assert name == "kind" or f"{section}.{name}" in stated, f"{section}.{name} is not in the table of settings"


def test_the_first_page_has_every_equation_of_the_paper():
    rows = FIRST.table("Eq.")
    assert {int(row[0]) for row in rows} == set(range(1, 14))
    assert all(unquoted(row[2]) for row in rows)
    tested = re.findall(r"^- Eq\. ([0-9, ]+): `test_", FIRST.text, re.MULTILINE)
    assert {int(number) for each in tested for number in each.split(",")} == set(range(1, 14))


def test_the_first_page_gives_the_steps_that_follow_from_the_published_numbers_of_clips():
    """50 epochs, batches of 80 source clips, a full pool of 1000 external clips per machine type."""
    rows = {int(row[0]): row for row in FIRST.table("Year")}
    assert set(rows) == {2022, 2023, 2024}
    for year, (_, machines, clips, *steps) in rows.items():
        # By the task's pages: seven machine types of six sections, 7 + 7 and 7 + 9 of one; 990 source clips each.
        types, sections_each = {2022: (7, 6), 2023: (14, 1), 2024: (16, 1)}[year]
        source = types * sections_each * 990
        groups = [
            group
            for part in ("dev", "eval")
            for machine in YEARS[year].part(part)
            for group in published(year, part, machine)
        ]
        assert source == sum(each.clips for each in groups if (each.split, each.domain) == ("train", "source"))
        assert types == len({*YEARS[year].dev, *YEARS[year].eval}) == int(machines.split(",")[0])
        assert clips == f"{source:,}"
        computed = []
        for num_source in (source, source + 1000 * types):
            batches = math.ceil(num_source / 80)
            computed += [50 * (batches // 2 + 1), 50 * batches]
            kinds: tuple[Epoch, ...] = ("random_half", "all")
            assert computed[-2:] == [50 * num_batches(num_source, 80, kind) for kind in kinds]
        assert steps == [f"{each:,}" for each in computed]


def test_the_first_page_lists_the_methods_as_they_are_defined():
    listed = {}
    for _, _, method, parent, changes in FIRST.table("Table"):
        settings: dict[str, Any] = dict(zip(["parent"], unquoted(parent), strict=False))
        for change in unquoted(changes):
            key, value = change.split(": ", 1)
            nested = reduce(lambda inner, part: {part: inner}, reversed(key.split(".")), yaml.safe_load(value))
            settings = merge(settings, nested)
        listed[unquoted(method)[0]] = settings
    known = {name: merge({}, each) for name, each in KNOWN_METHODS.items() if name not in NOT_THE_FIRST_PAPERS}
    assert listed == known


def names_of(section: BaseModel) -> set[str]:
    return set(type(section).model_fields) - {"kind"}


def value_of(method: Method, key: str) -> Any:
    """Return the value of a key of a method as it is written in a file; a section is its kind."""
    return plain(reduce(getattr, key.split("."), method))


def test_the_second_page_gives_the_values_of_both_backbones():
    rows = SECOND.table("Setting")
    stated = {unquoted(row[3])[0]: row[4:] for row in rows}
    assert len(stated) == len(rows)
    for column, method in enumerate(BACKBONES.values()):
        of_method = {key: cells[column] for key, cells in stated.items() if cells[column] != "—"}
        for key, cell in of_method.items():
            assert value_of(method, key) == yaml.safe_load(unquoted(cell)[0]), key
        # Strategies have a table of their own.
        sections = {"labels": {"candidates"}, "labels.candidates": {"strategies"}}
        for section in ("labels", "labels.candidates", "network", "loss", "training", "inference.backend"):
            for name in names_of(reduce(getattr, section.split("."), method)) - sections.get(section, set()):
                assert f"{section}.{name}" in of_method, f"{section}.{name} is not in the table of settings"


def test_the_second_page_gives_the_settings_of_the_pre_training_that_differ():
    stated = {unquoted(row[3])[0]: yaml.safe_load(unquoted(row[4])[0]) for row in SECOND.table("Pre-training")}
    for key, value in stated.items():
        assert value_of(PRE_TRAINING, key) == value, key
    for section in ("network", "loss", "training", "inference.backend"):
        of_pre_training, of_encoder = (
            reduce(getattr, section.split("."), method) for method in (PRE_TRAINING, BACKBONES["audio_mae"])
        )
        for name in names_of(of_pre_training):
            own, other = getattr(of_pre_training, name), getattr(of_encoder, name, None)
            assert own == other or f"{section}.{name}" in stated, f"{section}.{name} is not in the table"


def test_the_second_page_gives_the_strategies_of_the_papers_machine_types():
    stated = {machine: unquoted(strategy)[0] for machine, _, strategy in SECOND.table("Machine type")}
    for method in BACKBONES.values():
        assert stated == method.labels.candidates.strategies
