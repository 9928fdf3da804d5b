"""What a public project has beside its code: each file is whole, and names only what exists."""

import re
import shlex
import tomllib

import pytest
import yaml

from tests.conftest import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def words(file: str) -> str:
    return " ".join((ROOT / file).read_text().split())


def paths_of(file: str) -> list[str]:
    """Return the paths in the backquotes and links of a page."""
    text = (ROOT / file).read_text()
    quoted = re.findall(r"`((?:src|tests|docs|config|workflow|profiles)/[^`*\s]+)`", text)
    return quoted + [link.partition("#")[0] for link in re.findall(r"\]\(([\w./-]+(?:#[\w-]+)?)\)", text)]


def test_contributing_names_files_that_exist():
    # NAME stands for a new one.
    named = paths_of("CONTRIBUTING.md")
    assert len(named) > 20
    for path in named:
        assert (ROOT / path).exists() or ("NAME" in path and (ROOT / path).parent.is_dir()), path


def test_contributing_names_commands_that_make_has():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", (ROOT / "CONTRIBUTING.md").read_text())) <= targets


def test_the_licence_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Apache License Version 2.0, January 2004" in words("LICENSE")
    assert project["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "Apache-2.0"


def test_the_citation_has_the_version_and_both_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    first, second = citation["references"]
    assert f"*{first['title']}*" in words("docs/fidelity.md")
    assert [author["family-names"] for author in first["authors"]] == ["Kuroyanagi", "Fujimura", "Takeda", "Toda"]
    assert second["title"].startswith("Top-M pseudo-labels")


def test_the_changelog_begins_with_this_version():
    assert re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[0].startswith(VERSION)


def test_the_public_workflow_runs_the_commands_of_our_own():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    public = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    own = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    assert set(public) == set(own)


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_forms_have_what_github_asks_for(name):
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text())
    assert form.keys() >= {"name", "description", "body"}
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_hooks_run_what_make_lint_runs():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    lint = (
        (ROOT / "Makefile")
        .read_text()
        .partition("\nlint: setup\n")[2]
        .partition("\n\n")[0]
        .replace("$(BIN)", ".venv/bin")
    )
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        program, *rest = shlex.split(hook["entry"])
        assert program.startswith(".venv/bin/")
        assert " ".join([program, *rest[:1]]) in lint or program in lint, hook["id"]
        # A hook without types or files would get every file.
        assert {"types", "files"} & hook.keys() or hook["pass_filenames"] is False


def test_the_catalog_finds_the_workflow():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert 'include: "../Snakefile"' in (ROOT / "workflow/Snakefile").read_text()
    assert (ROOT / "config/README.md").is_file()
