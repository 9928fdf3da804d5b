"""The structure of package and workflow: imports run downwards, every rule has what users rely on."""

import ast
import graphlib
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PACKAGE = ROOT / "src/asdpipe"
# Modules import from the levels below their own.
LEVELS = [
    *(
        "__main__",
        "cli",
        "installation",
        "table_plan",
        "plan",
        "data_plan",
        "steps",
        "report",
        "monitor",
        "config",
        "provenance",
        "paper",
        "training",
        "models",
        "method",
        "data",
    ),
    "artifacts",
]
# Modules for all levels. They import nothing of the package.
SHARED = {"errors", "progress", "imports"}
RULE_FILES = sorted((ROOT / "workflow/rules").glob("*.smk"))
# "rule NAME:" and its indented lines.
RULE = re.compile(r"^rule (\w+):\n((?:[ \t]+.*\n|\n|#.*\n)*)", flags=re.M)
RULES = {name: body for file in RULE_FILES for name, body in RULE.findall(file.read_text() + "\n")}
STEP_RULES = [name for name, body in RULES.items() if "python -m asdpipe" in body]
PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))


def imports(file: Path) -> set[str]:
    """Return the modules of the package that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in FILES else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("asdpipe.")}


FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts): file
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.name != "__init__.py"
}
MODULES = {module: imports(file) for module, file in FILES.items()}


def level(module: str) -> int:
    """Return the place of a module in LEVELS; those of SHARED are below all."""
    part = module.split(".")[1]
    return len(LEVELS) if part in SHARED else LEVELS.index(part)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module):
    for imported in MODULES[module]:
        same = module.split(".")[1] == imported.split(".")[1]
        assert same or level(imported) > level(module), f"{module} imports {imported}"


def test_there_are_no_circles():
    graphlib.TopologicalSorter(MODULES).prepare()


def test_steps_do_not_import_steps():
    for module, imported in MODULES.items():
        if module.startswith("asdpipe.steps."):
            assert {name for name in imported if name.startswith("asdpipe.steps")} <= {"asdpipe.steps.options"}, module


def test_the_method_knows_no_files_and_no_config():
    statements = ast.parse(FILES["asdpipe.data.audio"].read_text()).body
    constants = {name.id for node in statements if isinstance(node, ast.Assign) for name in node.targets}
    for module, file in FILES.items():
        if module.startswith("asdpipe.method."):
            others = {name for name in MODULES[module] if not name.startswith("asdpipe.method.")}
            assert others <= {"asdpipe.data.audio"}, module
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "asdpipe.data.audio":
                    assert {alias.name for alias in node.names} <= constants, f"{file}, line {node.lineno}"


def decides_by_kind(node: ast.AST) -> bool:
    """Tell whether a node compares or matches an attribute or a key ``kind``; NumPy's types have a kind, too."""
    compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
    compared += [node.subject] if isinstance(node, ast.Match) else []
    compared += [element for each in compared if isinstance(each, ast.Set | ast.Tuple) for element in each.elts]
    texts = [ast.unparse(each) for each in compared]
    return any(text.endswith((".kind", "['kind']")) and not text.endswith("dtype.kind") for text in texts)


def test_only_configuration_and_builders_ask_for_a_kind():
    for module, file in FILES.items():
        if not module.startswith("asdpipe.config.") and not module.endswith(".build"):
            lines = [node.lineno for node in ast.walk(ast.parse(file.read_text())) if decides_by_kind(node)]
            assert not lines, f"{file}, lines {lines}"
    for file in (ROOT / "Snakefile", *RULE_FILES):
        assert not re.search(r"\bkind(\"\])? *(==|!=|in\b|not in\b)", file.read_text()), file


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("method.kind == 'a'", True),
        ("'a' != settings['kind']", True),
        ("self.kind in ('a', 'b')", True),
        ("{a.kind, b.kind} != {'a'}", True),
        ("match method.kind:\n  case 'a': pass", True),
        ("KINDS[method.kind] != known", False),
        ("values.dtype.kind == 'f'", False),
        ("kind == 'a'", False),
    ],
)
def test_decisions_by_kind_are_found(code, expected):
    assert any(decides_by_kind(node) for node in ast.walk(ast.parse(code))) is expected


def test_files_hold_one_idea_each():
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 450, file


def test_every_step_has_a_module_and_a_rule_of_its_name():
    steps = {file.stem: file for file in (PACKAGE / "steps").glob("*.py") if file.stem not in ("__init__", "options")}
    assert steps.keys() == set(STEP_RULES)
    for step, file in steps.items():
        functions = [node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert step in functions, f"{file} has no function {step}"


def test_every_file_with_rules_is_included_once():
    included = re.findall(r'^include: "workflow/rules/(\w+\.smk)"', (ROOT / "Snakefile").read_text(), flags=re.M)
    assert sorted(included) == [file.name for file in RULE_FILES]
    assert included[0] == "common.smk"


def test_only_common_smk_has_functions():
    for file in RULE_FILES:
        if file.name != "common.smk":
            assert not re.search(r"^\s*(async )?def ", file.read_text(), flags=re.M), f"{file}: move them to plan.py"


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_what_users_rely_on(name):
    body = RULES[name]
    directives = ["output", "log", "benchmark", "threads", "resources", "params", "conda", "message", "shell"]
    # Without input: what is downloaded and generated.
    directives += [] if name.startswith(("download", "generate_")) else ["input"]
    for directive in directives:
        assert re.search(rf"^    {directive}:", body, flags=re.M), f"{name} has no {directive}"
    # On a cluster, a job that failed for lack of memory or time gets more of it.
    growing = "mem_mb=growing(" in body and re.search(r"runtime=(growing\(|training_minutes,)", body)
    assert growing or "localrule: True" in body, name


@pytest.mark.parametrize("name", [name for name, body in RULES.items() if "gpu=gpus" in body])
def test_a_rule_that_runs_a_network_asks_for_the_memory_of_that(name):
    memory = {"train": "training_mb, per_mb=1", "embed": "embedding_mb, per_mb=1", "score_external": "embedding_mb"}
    assert f"mem_mb=growing({memory[name]})," in RULES[name]


@pytest.mark.parametrize("name", STEP_RULES)
def test_every_rule_runs_the_step_of_its_name_with_its_code_as_param(name):
    assert re.findall(r"--log \{log\} step ([a-z-]+)", RULES[name]) == [name.replace("_", "-")]
    assert re.search(rf'^        code=.*"{name}"', RULES[name], flags=re.M), f"{name}: no digest of its step's code"


@pytest.mark.parametrize("profile", PROFILES, ids=lambda file: file.parent.name)
def test_profiles_explain_every_entry_and_name_rules_that_exist(profile):
    text = profile.read_text()
    entries = yaml.safe_load(text)
    groups = entries.get("groups", {})
    assert set(groups) <= RULES.keys()
    assert set(entries.get("group-components", {})) <= set(groups.values())
    lines = text.splitlines()
    for entry in entries:
        (number,) = (number for number, line in enumerate(lines) if line.startswith(f"{entry}:"))
        assert lines[number - 1].startswith("# "), f"{entry} is not explained"


def test_there_are_profiles_for_one_machine_and_for_slurm():
    assert {file.parent.name for file in PROFILES} >= {"default", "slurm"}


def test_the_slurm_profile_names_the_rules_that_ask_for_a_gpu():
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    with_gpu = {name for name, body in RULES.items() if re.search(r"^        gpu=", body, flags=re.M)}
    assert with_gpu
    assert set(re.findall(r"^#   (\w+): \{gres:", text, flags=re.M)) == with_gpu
