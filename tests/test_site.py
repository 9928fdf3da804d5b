"""What the site makes of the pages: links, the reference, nothing from elsewhere; `make docs` builds all of it."""

from types import SimpleNamespace

import pytest
import yaml
from mkdocs.exceptions import PluginError

from tests.conftest import ROOT
from tests.test_fidelity import Page, definitions, place
from tools import site_hooks


def shown(text: str, page: str = "monitor.md") -> str:
    return site_hooks.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=page)))


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("monitor.md", "[limits](artifacts.md#x)", "[limits](artifacts.md#x)"),
        ("monitor.md", "[keys](../config/README.md#methods)", "[keys](settings.md#methods)"),
        ("index.md", "[keys](config/README.md)", "[keys](settings.md)"),
        ("settings.md", "[start](../README.md#results)", "[start](index.md#results)"),
        ("index.md", "![rules](docs/dag.svg)", "![rules](dag.svg)"),
        ("index.md", "[docs/cluster.md](docs/cluster.md)", "[On a SLURM cluster](cluster.md)"),
        ("monitor.md", "[there](https://example.org/a.md)", "[there](https://example.org/a.md)"),
        ("monitor.md", "[below](#the-limit)", "[below](#the-limit)"),
        ("index.md", "a [file](Makefile)", "a file (`Makefile`)"),
        (
            "monitor.md",
            "`method/losses.py::SubspaceLoss`",
            "[`method/losses.py::SubspaceLoss`](reference/method.md#asdpipe.method.losses.SubspaceLoss)",
        ),
        (
            "monitor.md",
            "`plan.py::Plan.train`",
            "[`plan.py::Plan.train`](reference/asdpipe.md#asdpipe.plan.Plan.train)",
        ),
        ("monitor.md", "`tests/conftest.py::run_snakemake`", "`tests/conftest.py::run_snakemake`"),
        ("monitor.md", "```sh\n[a](no.md)\n```", "```sh\n[a](no.md)\n```"),
        ("monitor.md", "<!-- not run: no GPU -->\n", "*Not run: no GPU.*\n\n"),
        ("monitor.md", "<!-- run by tests/a.py::test_b -->\n", "<!-- run by tests/a.py::test_b -->\n"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(page, text, expected):
    assert shown(text, page) == expected


def test_a_link_to_nothing_stops_the_site():
    with pytest.raises(PluginError, match=r"docs/monitor\.md: links to no\.md"):
        shown("[a](no.md)")


@pytest.mark.parametrize(
    "tag",
    [
        '<link rel="stylesheet" href="https://fonts.example.org/css">',
        '<script async src="//example.org/a.js"></script>',
        '<img alt="x" src="http://example.org/a.png">',
    ],
)
def test_a_page_that_loads_from_elsewhere_stops_the_site(tag):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="monitor.md"))
    with pytest.raises(PluginError, match="loads from elsewhere"):
        site_hooks.on_post_page(f"<p>{tag}</p>", page=page)
    linked = '<a href="https://example.org">a</a><script src="assets/a.js"></script>'
    assert site_hooks.on_post_page(linked, page=page) == linked


def test_every_module_is_in_the_reference():
    listed = {module for modules in site_hooks.rooms().values() for module in modules}
    files = (file.relative_to(ROOT / "src").with_suffix("") for file in (ROOT / "src/asdpipe").rglob("[!_]*.py"))
    assert listed == {".".join(file.parts) for file in files}


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    # Without the function that makes anchors.
    settings = yaml.safe_load(text.replace("!!python/object/apply:pymdownx.slugs.slugify", ""))
    assert settings["theme"]["font"] is False
    named = {page for entry in settings["nav"] for pages in entry.values() for page in flat(pages)}
    assert named >= {file.name for file in (ROOT / "docs").glob("*.md")}


def flat(pages: str | list[dict[str, str]]) -> list[str]:
    return [pages] if isinstance(pages, str) else [page for entry in pages for page in entry.values()]


@pytest.mark.parametrize("name", ["paper-to-code.md", "architecture.md"])
def test_pages_about_code_name_only_what_exists(name):
    page = Page(name)
    named = [code.split("::") for code in page.quoted if "::" in code]
    assert len(named) > 8
    for file, definition in named:
        assert definition in definitions(place(file)), f"{name}: {file}::{definition}"
    for code in page.quoted:
        if "/" in code and "{" not in code:
            path = place(code.partition("::")[0])
            assert path.exists() or (ROOT / code).exists(), f"{name}: {code}"


def test_every_equation_of_the_paper_is_on_the_way_from_paper_to_code():
    text = (ROOT / "docs/paper-to-code.md").read_text()
    sections = [row[0] for line in text.splitlines() if (row := [cell.strip() for cell in line.strip("|").split("|")])]
    numbers = [cell for cell in sections if cell.startswith("eq. ")]
    assert {int(part) for cell in numbers for part in cell.removeprefix("eq. ").split(", ")} == set(range(1, 14))
