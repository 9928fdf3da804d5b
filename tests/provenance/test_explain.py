"""Records of how files were made, and the tree that explain makes of them; on steps of three lines."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from asdpipe.errors import UserError
from asdpipe.provenance import records as provenance
from asdpipe.provenance.code import code_digest
from asdpipe.provenance.explain import explain
from asdpipe.provenance.records import read_record, record_path, recorded
from asdpipe.steps.options import Device, InFile, InFiles, InFolder, MaybeFile, Number, OutFile, OutFolder, Settings


@recorded
def hear(settings: Settings, root: InFolder, clips: OutFile) -> None:
    clips.write_text(f"clips {settings}")


@recorded
def learn(
    clips: InFile,
    model: OutFile,
    notes: OutFile,
    seed: Number = 0,
    settings: Settings = "{}",
    earlier: MaybeFile = None,
    device: Device = "auto",
) -> None:
    model.write_text(f"model {seed}")
    notes.write_text("notes")


@recorded
def judge(models: InFiles, folder: OutFolder) -> None:
    folder.mkdir()


def digest(step, targets=()):
    return " and ".join([f"code of {step}", *sorted(targets)])


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Three models of two clips files in a folder of their own, and a verdict on them."""
    monkeypatch.chdir(tmp_path)
    for module in ("records", "explain"):
        monkeypatch.setattr(f"asdpipe.provenance.{module}.code_digest", digest)
    Path("recordings").mkdir()
    Path("results").mkdir()
    hear(settings='{"rate": 16000, "table": null}', root=Path("recordings"), clips=Path("results/clips"))
    for seed in (3, 4, 5):
        learn(
            clips=Path("results/clips"),
            model=Path(f"results/model{seed}"),
            notes=Path(f"results/notes{seed}"),
            seed=seed,
            settings='{"epochs": 7}' if seed < 5 else '{"epochs": 8}',
            earlier=None,
            device="cpu",
        )
    judge(models=[Path(f"results/model{seed}") for seed in (3, 4, 5)], folder=Path("results/verdict"))
    return tmp_path


def told(path, **options) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(explain(Path(path), **options), highlight=False)
    return capture.get()


def test_a_record_has_settings_inputs_and_digests_and_nothing_of_the_machine(made):
    record = read_record(Path("results/model3"))
    assert (record.step, record.code, record.settings) == ("learn", "code of learn", {"seed": 3, "epochs": 7})
    # printf 'model 3' | sha256sum
    assert record.file.sha256 == "a63f0dfe98cc2a03a21873a3ab0d209eae44045e3810b79a104d42783e2ca194"
    (clips,) = record.inputs["clips"]
    assert clips == read_record(Path("results/clips")).file
    assert list(record.inputs) == ["clips"]
    text = record_path(Path("results/model3")).read_text()
    assert str(made) not in text
    assert "cpu" not in text
    # The notes of the same run differ in the file only.
    notes = json.loads(record_path(Path("results/notes3")).read_text())
    assert {key: value for key, value in json.loads(text).items() if key != "file"} == {
        key: value for key, value in notes.items() if key != "file"
    }


def test_options_that_decide_no_result_are_in_no_record_whether_texts_or_paths(made, monkeypatch):
    @recorded
    def keep(clips: InFile, model: OutFile, state: OutFile, mirrors: Settings = "{}") -> None:
        model.write_text("model")
        state.write_text("state")

    monkeypatch.setattr(provenance, "NOT_RECORDED", {*provenance.NOT_RECORDED, "state"})
    keep(clips=Path("results/clips"), model=Path("results/kept"), state=Path("results/state"), mirrors='{"a": 1}')
    record = read_record(Path("results/kept"))
    assert (record.settings, list(record.inputs)) == ({}, ["clips"])
    assert read_record(Path("results/state")) is None


def test_a_result_carries_the_configuration_and_seeds_of_all_that_it_came_from(made):
    record = read_record(Path("results/verdict"))
    assert record.config == {"hear": [{"rate": 16000, "table": None}], "learn": [{"epochs": 7}, {"epochs": 8}]}
    assert record.seeds == [3, 4, 5]


def test_the_same_files_have_the_same_records_at_another_time_and_place(made, tmp_path, monkeypatch):
    before = record_path(Path("results/model3")).read_bytes()
    other = tmp_path / "other"
    (other / "results").mkdir(parents=True)
    monkeypatch.chdir(other)
    hear(settings='{"rate": 16000, "table": null}', root=Path("recordings"), clips=Path("results/clips"))
    files = {"clips": Path("results/clips"), "model": Path("results/model3"), "notes": Path("results/notes3")}
    learn(**files, seed=3, settings='{"epochs": 7}')
    assert record_path(Path("results/model3")).read_bytes() == before


def test_a_step_that_fails_leaves_no_record(tmp_path, monkeypatch):
    @recorded
    def fail(model: OutFile) -> None:
        model.write_text("half")
        raise UserError("no")

    with pytest.raises(UserError):
        fail(model=tmp_path / "model")
    assert read_record(tmp_path / "model") is None


def test_the_tree_leads_back_to_the_recordings_and_names_what_was_made_alike_once(made):
    lines = [line.strip("│├─└ ") for line in told("results/verdict").splitlines()]
    digest = {name: read_record(Path(name)).file.sha256[:12] for name in ("results/model3", "results/clips")}
    assert lines == [
        "results/verdict  judge",
        "code code of judge",
        f"results/model3  {digest['results/model3']}  learn",
        "and 1 more, made the same way: results/model4",
        "epochs: 7, seed: 3; code code of learn",
        f"results/clips  {digest['results/clips']}  hear",
        "rate: 16000, table: null; code code of hear",
        "recordings  not made by a step",
        f"results/model5  {read_record(Path('results/model5')).file.sha256[:12]}  learn",
        "epochs: 8, seed: 5; code code of learn",
        f"results/clips  {digest['results/clips']}  hear  above",
    ]


def test_results_that_were_moved_as_a_whole_are_explained_from_anywhere(made, tmp_path, monkeypatch):
    whole = told("results/verdict")
    (tmp_path / "disk").mkdir()
    Path("results").rename(tmp_path / "disk/results")
    Path("recordings").rename(tmp_path / "disk/recordings")
    monkeypatch.chdir("/")
    assert told(tmp_path / "disk/results/verdict") == whole


def test_results_behind_symlinks_are_explained_like_others(made, tmp_path):
    whole = told("results/verdict")
    # The whole folder on another disk, then one file of it on a third.
    (tmp_path / "disk").mkdir()
    Path("results").rename(tmp_path / "disk/results")
    Path("results").symlink_to("disk/results")
    assert told("results/verdict") == whole
    (tmp_path / "third").mkdir()
    Path("results/model3").rename(tmp_path / "third/model3")
    Path("results/model3").symlink_to(tmp_path / "third/model3")
    assert told("results/verdict") == whole
    # A second name of a result, and what is made from it.
    Path("latest").symlink_to("results/verdict")
    assert told("latest") == whole.replace("results/verdict", "latest")
    Path("results/own").mkdir()
    for name in ("model3", "model4"):
        Path(f"results/own/{name}").symlink_to(f"../{name}")
    judge(models=[Path("results/own/model3"), Path("results/own/model4")], folder=Path("results/second"))
    assert read_record(Path("results/second")).seeds == [3, 4]
    assert "made the same way: results/own/model4" in told("results/second")


def test_a_link_away_from_the_results_is_explained_from_anywhere(made, tmp_path_factory, monkeypatch):
    whole = told("results/verdict")
    away = tmp_path_factory.mktemp("away")
    (away / "latest").symlink_to(made / "results/verdict")
    monkeypatch.chdir("/")
    assert told(away / "latest") == whole.replace("results/verdict", str(away / "latest"))


def test_a_link_has_the_record_of_what_it_points_to_now(made):
    Path("results/model3").unlink()
    Path("results/model3").symlink_to("model5")
    assert read_record(Path("results/model3")).seeds == [5]


def test_what_changed_after_it_was_read_and_what_is_gone_is_said(made):
    assert "changed" not in told("results/verdict")
    Path("results/clips").write_text("other clips")
    Path("results/model5").unlink()
    text = told("results/verdict")
    was = read_record(Path("results/clips")).file.sha256[:12]
    assert f"has changed since it was read: it was {was}" in text
    assert "results/model5  no longer exists" in text
    assert "results/clips" in told("results/clips")
    assert "has changed since the step made it" in told("results/clips")


def test_code_that_has_changed_is_marked(made, monkeypatch):
    assert "changed" not in told("results/model3")
    monkeypatch.setattr("asdpipe.provenance.explain.code_digest", lambda step, _: f"code of another {step}")
    assert "code code of learn (has changed since)" in told("results/model3")
    # The real digests: there is no such step.
    monkeypatch.setattr("asdpipe.provenance.explain.code_digest", code_digest)
    assert "code code of learn (has changed since)" in told("results/model3")


def test_the_code_that_settings_select_is_part_of_the_digest(made):
    def targets(settings):
        return [settings["objective"]] if settings["seed"] else []

    step = recorded(learn.__wrapped__, targets)
    files = {"clips": Path("results/clips"), "model": Path("results/arcface"), "notes": Path("results/notes")}
    step(**files, seed=3, settings='{"objective": "losses.ArcFace"}')
    assert read_record(Path("results/arcface")).code == "code of learn and losses.ArcFace"
    assert "changed" not in told("results/arcface", targets=lambda settings: targets({"seed": 0} | settings))
    assert "code of learn and losses.ArcFace (has changed since)" in told("results/arcface")

    def refuse(settings):
        raise UserError(f"{settings}: there is no such objective")

    assert "code of learn and losses.ArcFace (has changed since)" in told("results/arcface", targets=refuse)


def test_large_files_are_known_by_their_record(made, monkeypatch):
    monkeypatch.setattr(provenance, "LARGE", 3)
    monkeypatch.setattr(provenance, "file_digest", lambda path: pytest.fail("read again"))
    assert provenance.describe(Path("results/model3")).sha256 == read_record(Path("results/model3")).file.sha256
    # Another size: not the file of the record.
    Path("results/model4").write_text("longer than it was")
    monkeypatch.setattr(provenance, "file_digest", lambda path: "read")
    assert provenance.describe(Path("results/model4")).sha256 == "read"


def test_files_without_and_with_damaged_records_end_in_a_message(made):
    Path("results/by_hand").write_text("1")
    with pytest.raises(UserError, match=r"by_hand: has no record .*--forcerun"):
        explain(Path("results/by_hand"))
    record_path(Path("results/model3")).write_text("{")
    with pytest.raises(UserError, match=r"model3.json: is not a record"):
        explain(Path("results/verdict"))


def test_links_in_a_circle_and_records_that_were_tampered_with_hang_and_crash_nothing(made):
    Path("results/clips").unlink()
    Path("results/clips").symlink_to("clips")
    assert "results/clips  no longer exists" in told("results/verdict")
    record = record_path(Path("results/model3"))
    good = record.read_text()
    digest = read_record(Path("results/model3")).inputs["clips"][0].sha256
    # A file that is made of itself, and what looks like markup.
    for old, new in (("results/clips", "results/notes3"), (digest, "[/b]"), ('"learn"', '"[/b]learn"')):
        record.write_text(good.replace(old, new))
        record_path(Path("results/notes3")).write_text(record.read_text())
        assert "results/model3" in told("results/verdict")
    record.write_text(good.replace("results/clips", "results/\\u0000"))
    with pytest.raises(UserError, match=r"model3.json: is not a record"):
        told("results/verdict")
