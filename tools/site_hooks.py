"""What MkDocs does not do by itself: pages from outside docs/, a reference of every module, links between them.

MkDocs calls the functions (mkdocs.yml: hooks). Links of the pages are those of the repository, so that they work there.
"""

import ast
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src/asdpipe"
# Pages of the site by their files in the repository.
ELSEWHERE = {"README.md": "index.md", "config/README.md": "settings.md"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]*)(#[^)\s]*)?\)")
# Code that a page names, e.g. `method/losses.py::SubspaceLoss`.
CODE = re.compile(r"`((?:\w+/)*\w+\.py)::(\w+(?:\.\w+)?)`")
# What runs a block of commands (tests/test_docs_commands.py); readers see what does not.
NOT_RUN = re.compile(r"^( *)<!-- ((?:planned by a test, )?not run: .*?) -->$", flags=re.M)
LOADED = re.compile(
    r"<(?:link|script|img|iframe|source|audio|video)\b[^>]*?(?:href|src)=\"?(?:https?:)?//[^\"> ]+", flags=re.I
)


def rooms() -> dict[str, list[str]]:
    """Return the modules of every room, in dotted names; modules beside the rooms are one more."""
    found: dict[str, list[str]] = {"asdpipe": []}
    for file in sorted(PACKAGE.rglob("*.py")):
        *folders, name = file.relative_to(PACKAGE).with_suffix("").parts
        if not name.startswith("__"):
            found.setdefault(folders[0] if folders else "asdpipe", []).append(".".join(["asdpipe", *folders, name]))
    return found


def reference(room: str, modules: list[str]) -> str:
    """Return the page of a room's modules."""
    purpose = ast.get_docstring(ast.parse((PACKAGE / ("" if room == "asdpipe" else room) / "__init__.py").read_text()))
    return "\n\n".join([f"# {room}", purpose or "", *(f"::: {module}" for module in modules), ""])


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere or are generated."""
    for file, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text(encoding="utf-8")))
    lines = [
        "# Reference",
        "",
        "Made from the docstrings, a page for each room of the code (architecture.md shows them).",
        "",
    ]
    for room, modules in rooms().items():
        files.append(File.generated(config, f"reference/{room}.md", content=reference(room, modules)))
        lines.append(f"- [{room}]({room}.md): {len(modules)} modules")
    text = "\n".join(lines).replace("(architecture.md shows them)", "([architecture](../architecture.md) shows them)")
    files.append(File.generated(config, "reference/index.md", content=text + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links between files of the repository into links between pages; files that are no page lose theirs."""
    here = page.file.src_uri
    if here.startswith("reference/"):
        return markdown
    source = next((file for file, name in ELSEWHERE.items() if name == here), f"docs/{here}")

    def link(found: re.Match[str]) -> str:
        picture, text, target, anchor = found.groups(default="")
        if not target:
            return found[0]
        file = os.path.normpath(PurePosixPath(source).parent / target)
        if not (ROOT / file).exists():
            raise PluginError(f"{source}: links to {target}, which there is not")
        place = ELSEWHERE.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if place is None:
            return text if text.startswith("`") else f"{text} (`{file}`)"
        if text.endswith(".md"):
            text = (ROOT / file).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        return f"{picture}[{text}]({os.path.relpath(place, PurePosixPath(here).parent)}{anchor})"

    def code(found: re.Match[str]) -> str:
        file = next((each for each in (ROOT / found[1], PACKAGE / found[1]) if each.is_file()), None)
        if file is None or PACKAGE not in file.parents:
            return found[0]
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        room = parts[0] if len(parts) > 1 else "asdpipe"
        if found[2].rpartition(".")[2].startswith("_"):
            return found[0]
        return f"[{found[0]}](reference/{room}.md#{'.'.join(['asdpipe', *parts, found[2]])})"

    markdown = NOT_RUN.sub(lambda found: f"{found[1]}*{found[2][0].upper()}{found[2][1:]}.*\n", markdown)
    blocks = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.M | re.S)
    return "".join(
        block if number % 2 else CODE.sub(code, LINK.sub(link, block)) for number, block in enumerate(blocks)
    )


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuse pages that load anything from elsewhere."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: loads from elsewhere: {found[0]}")
    return output
