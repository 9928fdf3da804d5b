"""The code behind a step as a digest: changed code runs the step again; a comment, docstring or line break does not.

What counts: the definitions of ``asdpipe.steps`` that the step reaches, every other module that these import, directly
or not, as a whole, and the data files of the package that this code names.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parent.parent
STEPS = "asdpipe.steps."
# These change often and decide no result by themselves: a better message, or a key of another step, runs nothing again.
LEFT_OUT = {
    # What the configuration decides, defaults included, reaches a step as its params.
    *("asdpipe.config.schema", "asdpipe.config.data", "asdpipe.config.method", "asdpipe.config.reading"),
    # How files are written and read: which columns there are, and what is in them, the code of the steps says.
    "asdpipe.artifacts.tables",
    # What people see.
    *("asdpipe.errors", "asdpipe.progress", "asdpipe.steps.options"),
}


class Part(NamedTuple):
    """A module of the package, or one of its definitions."""

    module: str
    name: str
    """Empty: the whole module."""


class Source(NamedTuple):
    """A parsed module."""

    body: list[ast.stmt]
    definitions: dict[str, list[ast.stmt]]
    """Functions, classes and variables, by name; more than one where a later one builds on an earlier."""
    imports: dict[str, list[ast.stmt]]
    """Import statements, by the names that they bind."""
    rest: list[ast.stmt]
    """What else a module does when it is imported, such as two variables set at once, or code below an ``if``."""


def step_digest(module: str, function: str) -> str:
    """Return the digest of the code that a step runs.

    Args:
        module: of ``asdpipe.steps``, without this; function: of that module.
    """
    found: set[Part] = set()
    pending = [Part(STEPS + module, function)]
    while pending:
        part = pending.pop()
        if part not in found:
            found.add(part)
            pending += _content(part)[1]
    return hashlib.sha256("".join(sorted(_content(part)[0] for part in found)).encode()).hexdigest()[:16]


@cache
def _content(part: Part) -> tuple[str, list[Part]]:
    """Return the digest of a part, and the parts of the package that it uses."""
    source = _source(part.module)
    nodes: list[ast.stmt] = source.body
    uses: list[Part] = []
    if part.module in LEFT_OUT:
        # Only plain numbers and texts count, such as the sample rate.
        own = source.definitions.get(part.name, [])
        nodes = [each for each in own if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)]
    elif part.name:
        nodes = [*source.rest, *source.definitions.get(part.name, [])]
        # The name itself: it may be one that the module imported.
        names = {part.name, *(each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name))}
        nodes += [each for name in sorted(names & source.imports.keys()) for each in source.imports[name]]
        uses = [Part(part.module, name) for name in names & source.definitions.keys()]
    within = [each for node in nodes for each in ast.walk(node)]
    text = repr([part, _plain(nodes), _data_digests(within)])
    return hashlib.sha256(text.encode()).hexdigest(), [*uses, *_imported(within)]


@cache
def _source(module: str) -> Source:
    body = ast.parse(_file(module).read_bytes()).body
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, list[ast.stmt]] = {}
    rest: list[ast.stmt] = []
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                definitions.setdefault(name, []).append(node)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                definitions.setdefault(name, []).append(node)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                # One alias each: another name on the same line is no change of this one.
                for alias in aliases:
                    one = (
                        ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], 0)
                    )
                    imports.setdefault(alias.asname or alias.name.partition(".")[0], []).append(one)
            case _ if not _is_text(node):
                rest.append(node)
    return Source(body, definitions, imports, rest)


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imported(nodes: Iterable[ast.AST]) -> Iterator[Part]:
    """Yield what the nodes import from the package."""
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (Part(name, "") for name in names if name.split(".")[0] == PACKAGE.name)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if _file(inner).is_file():
                    yield Part(inner, "")
                else:
                    apart = node.module.startswith(STEPS) or node.module in LEFT_OUT
                    yield Part(node.module, alias.name if apart else "")


def _data_digests(nodes: Iterable[ast.AST]) -> list[str]:
    """Return the digests of the package's data files that the nodes name."""
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    files = sorted(PACKAGE / text for text in texts if text.endswith((".csv", ".yaml")))
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]


def _plain(node: Any) -> Any:
    """Return a syntax tree as tuples, without positions, docstrings and what is empty (which differs among Pythons)."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name != "ctx")
        return (type(node).__name__, *(field for field in fields if field[1] not in (None, ())))
    if isinstance(node, list):
        return tuple(_plain(each) for each in node if not _is_text(each))
    return node


def _is_text(node: Any) -> bool:
    """Tell whether a statement is a text that nothing reads: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
