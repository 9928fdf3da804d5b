"""Which steps a changed line of the package runs again, on a copy of the package."""

import ast
import shutil

import pytest

from asdpipe.provenance import code as code_digest
from asdpipe.steps import STEPS
from tests.conftest import ROOT

TRAINING = {"train", "embed", "score_external"}
FEATURES = {"features", "features_pool", "features_selected"}
AUTOENCODER = {"train_autoencoder", "embed_autoencoder"}
ALL = {name for names in STEPS.values() for name in names}


def forget() -> None:
    code_digest._source.cache_clear()
    code_digest._content.cache_clear()


def digests() -> dict[str, str]:
    """Return the digest of every step as a new process finds it."""
    forget()
    return {name: code_digest.step_digest(module, name) for module, names in STEPS.items() for name in names}


@pytest.fixture(scope="module")
def before():
    return digests()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, whose digests are asked for."""
    package = tmp_path / "asdpipe"
    shutil.copytree(ROOT / "src/asdpipe", package)
    monkeypatch.setattr(code_digest, "PACKAGE", package)
    yield package
    forget()


@pytest.fixture
def changed(package, before):
    """Return a function that edits files of the copy and returns the steps whose digest differs."""

    def edit(*edits):
        for file, old, new in edits:
            text = (package / file).read_text()
            assert old in text, file
            (package / file).write_text(text.replace(old, new, 1))
        return {name for name, digest in digests().items() if digest != before[name]}

    return edit


def test_every_step_has_a_digest_of_its_own(before):
    assert len(set(before.values())) == len(ALL)


@pytest.mark.parametrize(
    ("file", "old", "new", "steps"),
    [
        ("method/losses.py", "return", "return 2 *", TRAINING),
        ("method/pitch.py", "", "UNUSED = 1\n", TRAINING),
        ("method/selection.py", "", "UNUSED = 1\n", {"select"}),
        ("method/metrics.py", "MAX_FPR = 0.1", "MAX_FPR = 0.2", {"evaluate", "summarize", "submission", "paper_table"}),
        ("method/autoencoder.py", "BANDS = 128", "BANDS = 64", AUTOENCODER),
        ("method/backends.py", "", "UNUSED = 1\n", {"score"}),
        ("data/demo.py", "", "UNUSED = 1\n", {"demo_dataset"}),
        ("data/dcase_names.py", "", "UNUSED = 1\n", {"manifest"}),
        # Imported within a function.
        ("training/embedding.py", "", "UNUSED = 1\n", {"embed", "score_external"}),
        # Of the steps' own modules only what a step reaches.
        ("steps/score.py", "DECODING_THREADS = 4", "DECODING_THREADS = 8", {"score_external"}),
        ("steps/score.py", "value = embedding[:, 0]", "value = embedding[:, 1]", {"score"}),
        ("steps/train.py", 'domain="source"', 'domain="target"', {"train", "train_autoencoder"}),
        ("steps/features.py", "MOST_LISTED = 20", "MOST_LISTED = 30", {*FEATURES, "score_external"}),
        # What something that was imported is called from.
        ("steps/select.py", "import pyarrow.compute as pc", "import numpy as pc", {"select"}),
        ("paper_results.csv", "1", "2", {"paper_table"}),
    ],
)
def test_changed_code_changes_the_steps_that_use_it(changed, file, old, new, steps):
    assert changed((file, old, new)) == steps


@pytest.mark.parametrize(
    "step",
    [
        "import asdpipe.data.fetch\ndef select(): asdpipe.data.fetch.run()",
        "import asdpipe.data.fetch\nimport asdpipe.data.dcase\ndef select(): asdpipe.data.fetch.run()",
        "import asdpipe.data.fetch as fetch\ndef select(): fetch.run()",
        "from asdpipe.data import fetch\ndef select(): fetch.run()",
        "from asdpipe.data.fetch import run\ndef select(): run()",
        "from asdpipe.data.fetch import run\nTASKS = {'fetch': run}\ndef select(): TASKS['fetch']()",
        "def select():\n  import asdpipe.data.fetch",
        "def select():\n  import asdpipe.data.fetch as fetch",
        "def select():\n  from asdpipe.data import fetch",
        "def select():\n  if True:\n    from asdpipe.data.fetch import run",
        "def select():\n  def later():\n    from asdpipe.data.fetch import run",
        "from asdpipe.steps.train import run\ndef select(): run()",
        "from asdpipe.steps import train\ndef select(): train.run()",
        "try:\n  from asdpipe.data.fetch import run\nexcept ImportError:\n  pass\ndef select(): run()",
        "if True:\n  def select_one():\n    from asdpipe.data import fetch\ndef select(): select_one()",
    ],
)
def test_a_module_counts_wherever_and_however_it_is_imported(package, step):
    (package / "steps/select.py").write_text(step)
    # Hands on what it imported.
    (package / "steps/train.py").write_text("from asdpipe.data.fetch import run")
    (package / "data/fetch.py").write_text("def run(): return 1")
    forget()
    before = code_digest.step_digest("select", "select")
    (package / "data/fetch.py").write_text("def run(): return 2")
    forget()
    assert code_digest.step_digest("select", "select") != before


def test_what_a_steps_module_does_besides_definitions_counts(package):
    found = set()
    lines = ["", "A, B = 1, 2", "A, B = 1, 3", "A = 1\nA += 1", "print()", "if A:\n  B = 1"]
    # The name of something that is used up by its own next definition.
    lines += ["def A(): return 1\nA = cache(A)", "def A(): return 2\nA = cache(A)"]
    for line in lines:
        (package / "steps/select.py").write_text(f'"""Text."""\n{line}\ndef select(): return A + B')
        forget()
        found.add(code_digest.step_digest("select", "select"))
    assert len(found) == len(lines)


def test_text_layout_and_settings_change_nothing(changed):
    steps = changed(
        ("method/losses.py", '"""', '"""Say it otherwise. '),
        ("method/losses.py", "import", "# A comment.\nimport"),
        ("steps/train.py", '    """Train one stage.', '    """Train a stage.'),
        ("steps/score.py", '    """(clips,): index of', '    """(clips,): place of'),
        ("method/inference.py", "\n\n\ndef", "\n\n\n\n\n\ndef"),
        ("method/selection.py", "n_max: int", "n_max:  (  int\n)"),
        # What does not decide results.
        ("config_method.py", "epochs: PositiveInt = Field(50", "steps: int = 3\n    epochs: PositiveInt = Field(60"),
        ("artifacts.py", '"anomaly score, -max', '"score of a clip, -max'),
        ("progress.py", "SECONDS_BETWEEN_LINES = 15.0", "SECONDS_BETWEEN_LINES = 30.0"),
        ("errors.py", "", "UNUSED = 1\n"),
        ("steps/options.py", 'help="Artifact to write."', 'help="Table to write."'),
        ("cli.py", "", "UNUSED = 1\n"),
        ("methods.yaml", "ba:", "# The baseline.\nba:"),
    )
    assert not steps


def test_a_constant_of_the_settings_counts_where_it_is_used(changed):
    steps = changed(("config_data.py", "SAMPLE_RATE = 16_000", "SAMPLE_RATE = 8_000"))
    assert {*FEATURES, "train", "demo_dataset", "demo_pool"} <= steps
    assert not steps & {"evaluate", "select", "represent"}


def test_unlike_values_and_layouts_of_code_are_told_apart():
    def plain(code):
        return repr(code_digest._plain(ast.parse(code).body))

    for one, other in (
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = None", "x = ..."),
        ("x = [1, 2]", "x = (1, 2)"),
        ("x = []", "x = ()"),
        ("def f(a, b=1): pass", "def f(a, *, b=1): pass"),
        ("def f(a): pass", "def f(*a): pass"),
        ("if a:\n  b()\nc()", "if a:\n  b()\n  c()"),
        ("x = f'{a!r}'", "x = f'{a}'"),
        ("a < b", "a <= b"),
        ("f(x=1)", "f(y=1)"),
        ("from a import b", "from a import c as b"),
        ("from .a import b", "from ..a import b"),
        ("x: int", "x: str"),
        ("x[1:]", "x[:1]"),
        ("async def f(): pass", "def f(): pass"),
        ("try:\n  a()\nfinally:\n  b()", "try:\n  a()\nexcept E:\n  b()"),
    ):
        assert plain(one) != plain(other), (one, other)
    assert plain("x = ('a'\n  'b')  # why") == plain('x = "ab"')
