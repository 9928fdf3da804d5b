"""Which changes of the code change a step's digest: on small packages of a few lines, and on a copy of the real one."""

import ast
import re
import shutil

import pytest

from asdpipe.provenance import code
from asdpipe.provenance.code import code_digest
from tests.conftest import ROOT

RULES = "".join(file.read_text() for file in sorted((ROOT / "workflow/rules").glob("*.smk")))
STEPS = {name.replace("-", "_") for name in re.findall(r"--log \{log\} step ([a-z][a-z-]*)", RULES)}
SMALL = {
    **dict.fromkeys(("__init__.py", "steps/__init__.py", "data/__init__.py", "config/__init__.py"), ""),
    "steps/select.py": "from asdpipe.data.fetch import run\ndef select(): return run()",
    # Hands on what it imported.
    "steps/train.py": "from asdpipe.data.fetch import run as train",
    "data/fetch.py": "def run(): return 1",
    "data/dcase.py": "def run(): return 1",
    "config/method.py": "SIZE = 3\nclass Method: size = 3",
}


def forget() -> None:
    """Empty the caches, as in a new process."""
    for function in vars(code).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder that takes the place of the package."""
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "asdpipe")
    yield tmp_path / "asdpipe"
    forget()


@pytest.fixture
def digest_of(package):
    """Return a function that writes files of a small package and returns the digest of its step."""

    def digest(files=(), targets=(), step="select"):
        for name, text in {**SMALL, **dict(files)}.items():
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(text)
        forget()
        return code_digest(step, targets)

    return digest


def all_digests() -> dict[str, str]:
    forget()
    return {step: code_digest(step) for step in STEPS}


@pytest.fixture(scope="module")
def before():
    return all_digests()


@pytest.fixture
def changed(package, before):
    """Return a function that edits files of a copy of the real package and returns the steps whose digest differs."""
    shutil.copytree(ROOT / "src/asdpipe", package)

    def edit(*edits):
        for file, old, new in edits:
            text = (package / file).read_text()
            assert old in text, file
            (package / file).write_text(text.replace(old, new, 1))
        return {step for step, digest in all_digests().items() if digest != before[step]}

    return edit


def test_every_step_has_a_digest_of_its_own(before):
    assert len(set(before.values())) == len(STEPS) > 0
    assert all(re.fullmatch(r"[0-9a-f]{16}", digest) for digest in before.values())


def test_an_unused_definition_in_any_module_of_the_package_changes_no_digest(package, changed):
    added = """
import fractions
from asdpipe import errors as added_errors
def added_function(): added_errors.f(fractions)
class Added: pass
ADDED: int = 1
ADDED_ONE, ADDED_TWO = 1, 2
"""
    for file in package.rglob("*.py"):
        file.write_text(file.read_text() + added)
    (package / "method/added_objective.py").write_text("class AddedObjective: pass")
    assert not changed()


@pytest.mark.parametrize(
    ("file", "old", "new", "steps", "others"),
    [
        ("method/metrics.py", "MAX_FPR = 0.1", "MAX_FPR = 0.2", {"evaluate"}, {"train", "score", "write_submission"}),
        ("data/audio.py", "SAMPLE_RATE = 16_000", "SAMPLE_RATE = 8_000", {"embed", "pack_clips"}, {"evaluate"}),
        ("data/waveforms.py", "class Waveforms:", "class Waveforms(dict):", {"train", "embed"}, {"score", "download"}),
        # The rules of settings that are auto.
        ("method/data_size.py", "MIN_STEPS = 200", "MIN_STEPS = 201", {"train"}, {"represent", "select", "embed"}),
        ("method/data_size.py", "MOST_CENTROIDS = 16", "MOST_CENTROIDS = 8", {"represent"}, {"select", "pseudo_label"}),
        ("method/data_size.py", "MOST_EXTERNAL = 1000", "MOST_EXTERNAL = 9", {"select"}, {"represent", "pseudo_label"}),
        (
            "method/data_size.py",
            "MOST_TARGET_CLUSTERS = 4",
            "MOST_TARGET_CLUSTERS = 5",
            {"pseudo_label"},
            {"represent"},
        ),
        ("paper/iterative_asd.csv", "1", "2", {"write_paper_table"}, {"evaluate", "train", "write_top_m_table"}),
        ("paper/top_m.csv", "1", "2", {"write_top_m_table"}, {"evaluate", "write_paper_table"}),
    ],
)
def test_changed_code_changes_the_steps_that_use_it_and_no_others(changed, file, old, new, steps, others):
    assert steps | others <= STEPS
    found = changed((file, old, new))
    assert found >= steps
    assert not found & others


def test_text_and_layout_and_settings_change_nothing(package, changed):
    for file in package.rglob("*.py"):
        text = re.sub(r'"""(?=[A-Z])', '"""Other words. ', file.read_text())
        file.write_text("# A comment.\n" + text.replace("\n\n\ndef", "\n\n\n\n# Another.\n\ndef"))
    assert not changed(
        ("progress.py", "SECONDS_BETWEEN_LINES", "SECONDS"),
        ("steps/options.py", 'help="Artifact to write."', 'help="Table to write."'),
        ("errors.py", "len(line) <= most", "len(line) < most"),
        ("artifacts/tables.py", "frame.select(schema.names)", "frame"),
        ("config/base.py", "sort_keys=True", "sort_keys=False"),
        ("provenance/code.py", "hexdigest()[:16]", "hexdigest()[:17]"),
        ("cli.py", "no_args_is_help=True", "no_args_is_help=False"),
        ("config/methods.yaml", "ba:", "# The baseline.\nba:"),
    )


def test_what_only_type_checkers_read_changes_nothing(digest_of):
    step = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  from asdpipe.data.{} import run\ndef select(): pass"
    assert digest_of({"steps/select.py": step.format("fetch")}) == digest_of({"steps/select.py": step.format("dcase")})
    with_else = step.replace("\ndef", "\nelse:\n  SIZE = {}\ndef")
    one, other = ({"steps/select.py": with_else.format("fetch", size)} for size in (1, 2))
    assert digest_of(one) != digest_of(other)


# Steps that use asdpipe.data.fetch.run.
USES = [
    "import asdpipe.data.fetch\ndef select(): asdpipe.data.fetch.run()",
    "import asdpipe.data.fetch\nimport asdpipe.data.dcase\ndef select(): asdpipe.data.fetch.run()",
    "import asdpipe.data.fetch as fetch\ndef select(): fetch.run()",
    "from asdpipe.data import fetch\ndef select(): fetch.run()",
    "from asdpipe.data import fetch\ndef select(): return fetch.run.__name__",
    "from asdpipe.data.fetch import run\ndef select(): run()",
    "from asdpipe.data.fetch import run as go\ndef select(): go()",
    "from asdpipe.data.fetch import run\nTASKS = {'fetch': run}\ndef select(): TASKS['fetch']()",
    "from asdpipe.data.fetch import run\nfrom functools import cache\nrun = cache(run)\ndef select(): run()",
    "from asdpipe.data.fetch import run\nA, B = run(), 2\ndef select(): return B",
    "from ..data.fetch import run\ndef select(): run()",
    "from ..data import fetch\ndef select(): fetch.run()",
    "def select():\n  from asdpipe.data.fetch import run",
    "def select():\n  from asdpipe.data import fetch\n  fetch.run()",
    "def select():\n  import asdpipe.data.fetch\n  asdpipe.data.fetch.run()",
    "def select():\n  if True:\n    from asdpipe.data.fetch import run",
    "def select():\n  def later():\n    from asdpipe.data.fetch import run",
    "from asdpipe.steps.train import train\ndef select(): train()",
    "from asdpipe.steps import train\ndef select(): train.train()",
    "try:\n  from asdpipe.data.fetch import run\nexcept ImportError:\n  pass\ndef select(): run()",
    "class A:\n  from asdpipe.data.fetch import run\ndef select(): A.run()",
    "from asdpipe.data.fetch import run\nclass A(run): pass\ndef select(): A()",
    "from asdpipe.data.fetch import run\n@run\ndef select(): pass",
    "from asdpipe.data.fetch import run\ndef select(a=run): pass",
    "from asdpipe.data.fetch import run\nclass A:\n  def b(self): return run()\ndef select(): A().b()",
]
# The same, but nobody knows what of the module is used: all of it counts.
USES_OF_WHOLE_MODULES = [
    "def select():\n  import asdpipe.data.fetch",
    "def select():\n  import asdpipe.data.fetch as fetch",
    "def select():\n  from asdpipe.data import fetch",
    "if True:\n  def select_one():\n    from asdpipe.data import fetch\ndef select(): select_one()",
    "try:\n  from asdpipe.data import fetch\nexcept ImportError:\n  pass\ndef select(): fetch.run()",
    "from asdpipe.data import fetch\ndef select(): return getattr(fetch, 'run')()",
    "from asdpipe.data import fetch\nTOOL = fetch\ndef select(): return TOOL.run()",
    "from asdpipe.data.fetch import *\ndef select(): return run()",
    "from asdpipe import data\ndef select(): return getattr(data, 'fetch').run()",
    "import asdpipe.data.fetch\ndef select(): return vars(asdpipe)['data'].fetch.run()",
]


@pytest.mark.parametrize("step", [*USES, *USES_OF_WHOLE_MODULES])
def test_a_definition_counts_wherever_and_however_it_is_imported(digest_of, step):
    files = {"steps/select.py": step}
    assert digest_of(files) != digest_of(files | {"data/fetch.py": "def run(): return 2"})


@pytest.mark.parametrize("step", USES)
def test_unused_definitions_of_imported_modules_do_not_count(digest_of, step):
    files = {"steps/select.py": step}
    more = {"data/fetch.py": "def run(): return 1\ndef stop(): return 2", "data/dcase.py": "def run(): return 2"}
    assert digest_of(files) == digest_of(files | more)


@pytest.mark.parametrize("step", USES_OF_WHOLE_MODULES)
def test_modules_that_are_used_as_a_whole_count_as_a_whole(digest_of, step):
    files = {"steps/select.py": step}
    assert digest_of(files) != digest_of(files | {"data/fetch.py": "def run(): return 1\ndef stop(): return 2"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("@cache\ndef run(): pass", "@retry\ndef run(): pass"),
        ("class run(int): pass", "class run(float): pass"),
        ("class run:\n  a = 1", "class run:\n  a = 2"),
        ("def run(a=1): pass", "def run(a=2): pass"),
        ("RUNS = 1\nclass run:\n  a = RUNS", "RUNS = 2\nclass run:\n  a = RUNS"),
        ("run: int = 1", "run: int = 2"),
        ("def run(): return 1\nrun = cache(run)", "def run(): return 2\nrun = cache(run)"),
        ("def run(): return 1\nrun = cache(run)", "def run(): return 1\nrun = retry(run)"),
        ("import numpy as pc\ndef run(): pc.f()", "import pyarrow.compute as pc\ndef run(): pc.f()"),
        ("import scipy.stats\ndef run(): scipy.f()", "import scipy.signal\ndef run(): scipy.f()"),
        ("def run(): import numpy as np", "def run(): import numpy.linalg as np"),
    ],
)
def test_all_that_makes_up_a_definition_counts(digest_of, one, other):
    assert digest_of({"data/fetch.py": one}) != digest_of({"data/fetch.py": other})


def test_unused_imports_and_text_do_not_count(digest_of):
    plain = digest_of()
    for text in ("import numpy", "from asdpipe.data.dcase import run as other", "'''Text.'''", "# Comment.", "\n\n"):
        assert digest_of({"data/fetch.py": f"{text}\n{SMALL['data/fetch.py']}"}) == plain


def test_what_a_module_does_besides_definitions_counts(digest_of):
    lines = ["", "A, B = 1, 2", "A, B = 1, 3", "A = 1\nA += 1", "print()", "if A:\n  B = 1"]
    # The name of something that is used up by its own next definition.
    lines += ["def A(): return 1\nA = cache(A)", "def A(): return 2\nA = cache(A)"]
    found = {digest_of({"steps/select.py": f'"""Text."""\n{line}\ndef select(): return A + B'}) for line in lines}
    assert len(found) == len(lines)


@pytest.mark.parametrize("file", ["data/fetch.py", "data/dcase.py", "data/__init__.py", "__init__.py"])
def test_what_imported_modules_and_their_packages_do_when_imported_counts(digest_of, file):
    """Fetch imports dcase, but uses nothing of it."""
    fetch = "import asdpipe.data.dcase\ndef run(): return 1"
    files = {"data/fetch.py": fetch}
    effect = {file: f"import numpy\n{(SMALL | files)[file]}\nnumpy.seterr('raise')"}
    assert digest_of(files) != digest_of(files | effect)


def test_modules_that_import_each_other_are_followed_once(digest_of):
    files = {
        "data/fetch.py": "from asdpipe.data import dcase\ndef run(): return dcase.run()\ndef back(): return 1",
        "data/dcase.py": "from asdpipe.data import fetch\ndef run(): return fetch.back() or fetch.run()",
    }
    other = {"data/fetch.py": files["data/fetch.py"].replace("return 1", "return 2")}
    assert digest_of(files) != digest_of(files | other)


def test_of_the_configuration_only_plain_constants_count(digest_of):
    files = {"steps/select.py": "from asdpipe.config.method import SIZE, Method\ndef select(): return Method(SIZE)"}
    known = digest_of(files)
    for text in ("class Method: size = 4", "def Method(x): return 4", "Method = dict(a=1)", "Method = First | Second"):
        assert digest_of(files | {"config/method.py": f"SIZE = 3\n{text}"}) == known
    for text in ("SIZE = 4", "SIZE = (3, 4)", "SIZE: int = 2 * 3", "HALF = 3\nSIZE = 2 * HALF"):
        assert digest_of(files | {"config/method.py": f"{text}\nclass Method: size = 3"}) != known


def test_code_that_the_configuration_only_hands_on_counts(digest_of):
    files = {
        "steps/select.py": "from asdpipe.config.method import run\ndef select(): return run()",
        "config/method.py": "from asdpipe.data.fetch import run",
    }
    assert digest_of(files) != digest_of(files | {"data/fetch.py": "def run(): return 2"})


def test_data_files_count_where_code_names_them(digest_of):
    files = {"data/fetch.py": "def run(): return open('data/years.csv')", "data/years.csv": "2020"}
    known = digest_of(files)
    assert digest_of(files | {"data/years.csv": "2021"}) != known
    assert digest_of(files | {"data/years.csv": "2020", "data/other.csv": "1"}) == known


def test_the_code_that_settings_select_counts_as_target_of_the_step(digest_of):
    files = {"data/fetch.py": "class A: a = 1\nclass B: a = 2\nclass C: a = 3\ndef run(): return 1"}
    a, b = "asdpipe.data.fetch.A", "asdpipe.data.fetch.B"
    known = digest_of(files, [a, b])
    assert digest_of(files, [b, a]) == digest_of(files, (a, b, a)) == known
    assert len({digest_of(files, targets) for targets in ([], [a], [b], [a, b])}) == 4
    for old, steps in (("a = 1", True), ("a = 2", True), ("a = 3", False)):
        assert (digest_of({"data/fetch.py": files["data/fetch.py"].replace(old, "a = 4")}, [a, b]) != known) is steps
    # A class in a file of its own, and one that a package hands on.
    assert digest_of({**files, "data/new.py": "class New: pass"}, [a, b]) == known
    assert digest_of({**files, "data/__init__.py": "from asdpipe.data.fetch import A"}, ["asdpipe.data.A"]) != known


def test_a_table_of_targets_does_not_count(digest_of):
    files = {"data/fetch.py": "KINDS = {'a': 'asdpipe.data.dcase.run'}\ndef run(kind): return load(KINDS[kind])"}
    more = {"data/fetch.py": files["data/fetch.py"].replace("}", ", 'b': 'asdpipe.data.dcase.other'}")}
    assert digest_of(files) == digest_of(more)
    # One that holds other texts, too, counts.
    assert digest_of(files) != digest_of({"data/fetch.py": files["data/fetch.py"].replace("}", ", 'b': 'c'}")})


def test_a_step_is_found_in_the_module_of_its_name_or_else_in_another(digest_of):
    files = {
        "steps/aaa.py": "def select(): return 1\ndef choose(): return 1",
        "steps/select.py": "def select(): return 1",
    }
    known, chosen = digest_of(files), digest_of(files, step="choose")
    files["steps/aaa.py"] = files["steps/aaa.py"].replace("1", "2")
    assert digest_of(files) == known
    assert digest_of(files, step="choose") != chosen


def test_unknown_steps_and_targets_are_errors(digest_of):
    with pytest.raises(LookupError, match="no step 'choose'"):
        digest_of(step="choose")
    for target in ("asdpipe.data.fetch.walk", "asdpipe.data.fetch", "asdpipe.none.A", "numpy.array", ""):
        with pytest.raises(LookupError, match=f"no definition '{target}'"):
            digest_of(targets=[target])


def test_unlike_values_and_layouts_of_code_are_told_apart():
    def plain(text):
        return repr(code._plain(ast.parse(text).body))

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
