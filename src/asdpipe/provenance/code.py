"""Digests of the code behind each step: changed code re-runs the steps that use it, a comment or docstring does not.

A digest covers the definitions (top-level functions, classes and variables) that a step reaches through the modules of
the package, the other top-level statements of the modules that it imports, and the data files of the package that this
code names. Definitions that are not reached by name change no digest: what settings select must be given as target.
Code is parsed, never imported.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parent.parent
STEPS = "asdpipe.steps."
# Modules and packages that change often and decide no result by themselves. Of these only plain constants count.
LEFT_OUT = (
    # Settings reach a step as params, defaults included. The classes that they select are its targets.
    "asdpipe.config",
    # File formats: the code of the steps decides what is in the files.
    *("asdpipe.artifacts.files", "asdpipe.artifacts.schemas", "asdpipe.artifacts.tables", "asdpipe.provenance"),
    # Messages and help texts.
    *("asdpipe.errors", "asdpipe.progress", "asdpipe.steps.options"),
)
# What the values of plain constants consist of.
PLAIN = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp),
    # All operators of arithmetic, but not "|", which makes unions of types.
    *(ast.unaryop, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.expr_context),
)
# Names of parts that are not definitions: the whole module, and its top-level statements that define nothing.
WHOLE = "*"
REST = ""


class Part(NamedTuple):
    """A definition of a module, or the module's WHOLE or REST."""

    module: str
    name: str


class Import(NamedTuple):
    """One name of an import statement, in dotted names: ``import a.b`` binds ``a``, of which it loads ``a.b``."""

    name: str
    bound: str
    loaded: str


class Source(NamedTuple):
    """A parsed module."""

    definitions: dict[str, list[ast.stmt]]
    """Top-level statements by the names they define; several where a later one builds on an earlier one."""
    imports: dict[str, list[Import]]
    """Top-level imports by name."""
    rest: list[ast.stmt]
    """All other top-level statements, such as an ``if`` with definitions in it."""


def code_digest(step: str, targets: Sequence[str] = ()) -> str:
    """Return the digest of the code that a step runs, 16 hex digits.

    Args:
        step: name of the function in ``asdpipe.steps``.
        targets: definitions that the step finds by its settings, e.g. ``asdpipe.method.arcface.ArcFace``, in any order.

    Raises:
        LookupError: there is no such step or target.
    """
    return _digest(step, frozenset(targets))


@cache
def _digest(step: str, targets: frozenset[str]) -> str:
    found: set[Part] = set()
    pending = [_find_step(step), *(_find_target(target) for target in targets)]
    while pending:
        part = pending.pop()
        if part not in found:
            found.add(part)
            pending += _content(part)[1]
    return hashlib.sha256("".join(sorted(_content(part)[0] for part in found)).encode()).hexdigest()[:16]


def _find_step(step: str) -> Part:
    modules = [name for name in sorted(_modules()) if name.startswith(STEPS)]
    # The module of the same name first.
    for module in sorted(modules, key=lambda name: name != STEPS + step):
        if step in _source(module).definitions:
            return Part(module, step)
    message = f"asdpipe.steps has no step {step!r}"
    raise LookupError(message)


def _find_target(target: str) -> Part:
    part = _part(target)
    if part and part.name in _source(part.module).definitions.keys() | _source(part.module).imports.keys():
        return part
    message = f"there is no definition {target!r}"
    raise LookupError(message)


@cache
def _content(part: Part) -> tuple[str, set[Part]]:
    """Return the digest of a part (empty if there is no code in it) and the parts that it uses."""
    module, name = part
    source = _source(module)
    if name == WHOLE:
        inner = [Part(other, WHOLE) for other in _modules() if other.startswith(f"{module}.")]
        return "", {Part(module, each) for each in (REST, *source.definitions, *source.imports)}.union(inner)
    nodes = source.rest if name == REST else source.definitions.get(name, [])
    if any(f"{module}.".startswith(f"{other}.") for other in LEFT_OUT):
        nodes = [node for node in nodes if _is_constant(node)]
    nodes = [node for node in nodes if not _is_target_table(node)]
    within = [child for node in nodes for child in ast.walk(node)]
    # The part's own name may be one that the module only imports.
    used: dict[str, set[str]] = {name: {name}}
    for dotted in _dotted_names(within):
        used.setdefault(dotted.partition(".")[0], set()).add(dotted)
    local = [each for node in within for each in _imports(node, module)]
    imports = sorted({*local, *(each for head in used for each in source.imports.get(head, []))})

    parts = {Part(module, head) for head in used if head in source.definitions} | {Part(module, REST)}
    for each in imports:
        names = [each.bound + dotted[len(each.name) :] for dotted in used.get(each.name, [])]
        if not names or (name == REST and each in local):
            # Its used parts are unknown: it is imported for side effects, or by another statement ("try: import").
            names.append(each.loaded)
        parts.update(filter(None, map(_part, names)))
    # Importing a module runs the module, the modules that it imports, and the packages around it.
    loaded = [each.loaded for each in local]
    if name == REST:
        loaded += [each.loaded for several in source.imports.values() for each in several]
        loaded += [f"{module.rpartition('.')[0]}.{WHOLE}"]
    parts.update(Part(found.module, REST) for found in map(_part, loaded) if found)

    data = _data_digests(within)
    text = repr([part, _plain(nodes), [tuple(each) for each in imports], data]) if nodes or imports else ""
    return text and hashlib.sha256(text.encode()).hexdigest(), parts - {part}


@cache
def _modules() -> dict[str, Path]:
    """Return the file of every module and package, by dotted name."""
    files = {file.relative_to(PACKAGE.parent).with_suffix("").parts: file for file in PACKAGE.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): file for parts, file in files.items()}


@cache
def _part(dotted: str) -> Part | None:
    """Return what a dotted name refers to; None: it is not in the package."""
    module, name = dotted, WHOLE
    while module and module not in _modules():
        module, _, name = module.rpartition(".")
    return Part(module, name) if module else None


@cache
def _source(module: str) -> Source:
    source = Source({}, {}, [])
    for node in ast.parse(_modules()[module].read_bytes()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse:
            # Only type checkers read it.
            continue
        imports = _imports(node, module)
        names = _defined_names(node)
        for each in imports:
            source.imports.setdefault(each.name, []).append(each)
        for name in names:
            source.definitions.setdefault(name, []).append(node)
        # Any name may come from "import *".
        if (not imports and not names and not _is_text(node)) or any(each.name == WHOLE for each in imports):
            source.rest.append(node)
    return source


def _imports(node: ast.AST, module: str) -> list[Import]:
    """Return what an import statement of a module binds; nothing for other statements."""
    if isinstance(node, ast.Import):
        names = [(alias.name, alias.asname) for alias in node.names]
        return [Import(new or old.partition(".")[0], old if new else old.partition(".")[0], old) for old, new in names]
    if isinstance(node, ast.ImportFrom):
        package = module if _modules()[module].name == "__init__.py" else module.rpartition(".")[0]
        base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        dotted = [(alias.asname or alias.name, f"{base}.{alias.name}") for alias in node.names]
        return [Import(name, full, full) for name, full in dotted]
    return []


def _defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines; none if it does anything else."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            children = [child for target in targets for child in ast.walk(target)]
            names = [child.id for child in children if isinstance(child, ast.Name)]
            return (
                names if all(isinstance(child, ast.Name | ast.Tuple | ast.expr_context) for child in children) else []
            )
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _dotted_names(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names among the nodes of a tree, each with the attributes that are read from it: ``np.random.rand``."""
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            attributes = []
            base: ast.AST = node
            while isinstance(base, ast.Attribute):
                attributes.append(base.attr)
                base = base.value
            if isinstance(base, ast.Name):
                yield ".".join([base.id, *reversed(attributes)])


def _is_constant(node: ast.stmt) -> bool:
    """Tell whether a statement sets a variable to plain numbers and strings."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return value is not None and all(isinstance(child, PLAIN) for child in ast.walk(value))


def _is_target_table(node: ast.stmt) -> bool:
    """Tell whether a statement maps names to definitions given by their dotted names.

    Those that the settings select are targets of the step; another entry must not change its digest.
    """
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if not isinstance(value, ast.Dict) or not value.values:
        return False
    found = [
        _part(each.value) for each in value.values if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]
    return len(found) == len(value.values) and all(part and part.name != WHOLE for part in found)


def _data_digests(nodes: Iterable[ast.AST]) -> list[str]:
    """Return the digests of the package's data files that the nodes name, relative to the package."""
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    files = sorted(PACKAGE / text for text in texts if text.endswith((".csv", ".yaml", ".j2", ".css", ".js")))
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]


def _plain(node: Any) -> Any:
    """Return a syntax tree as tuples, without positions, docstrings and empty fields (these differ among Pythons)."""
    if isinstance(node, ast.AST):
        fields = [(name, _plain(getattr(node, name, None))) for name in node._fields if name != "ctx"]
        return (type(node).__name__, *[field for field in fields if field[1] not in (None, ())])
    if isinstance(node, list):
        return tuple([_plain(each) for each in node if not _is_text(each)])
    return node


def _is_text(node: Any) -> bool:
    """Tell whether a statement is a string that nothing reads: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
