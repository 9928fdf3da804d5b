"""The house: cli over steps over training over method and data, config and artifacts on the ground; no circles."""

import ast
import graphlib
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PACKAGE = ROOT / "src/asdpipe"
# Higher floors may import lower ones. method and data share a floor and do not know each other.
FLOORS = {"__main__": 6, "cli": 5, "explain": 4, "steps": 3, "training": 2, "method": 1, "data": 1}
GROUND = {
    "challenge",
    "code_digest",
    "config",
    "config_data",
    "config_method",
    "configfile",
    "paper",
    "artifacts",
    "provenance",
    "errors",
    "progress",
}
RULES = [
    *("download", "manifest", "features", "train", "embed", "autoencoder", "score", "select", "pseudo_label"),
    *("evaluate", "submission", "tables"),
]


def imports(file: Path) -> set[str]:
    """Return the modules of the package that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asdpipe"):
            base = str(node.module)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                is_module = (PACKAGE.parent / Path(*inner.split("."))).with_suffix(".py").is_file()
                found.add(inner if is_module else base)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("asdpipe")}
    return found


MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts): imports(file)
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.name != "__init__.py"
}


def part(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module):
    for imported in MODULES[module]:
        if part(module) in GROUND:
            assert part(imported) in GROUND, f"{module} on the ground imports {imported}"
        elif part(imported) not in GROUND and part(imported) != part(module):
            assert FLOORS[part(imported)] < FLOORS[part(module)], f"{module} imports {imported}"


def test_there_are_no_circles():
    graphlib.TopologicalSorter(MODULES).prepare()


def test_the_method_knows_no_files_and_no_config():
    for module, imported in MODULES.items():
        if part(module) == "method":
            assert all(part(each) == "method" for each in imported), module


def test_every_rule_has_a_file_and_a_step_of_its_name():
    steps = {file.stem for file in (PACKAGE / "steps").glob("*.py")} - {"__init__", "options"}
    rules = {file.stem for file in (ROOT / "workflow/rules").glob("*.smk")} - {"common", "inputs"}
    assert steps == rules == set(RULES)
    included = [line for line in (ROOT / "Snakefile").read_text().splitlines() if line.startswith("include")]
    assert [line.rpartition("/")[2].removesuffix('.smk"') for line in included] == ["common", "inputs", *RULES]


def test_files_hold_one_idea_each():
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 450, file


def test_every_rule_says_all_that_users_rely_on():
    directives = ["output", "log", "benchmark", "threads", "resources", "params", "conda", "message", "shell"]
    rules = 0
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for body in re.split(r"^rule ", file.read_text(), flags=re.M)[1:]:
            name, rules = body.split(":")[0], rules + 1
            for directive in directives + ([] if name == "download" or name.startswith("demo_") else ["input"]):
                assert re.search(rf"^    {directive}:", body, flags=re.M), f"{name} has no {directive}"
            # On a cluster, what failed for want of memory or time gets more of it.
            assert "localrule: True" in body or body.count("=growing(") == 2, name
    assert rules == 24


def test_a_rule_made_of_a_local_one_is_local_too():
    smk = "\n".join(file.read_text() for file in sorted((ROOT / "workflow/rules").glob("*.smk")))
    local = re.findall(r"^rule (\w+):(?:(?!^rule )[\s\S])*?^    localrule: True", smk, flags=re.M)
    made = {name for base, name in re.findall(r"^use rule (\w+) as (\w+)", smk, flags=re.M) if base in local}
    assert made
    assert made == set(re.findall(r"^    (share_\w+),$", smk, flags=re.M))


def test_every_rule_names_the_code_of_its_step():
    named = 0
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for body in re.split(r"^(?:use )?rule ", file.read_text(), flags=re.M)[1:]:
            step = re.search(r"--log \{log\} ([a-z-]+)", body)
            given = re.search(r'^        code=code\("(\w+)"(?:, rule="(\w+)")?\),$', body, flags=re.M)
            if step:
                assert given, body
                assert given[1] == step[1].replace("-", "_") == re.match(r"\w+", body)[0]
                named += 1
            elif "    params:" in body and given:
                # A rule that differs from another in its inputs: the same step, the record of its own results.
                base, name = re.match(r"(\w+) as (\w+)", body).groups()
                assert given.groups() == (base, name)
    assert named == 22


def test_the_slurm_profile_knows_the_rules_and_explains_every_entry():
    text = (ROOT / "workflow/profiles/slurm/config.yaml").read_text()
    profile = yaml.safe_load(text)
    smk = "".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    assert set(profile["groups"]) <= set(re.findall(r"^(?:rule|use rule \w+ as) (\w+)", smk, flags=re.M))
    assert set(profile["group-components"]) <= set(profile["groups"].values())
    # Rules that ask for a GPU are those that the lines for --gres name.
    with_gpu = re.findall(r"^rule (\w+):(?:(?!^rule ).)*?^        gpu=gpus", smk, flags=re.M | re.S)
    assert set(re.findall(r"^#   (\w+): \{gres:", text, flags=re.M)) == set(with_gpu)
    lines = text.splitlines()
    for entry in profile:
        (number,) = (number for number, line in enumerate(lines) if line.startswith(f"{entry}:"))
        assert lines[number - 1].startswith("# "), f"{entry} is not explained"
