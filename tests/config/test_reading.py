"""Reading the configuration: wrong keys are named with their source and the nearest known key, or the way out."""

from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Discriminator, Field, Tag

from asdpipe.config import reading
from asdpipe.config.base import Section
from asdpipe.config.reading import load_config, read_config
from asdpipe.errors import UserError
from tests.conftest import ROOT, TINY, run_snakemake


def united(name: str, **keys: object) -> dict:
    """Return the change that adds a union."""
    return {"datasets": {**TINY["datasets"], name: {"format": "union", "clip_seconds": 1, **keys}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainning": {}}, ["unknown key 'trainning'", "did you mean 'training'"]),
        ({"training": {"epochss": 3}}, ["unknown key 'training.epochss'", "did you mean 'training.epochs'"]),
        ({"datasets": {"tiny": {"format": "demo", "clip_second": 2}}}, ["datasets.tiny.clip_seconds"]),
        ({"methods": {"mine": {"triplet": {"gama": 1}}}}, ["methods.mine.triplet.gamma"]),
        ({"external": {"n_max": -1}}, ["external.n_max = -1", "greater than or equal to 0"]),
        (
            {"training": {"epochs": "Auto"}},
            ["training.epochs = 'Auto': Input should be auto, or a whole number", "to 1"],
        ),
        ({"training": {"epochs": 2.5}}, ["training.epochs = 2.5: Input should be auto, or a whole number"]),
        ({"training": {"kind": "fine_tune", "epochs": "auto"}}, ["training.epochs = 'auto'", "valid integer"]),
        ({"training": {"target_per_batch": -1}}, ["training.target_per_batch = -1", "greater than or equal to 0"]),
        ({"loss": {"subclusters": "atuo"}}, ["loss.subclusters = 'atuo': Input should be auto, or"]),
        ({"loss": {"kind": "sub_center_arc_face", "subclusters": "auto"}}, ["loss.subclusters = 'auto'", "integer"]),
        ({"inference": {"k_source": 0}}, ["inference.k_source = 0: Input should be auto, or", "equal to 1"]),
        ({"pseudo_labels": {"k_target": None}}, ["pseudo_labels.k_target = None: Input should be auto, or"]),
        (
            {"methods": {"mine": {"external": {"n_max": "all"}}}},
            ["methods.mine.external.n_max = 'all': Input should be auto, or"],
        ),
        ({"training": {"learning_rate": "fast"}}, ["training.learning_rate = 'fast'"]),
        ({"device": "tpu"}, ["device = 'tpu'", "cpu"]),
        ({"dataset": "other"}, ["there is no data set 'other'", "tiny"]),
        ({"method": "ba_trp_ps_xe"}, ["there is no method 'ba_trp_ps_xe'", "ba_trp_ps_ex"]),
        ({"methods": {"mine": {"fusion": {"methods": ["ba"]}}}}, ["methods.mine.fusion.methods", "at least 2 items"]),
        ({"methods": {"mine": {"fusion": {"methods": ["ba", "ba"]}}}}, ["methods.mine.fusion.methods", "named twice"]),
        (
            {"methods": {"mine": {"fusion": {"methods": ["ba", "bb"]}}}},
            ["methods.mine.fusion.methods", "no method 'bb'"],
        ),
        (
            {"methods": {"mine": {"fusion": {"methods": ["ba", "raw_logmel"]}, "network": {"width": 8}}}},
            ["methods.mine.network: has no effect", "ba, raw_logmel"],
        ),
        (
            {"methods": {name: {"fusion": {"methods": ["ba", other]}} for name, other in (("a", "b"), ("b", "a"))}},
            ["methods.a.fusion.methods", "a -> b -> a"],
        ),
        (
            {"methods": {"mine": {"loss": {"kind": "cross_entropy", "spec_augment": True}}}},
            ["methods.mine.loss.spec_augment", "multi_resolution has no spectrogram"],
        ),
        (
            {"methods": {"mine": {"loss": "masked_reconstruction", "network": {"kind": "beats", "weights": "random"}}}},
            ["methods.mine.loss: network beats does not reconstruct its input", "masked_audio_mae"],
        ),
        ({"methods": {"mine": {"start_from": "nobody"}}}, ["methods.mine.start_from", "nobody"]),
        ({"methods": {"mine": {"start_from": "ba_trp_ps_from_ba"}}}, ["no stage 1 of its own"]),
        ({"methods": {"mine": {"start_from": "mine"}}}, ["no stage 1 of its own"]),
        ({"methods": {"mine": {"start_from": "raw_logmel"}}}, ["methods.mine.start_from", "raw_logmel has none"]),
        ({"methods": {"mine": {"parent": "nobody"}}}, ["methods.mine.parent: there is no method 'nobody'", "ba_trp"]),
        ({"methods": {"a": {"parent": "b"}, "b": {"parent": "a"}}}, ["circle: a -> b -> a", "remove one"]),
        ({"methods": {"mine": {"parent": "mine"}}}, ["circle: mine -> mine"]),
        ({"external": {"enabled": False}}, ["external.enabled: false has no effect", "methods.ba_trp_ps_ex.external"]),
        ({"stages": 0}, ["stages = 0", "greater than or equal to 1"]),
        ({"tables": {"datasets": ["dcase2022", "dcase3"]}}, ["tables.datasets: there is no data set 'dcase3'", "tiny"]),
        ({"tables": {"methods": ["bar"]}}, ["tables.methods: there is no method 'bar'", "ba_trp"]),
        ({"network": {"width": 12}}, ["network.width = 12", "multiple of 8"]),
        ({"network": {"windows": [511]}}, ["network.windows", "even"]),
        (
            {"network": {"dft_kernels": [256, 64, 16], "dft_strides": [64, 32, 4]}},
            ["too short for the DFT branch", "network.dft_kernels"],
        ),
        ({"triplet": {"snr_db": [20, -5]}}, ["triplet", "[lowest, highest]"]),
        ({"seeds": []}, ["seeds"]),
        ({"datasets": {"stage1": {"format": "demo"}, **TINY["datasets"]}}, ["datasets.stage1", "another name"]),
        ({"datasets": {"dcase2023": {"machines": ["pump"]}}}, ["DCASE 2023 has no machine type pump; it has", "fan"]),
        ({"datasets": {"dcase2023": {"machines": ["fan"], "parts": ["eval"]}}}, ["no machine type fan", "bandsaw"]),
        ({"datasets": {"dcase2019": {"format": "dcase", "year": 2019}}}, ["datasets.dcase2019.year = 2019", "2020"]),
        ({"datasets": {"mine": {"format": "dcase", "download": True}}}, ["download needs the year"]),
        ({"datasets": {"mine": {"format": "folder", "year": 2023}}}, ["for format: dcase, not folder"]),
        (united("all", datasets=["tiny", "dcase3"]), ["datasets.all.datasets: there is no data set 'dcase3'", "tiny"]),
        (united("all", datasets=["tiny", "all"]), ["datasets.all.datasets: all is a union itself"]),
        (united("all", datasets=["tiny", "dcase2025"], tested=["dcase2024"]), ["dcase2024 is none of datasets.all"]),
        (united("all", datasets=["tiny", "dcase2025"], joint=True), ["'datasets.all.joint'", "datasets.all.joined"]),
        (
            {
                "datasets": {"tiny": {**TINY["datasets"]["tiny"], "pool": None}},
                "external": {"first_stage": "random"},
            },
            ["external.first_stage: random needs an external pool"],
        ),
    ],
)
def test_wrong_values_are_named_with_file_reason_and_way_out(tmp_path, change, words):
    file = tmp_path / "mine.yaml"
    base = {**TINY, "network": {**TINY["network"], **change.get("network", {})}}
    file.write_text(yaml.safe_dump({**base, **{key: value for key, value in change.items() if key != "network"}}))
    with pytest.raises(UserError) as error:
        read_config([file])
    for word in words:
        assert word in str(error.value)
    if "=" in words[0] or "unknown" in words[0]:
        assert str(file) in str(error.value)


def test_missing_data_root_says_what_to_add():
    with pytest.raises(UserError, match=r"--config data_root=FOLDER"):
        read_config([ROOT / "config/real-mini.yaml"])


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_config([tmp_path / "none.yaml"])
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(UserError, match="not valid YAML"):
        read_config([broken])


# Nine times nine times nine ... values in a few lines.
LISTS = b"dataset: tiny\nanchors:\n- &a0 [1]\n" + b"\n".join(
    b"- &a%d [%s]" % (level, b", ".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 10)
)
MAPPINGS = b"dataset: tiny\nanchors:\n- &a0 {k0: 1}\n" + b"\n".join(
    b"- &a%d {%s}" % (level, b", ".join(b"k%d: *a%d" % (key, level - 1) for key in range(9))) for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xff\xfe", "not valid YAML"),
        (b"dataset: 2026-02-30", "not valid YAML"),
        (b"- dataset", "must be a mapping"),
        (b"dataset: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"{a: " * 5000, "not valid YAML|nested too deeply"),
        (b"a: &a {a: *a}", "unknown key 'a'"),
        (b"dataset: tiny\ndatasets: &a {x: *a}", "key 'datasets.x.format' is missing; choose one of"),
        (b"dataset: tiny\nseeds: &a [*a]", "seeds.0 = "),
        (LISTS + b"\nseeds: [*a9]", r"seeds\.0 = "),
        (MAPPINGS + b"\ndatasets: {x: *a9}", "key 'datasets.x.format' is missing; choose one of"),
        (b"dataset: tiny\nseeds: 0x" + b"f" * 6000, "seeds = a huge number: Input should be a list"),
        (b"dataset: tiny\nseeds: " + b"9" * 6000, "not valid YAML"),
        (b"dataset: " + b"x" * 10**6 + b"\nseeds: " + b"y" * 10**6, "seeds = 'y+...y+'"),
        (b"dataset: tiny\ntriplet: {snr_db: [.nan, 1]}", "triplet.snr_db.0.* finite"),
        (b"dataset: tiny\ntraining: {learning_rate: .inf}", "training.learning_rate.* finite"),
        (b"dataset: root\ndatasets: {root: {format: demo, rot: 1}}", "unknown key 'datasets.root.rot'; did you mean"),
        (b"dataset: p\npools: {p: {format: demo, shards: 1000000000}}", "pools.p.shards = 1000000000"),
        (b"{1: 2, null: 3}", "1"),
    ],
)
def test_strange_yaml_ends_in_a_short_message(tmp_path, text, words):
    file = tmp_path / "strange.yaml"
    file.write_bytes(text)
    with pytest.raises(UserError, match=words) as error:
        read_config([file])
    assert len(str(error.value)) < 2000


def test_snakemake_shows_the_message_without_traceback(tmp_path):
    done = run_snakemake(tmp_path, "-n", config=TINY | {"trainings": {"epochs": 3}})
    assert done.returncode != 0
    assert "unknown key 'trainings'; did you mean 'training'?" in done.stdout
    assert str(tmp_path / "config.yaml") in done.stdout
    assert "Traceback" not in done.stdout


FOLDER_DATASET = {"datasets": {"mine": {"format": "folder", "root": "x"}}}


@pytest.mark.parametrize(
    ("argument", "key", "expected"),
    [
        ("yardstick=null", "yardstick", None),
        ("yardstick=none", "yardstick", None),
        ("yardstick=None", "yardstick", None),
        ("yardstick=~", "yardstick", None),
        ("yardstick=", "yardstick", None),
        ("datasets={tiny: {pool: null}}", "datasets.tiny.pool", None),
        ("datasets={tiny: {pool: none}}", "datasets.tiny.pool", None),
        ("datasets={'tiny': {'pool': None}}", "datasets.tiny.pool", None),
        ("datasets={x: {format: dcase, year: 2023}}", "datasets.x.year", 2023),
        # The length of the year's clips is known as soon as the year is.
        ("datasets={x: {format: dcase, year: 2020}}", "datasets.x.clip_seconds", 10.0),
        ("datasets={tiny: {clip_seconds: 1.5}}", "datasets.tiny.clip_seconds", 1.5),
        ("datasets={tiny: {channel: 1}}", "datasets.tiny.channel", 1),
        ("datasets={x: {format: dcase, year: 2023, download: false}}", "datasets.x.download", False),
        ("datasets={mine: {root: 2023}}", "datasets.mine.root", "2023"),
        ("datasets={mine: {root: 2026-01-31}}", "datasets.mine.root", "2026-01-31"),
        ("datasets={mine: {root: 010}}", "datasets.mine.root", "010"),
        ("datasets={mine: {machines: [1, yes, fan]}}", "datasets.mine.machines", ("1", "fan", "yes")),
        ("datasets={2023: {format: demo}}", "datasets.2023.format", "demo"),
        ("data_root=2023", "data_root", "2023"),
        ("data_root=0_1", "data_root", "0_1"),
        ("data_root=/a b/c", "data_root", "/a b/c"),
        ("seeds=[3,4]", "seeds", (3, 4)),
        ("stages=2", "stages", 2),
        ("torch_compile=true", "torch_compile", True),
        ("torch_compile=False", "torch_compile", False),
        ("training={learning_rate: 1e-4}", "training.learning_rate", 1e-4),
        ("tables={datasets: none}", "tables.datasets", None),
        ("external={first_stage: none}", "external.first_stage", "none"),
    ],
)
def test_a_value_on_the_command_line_means_what_it_means_in_a_file(argument, key, expected):
    values = {**TINY, "datasets": {**TINY["datasets"], **FOLDER_DATASET["datasets"]}}
    config = load_config(values, command_line=[argument])
    found = config
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert (found, type(found)) == (expected, type(expected))


def test_a_new_data_set_on_the_command_line_needs_a_format():
    with pytest.raises(UserError) as error:
        load_config(TINY, command_line=["datasets={x: {year: 2023}}"])
    message = "command line (--config): key 'datasets.x.format' is missing; choose one of: demo, dcase, folder, union"
    assert str(error.value) == message


def test_a_data_set_may_be_named_by_a_number_on_the_command_line():
    values = TINY | {"datasets": {"2023": TINY["datasets"]["tiny"]}}
    assert load_config(values, command_line=["dataset=2023"]).dataset == "2023"


@pytest.mark.parametrize("word", ["none", "null", "None"])
def test_none_in_a_file_is_spelled_as_in_the_table_of_keys(tmp_path, word):
    file = tmp_path / "mine.yaml"
    lines = ["datasets: {tiny: {format: demo, pool: %s}}", "dataset: tiny", "yardstick: %s", "data_root: %s"]
    file.write_text("\n".join(lines).replace("%s", word))
    config = read_config([file])
    assert (config.datasets["tiny"].pool, config.yardstick, config.data_root) == (None, None, None)


def test_snakemake_plans_what_the_command_line_says(tmp_path):
    """What Snakemake makes of --config is not what a file holds: tried with the real one."""
    values = ["yardstick=none", "datasets={tiny: {pool: null, clip_seconds: 2}, y: {format: dcase, year: 2023}}"]
    done = run_snakemake(tmp_path, "-np", "--config", *values, "method=ba", "stages=1", config=TINY)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "raw_logmel" not in done.stdout
    assert '"clip_seconds":2.0' in done.stdout
    assert "results/external" not in done.stdout


def test_snakemake_blames_the_command_line_for_its_values(tmp_path):
    done = run_snakemake(tmp_path, "-n", "--config", "training={epochs: 0}", config=TINY)
    assert done.returncode != 0
    assert "command line (--config): training.epochs = 0: Input should be auto, or a whole number" in done.stdout
    assert f"{tmp_path / 'config.yaml'}:" not in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("first", "second", "command_line", "blamed"),
    [
        ("stages: 0", "", [], ["first"]),
        ("stages: 3", "stages: 0", [], ["second"]),
        ("stages: 0", "seeds: [1]", [], ["first"]),
        ("stages: 3", "stages: 4", ["stages=0"], ["command line"]),
        ("training: {epochs: 0}", "training: {learning_rate: 1}", ["training={weight_decay: 1}"], ["first"]),
        ("triplet: {snr_db: [1, 0]}", "", [], ["first"]),
        ("seeds: [0, -1]", "stages: 2", ["stages=1"], ["first"]),
        ("seeds: [0, 1]", "stages: 2", ["seeds=[0, -1]"], ["command line"]),
        ("stags: 1", "stages: 2", [], ["first"]),
        ("stages: 1", "", ["stags=2"], ["command line"]),
        # Both files state a part of a section that is wrong as a whole.
        ("triplet: {snr_db: [5, 6]}", "triplet: {semitones: [7, 6]}", [], ["first", "second"]),
        ("datasets: {x: {root: a}}", "datasets: {y: {format: demo}}", [], ["first"]),
    ],
)
def test_a_wrong_value_is_blamed_on_where_it_stands(tmp_path, first, second, command_line, blamed):
    files = {name: tmp_path / f"{name}.yaml" for name in ("tiny", "first", "second")}
    for name, text in (("tiny", yaml.safe_dump(TINY)), ("first", first), ("second", second)):
        files[name].write_text(text)
    merged = {}
    for file in files.values():
        merged = reading.merge(merged, yaml.safe_load(file.read_text()) or {})
    with pytest.raises(UserError) as error:
        load_config(merged, files.values(), command_line)
    (line,) = str(error.value).splitlines()
    named = {name for name in ("tiny", "first", "second", "command line") if f"{name}" in line.partition(": ")[0]}
    assert named - {"tiny"} == set(blamed)


class Wide(Section):
    kind: Literal["wide"] = "wide"
    width: int = 1


class Deep(Section):
    kind: Literal["deep", "deeper"]
    depth: int = Field(1, ge=1)
    note: str | None = None


class Disk(Section):
    format: Literal["disk"]
    disk: Wide = Wide()
    year: int | None = None


class Tape(Section):
    format: Literal["tape"]
    label: str


def kind_or_wide(value):
    return value.get("kind", "wide") if isinstance(value, dict) else value.kind


class Config(Section):
    """A configuration of unions, as methods and data sets have them."""

    dataset: str = "x"
    network: Annotated[Wide | Deep, Field(discriminator="kind")] = Wide()
    by_default: Annotated[
        Annotated[Wide, Tag("wide")] | Annotated[Deep, Tag("deep")] | Annotated[Deep, Tag("deeper")],
        Discriminator(kind_or_wide),
    ] = Wide()
    maybe: Annotated[Wide | Deep, Discriminator("kind")] | None = None
    datasets: dict[str, Annotated[Disk | Tape, Field(discriminator="format")]] = Field({})

    def check(self):
        pass


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": {"kind": "deep", "depth": 0}}, "network.depth = 0: Input should be greater than or equal to 1"),
        ({"network": {"kind": "deep", "dept": 2}}, "unknown key 'network.dept'; did you mean 'network.depth'?"),
        (
            {"network": {"kind": "wide", "depth": 2}},
            "unknown key 'network.depth' with kind: wide; it belongs to kind: deep",
        ),
        (
            {"network": {"kind": "cnn"}},
            "network.kind = 'cnn': unknown kind; choose one of: wide, deep, deeper",
        ),
        ({"network": {"kind": [1]}}, "network.kind = [1]: unknown kind; choose one of: wide, deep, deeper"),
        ({"network": {"width": 2}}, "key 'network.kind' is missing; choose one of: wide, deep, deeper"),
        ({"network": 3}, "network = 3: Input should be a section of keys and values"),
        ({"maybe": {"kind": "deeper", "depth": "x"}}, "maybe.depth = 'x': Input should be a valid integer"),
        ({"maybe": {"kind": "x"}}, "maybe.kind = 'x': unknown kind"),
        ({"by_default": {"widht": 2}}, "unknown key 'by_default.widht'; did you mean 'by_default.width'?"),
        ({"by_default": {"kind": "x"}}, "by_default.kind = 'x': unknown kind; choose one of: wide, deep"),
        ({"datasets": {"x": {"format": "disk", "yaer": 1}}}, "did you mean 'datasets.x.year'?"),
        (
            {"datasets": {"x": {"format": "disk", "year": "y"}}},
            "datasets.x.year = 'y': Input should be a valid",
        ),
        # The tag is a key of the section, too.
        ({"datasets": {"x": {"format": "disk", "disk": {"width": "w"}}}}, "datasets.x.disk.width = 'w'"),
        ({"datasets": {"x": {"format": "disk", "disk": {"widht": 1}}}}, "did you mean 'datasets.x.disk.width'?"),
        ({"datasets": {"x": {"format": "disk", "disk": {}, "label": "l"}}}, "it belongs to format: tape"),
        ({"datasets": {"x": {"format": "tape"}}}, "key 'datasets.x.label' is missing"),
        ({"datasets": {"x": {}}}, "key 'datasets.x.format' is missing; choose one of: disk, tape"),
        ({"datasets": {"x": {"format": "dsk"}}}, "datasets.x.format = 'dsk': unknown format"),
        ({"datasets": {"disk": {"format": "disk", "disk": 3}}}, "datasets.disk.disk = 3: Input should be a section"),
    ],
)
def test_messages_name_keys_below_a_choice_of_kind_without_its_tag(monkeypatch, tmp_path, values, message):
    monkeypatch.setattr(reading, "Config", Config)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError) as error:
        read_config([file])
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)


def test_text_below_a_choice_of_kind_may_look_like_a_number_on_the_command_line(monkeypatch):
    monkeypatch.setattr(reading, "Config", Config)
    monkeypatch.setattr(reading, "check", lambda _: None)
    arguments = ["datasets={x: {format: tape, label: 2023}, y: {format: disk, year: 2023}}"]
    config = load_config({}, command_line=[*arguments, "network={kind: deep, note: none}"])
    assert (config.datasets["x"].label, config.datasets["y"].year, config.network.note) == ("2023", 2023, None)


def test_a_message_about_a_thousand_keys_is_short(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(TINY | {f"{number}{'k' * 200}": 1 for number in range(1000)}))
    with pytest.raises(UserError, match=r"and 990 more") as error:
        read_config([file])
    assert len(str(error.value)) < 10 * 400
