"""A bundle gives the scores of its stage without PyTorch, and is refused when it is not whole."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import asdpipe
from asdpipe.cli import app
from asdpipe.errors import UserError
from asdpipe.models.onnx_files import write_onnx
from asdpipe.monitor.command import recordings
from asdpipe.monitor.detector import Detector
from asdpipe.monitor.export import agree, difference, export
from asdpipe.monitor.manifest import OWN_DIGEST
from asdpipe.monitor.rows import Result, Row
from tests.conftest import ROOT
from tests.fuzz import audio
from tests.monitor.conftest import KINDS, clips_of_test, stage

# The packages that only training needs; importing any of them fails.
WITHOUT = ("torch", "torchaudio", "pandas", "pyarrow", "sklearn", "scipy", "snakemake", "safetensors", "yaml")
BLOCKED = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {WITHOUT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def exported(ran: Path, kind: str, folder: Path) -> Path:
    bundle = folder / kind
    export(ran / stage(kind), bundle)
    return bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def bundle(ran, bundles) -> Path:
    """The bundle of log-mel statistics, which is written fastest."""
    return exported(ran, "raw_logmel", bundles)


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def without_torch(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def signed(content: dict) -> str:
    """Return a manifest with the digest of its own that it should have."""
    content = {name: value for name, value in content.items() if name != OWN_DIGEST}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps(content | {OWN_DIGEST: digest})


def assert_same_scores(bundled: Detector, trained: Detector, files: list[Path]) -> None:
    assert bundled.machines == trained.machines
    assert bundled.limits == trained.limits
    assert bundled.seconds == trained.seconds
    for one, other in zip(bundled.score_files(files), trained.score_files(files), strict=True):
        assert one.machine == other.machine
        assert difference(other, one) <= 1e-4
        assert one.result.anomalous == other.result.anomalous
        assert one.result.nearest_clip == other.result.nearest_clip
        assert (one.result.spread is None) is (other.result.spread is None)


@pytest.mark.parametrize(
    # Writing a network takes seconds, one with three branches a quarter of a minute.
    "kind",
    [pytest.param(kind, marks=[] if kind == "raw_logmel" else [pytest.mark.soak]) for kind in KINDS],
)
def test_scores_nearest_clips_and_decisions_are_those_of_the_stage(ran, bundles, bundle, kind):
    folder = bundle if kind == "raw_logmel" else exported(ran, kind, bundles)
    assert_same_scores(asdpipe.load(folder), asdpipe.load(ran / stage(kind), "cpu"), list(clips_of_test(ran).values()))


@pytest.mark.soak
def test_all_seeds_of_a_run_are_one_bundle(ran, bundles):
    run = ran / stage("autoencoder").parent.parent
    export(run, bundles / "seeds")
    assert_same_scores(asdpipe.load(bundles / "seeds"), asdpipe.load(run), list(clips_of_test(ran).values()))


def test_the_command_gives_the_same_rows_where_pytorch_is_not_installed(ran, bundle, tmp_path):
    folder = tmp_path / "fan"
    folder.mkdir()
    for number, clip in enumerate(list(clips_of_test(ran, "fan").values())[:3]):
        shutil.copy(clip, folder / f"{number}.wav")
    (folder / "3.wav").write_bytes(b"no audio")
    runs = {}
    for name, model in (("bundle", bundle), ("stage", ran / stage("raw_logmel"))):
        table = tmp_path / f"{name}.jsonl"
        if name == "bundle":
            done = without_torch("from asdpipe.cli import main; main()", "score", model, folder, "--jsonl", table)
            assert done.returncode == 0, done.stderr
        else:
            assert CliRunner().invoke(app, ["score", str(model), str(folder), "--jsonl", str(table)]).exit_code == 0
        runs[name] = [json.loads(line) for line in table.read_text().splitlines()]
    for one, other in zip(runs["bundle"], runs["stage"], strict=True):
        scores = [one.pop("score"), other.pop("score")]
        assert (None in scores) is bool(one["reason"])
        assert scores[0] == scores[1] or scores[0] == pytest.approx(scores[1], rel=1e-4)
        assert one == other
    assert [bool(row["reason"]) for row in runs["bundle"]] == [False, False, False, True]


def test_what_pytorch_is_needed_for_says_so(ran, bundle):
    code = """
import asdpipe
try:
    asdpipe.load(sys.argv[1])
except asdpipe.errors.UserError as error:
    print(error)
from asdpipe.cli import main
sys.argv[1:] = ["table", sys.argv[2]]
main()
"""
    done = without_torch(code, ran / stage("ba"), bundle / "manifest.json")
    assert "is no bundle" in done.stdout
    assert "pip install 'asdpipe[train]'" in done.stdout
    assert done.returncode == 1
    assert "this command needs pandas, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_onnx_runtime_a_bundle_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'asdpipe\[runtime\]'"):
        asdpipe.load(bundle)


def test_waveforms_windows_and_embeddings_are_those_of_the_stage(ran, bundle):
    bundled, trained = asdpipe.load(bundle), asdpipe.load(ran / stage("raw_logmel"), "cpu")
    x = 0.1 * np.random.default_rng(0).standard_normal(60_000)
    np.testing.assert_allclose(bundled.embed(x, 16_000), trained.embed(x, 16_000), atol=1e-4)
    one, other = (each.score(x, 16_000, "fan", hop=0.5) for each in (bundled, trained))
    assert one.start == other.start
    assert one.score == pytest.approx(other.score, rel=1e-5)


def test_two_exports_are_the_same_but_for_what_is_measured(ran, bundle, tmp_path):
    again = exported(ran, "raw_logmel", tmp_path)
    for name in ("extractor.onnx", "references.npz"):
        assert (again / name).read_bytes() == (bundle / name).read_bytes()


@pytest.mark.parametrize("name", ["manifest.json", "extractor.onnx", "references.npz"])
def test_a_bundle_with_a_flipped_bit_or_without_a_file_is_refused(copy, name):
    file = copy / name
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=20):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=str(file)):
            asdpipe.load(copy)
    file.write_bytes(whole[:-100])
    with pytest.raises(UserError, match="damaged"):
        asdpipe.load(copy)
    file.unlink()
    with pytest.raises(UserError, match="is missing" if name != "manifest.json" else "is not the folder of a stage"):
        asdpipe.load(copy)


def change_version(content: dict) -> None:
    content["version"] = 2
    content["asdpipe"] = "9.1"


CHANGES: list[tuple[Callable[[dict], object], str]] = [
    (change_version, r"is of version 2 of bundles, written by asdpipe 9\.1; .* update it"),
    (lambda content: content.update(format="a web extension"), "is not the manifest of a bundle of asdpipe"),
    (lambda content: content["files"].update({"../../secret": "0"}), "does not list the files of a bundle"),
    (lambda content: content.update(files=["extractor.onnx"]), "does not list the files of a bundle"),
    (lambda content: content["decision_thresholds"].pop("fan"), "fan has no decision threshold"),
    (lambda content: content["decision_thresholds"].update(fan="high"), "high is not float"),
    (lambda content: content.update(sample_rate=44_100), "sample_rate is 44100"),
    (lambda content: content["decoding"].update(channel="left"), "left is not int"),
    (lambda content: content["model"]["needs"].update(window=None), "None is not int"),
    (lambda content: content["model"]["machines"]["fan"].update(scorer="os.system"), "os.system"),
    (lambda content: content["model"]["machines"]["fan"].update(arguments={"k": 1}), "takes no arguments"),
    (lambda content: content["model"]["machines"]["fan"].update(extractor="references.npz"), "ONNX Runtime"),
    (lambda content: content["model"].update(references="extractor.onnx"), "does not fit the files"),
    (lambda content: content["model"]["machines"].update(pump={"extractor": "extractor.onnx"}), "does not fit"),
    (lambda content: content.update(model={"seeds": [content["model"]]}), "the seeds are not of one method"),
    (lambda content: content.update(calibration={"scores": "references.npz"}), "does not fit the files"),
    (lambda content: content.pop("model"), "does not fit the files of the bundle"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_manifests_of_others_and_of_later_versions_are_refused(copy, change, words):
    file = copy / "manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(signed(content))
    with pytest.raises(UserError, match=words) as raised:
        asdpipe.load(copy)
    assert str(copy) in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": 1}', "[" * 100_000, "\xff", '{"format": "asdpipe bundle"}']
)
def test_files_that_are_no_manifest_are_refused(copy, text):
    (copy / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"manifest\.json: is"):
        asdpipe.load(copy)


def test_a_gpu_and_a_stage_of_a_bundle_are_refused(bundle):
    with pytest.raises(UserError, match="a bundle runs on the CPU"):
        asdpipe.load(bundle, "cuda")
    with pytest.raises(UserError, match="no stage can be chosen"):
        asdpipe.load(bundle, stage=1)
    with pytest.raises(UserError, match="is a bundle already"):
        export(bundle, bundle)


def test_no_folder_but_a_bundle_is_replaced(ran, bundle, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web extension"}')
    with pytest.raises(UserError, match="is there and is no bundle"):
        export(ran / stage("raw_logmel"), tmp_path)
    assert (tmp_path / "manifest.json").exists()


def test_a_bundle_with_other_scores_is_not_written(ran, tmp_path, monkeypatch):
    clip = next(iter(clips_of_test(ran, "fan").values()))

    def write_another(extractor, file):
        extractor.mel.spectrogram.power = 1.9
        write_onnx(extractor, file)
        extractor.mel.spectrogram.power = 2.0

    monkeypatch.setattr("asdpipe.monitor.export.write_onnx", write_another)
    with pytest.raises(UserError, match=rf"the bundle is not written: 1 of 1 recordings .* {clip} .* by PyTorch"):
        export(ran / stage("raw_logmel"), tmp_path / "bundle", [(clip, "fan")])
    assert list(tmp_path.iterdir()) == []


def test_rows_agree_if_scores_differ_by_rounding_and_decisions_are_the_same():
    def row(score: float, limit: float = 1.0) -> Row:
        return Row(Path("x"), "fan", Result(score, limit, "fan", None))

    assert agree(row(0.5), row(0.50009))
    assert not agree(row(0.5), row(0.50011))
    assert not agree(row(1.00001), row(0.99999))
    # The score of the clip that the limit is the score of.
    assert agree(row(1), row(1.00001))
    # In proportion to score and limit where these are large.
    assert agree(row(5000), row(5000.4))
    assert agree(row(0, 5000), row(0.4, 5000))
    assert not agree(row(0, 50), row(0.4, 50))
    assert agree(row(np.inf, np.inf), row(np.inf, np.inf))
    bad = Row(Path("x"), "fan", None, "is silent")
    assert agree(bad, bad)
    assert not agree(bad, row(0.5))


def test_own_recordings_check_a_bundle(ran, bundle, tmp_path):
    clips = recordings([next(iter(clips_of_test(ran, "valve").values()))])
    done = CliRunner().invoke(
        app,
        [
            *("export", str(ran / stage("raw_logmel")), str(tmp_path / "bundle")),
            *("--clips", str(clips[0]), "--machine", "valve"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "scores of 1 recordings differ by" in done.output
    with pytest.raises(UserError, match="none of the recordings it is checked with has a score"):
        export(ran / stage("raw_logmel"), tmp_path / "other", [(Path(__file__), "fan")])


@pytest.mark.parametrize("count", [36, pytest.param(600, marks=pytest.mark.soak)])
def test_bad_recordings_are_rows_with_a_reason(bundle, tmp_path, count):
    ended = {case.name: case.run() for case in audio.cases(0, 0, count, tmp_path)}
    assert set(ended.values()) == {"success", "skip"}
    rows = {row.file.name: row for row in asdpipe.load(bundle).score_files(recordings([tmp_path]), "fan")}
    assert rows.keys() == ended.keys()
    for name, how in ended.items():
        assert bool(rows[name].reason) is (how == "skip"), name
        assert (rows[name].result is None) is (how == "skip"), name
