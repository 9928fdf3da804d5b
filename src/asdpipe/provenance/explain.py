"""Where a result came from, as a tree: step, settings and inputs of every file, back to the recordings."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from rich.markup import escape
from rich.tree import Tree

from asdpipe.errors import UserError
from asdpipe.provenance.code import step_digest
from asdpipe.provenance.records import RUN, File, Record, describe, read_record
from asdpipe.steps import STEPS

# Results that differ in these alone were made alike: one of them stands for all.
ALIKE = RUN - {"stage"}
DIGITS = 12
MODULES = {step: module for module, steps in STEPS.items() for step in steps}


class Made(NamedTuple):
    """Files that one run of a step made, or (record None) files that no step made."""

    files: list[File]
    """As the reader's record has them; paths are those that it read."""
    links: list[str]
    """Where these files are, if they are links; else the same paths."""
    record: Record | None


def explain(path: Path) -> Tree:
    """Return the tree of a result.

    Raises:
        UserError: there is no record of it, or a record is damaged.
    """
    record = read_record(path if path.is_dir() else _target(path))
    if record is None:
        raise UserError(
            f"{path}: there is no record of how it was made; name a file that the workflow wrote, or, if it is older "
            "than these records, write it again (--forcerun)"
        )
    return _Explained(_base(_target(path), record)).tree(path, record)


class _Explained:
    """The tree as far as it has grown.

    Args:
        base: folder that the paths in the records are relative to.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self._shown: dict[str, str] = {}
        """Path by run of a step that is in the tree."""
        self._settings: dict[str, str] = {}
        """Path by settings that are in the tree."""
        self._shapes: dict[str, str] = {}
        self._read = cache(describe)

    def tree(self, path: Path, record: Record) -> Tree:
        shown = self._short(path.absolute())
        made = Made([describe(path).model_copy(update={"path": shown})], [record.file.path], record)
        root = Tree("", hide_root=True)
        self._add(root, made, [])
        return root

    def _add(self, parent: Tree, made: Made, alike: list[Made]) -> None:
        """Add a node, and below it what its files were made from."""
        first = made.files[0].path
        lines = [self._line(file, link) for file, link in zip(made.files, made.links, strict=True)]
        lines[0] += f"  [bold]{escape(made.record.step)}[/bold]" if made.record else "  not made by a step"
        lines += [f"[dim]and {len(alike)} more, made alike: {escape(_names(alike))}[/dim]"] if alike else []
        if made.record is None:
            parent.add("\n".join(lines))
            return
        if _run(made.record) in self._shown:
            place = self._shown[_run(made.record)]
            lines[0] += f"  [dim]{'above' if place == first else 'see ' + escape(place)}[/dim]"
            parent.add("\n".join([lines[0], *(line for line in lines[1:] if "[red]" in line)]))
            return
        self._shown[_run(made.record)] = first
        node = parent.add("\n".join([*lines, f"[dim]{escape(self._described(made.record, first))}[/dim]"]))
        groups: dict[str, list[Made]] = {}
        for each in self._inputs(made.record):
            groups.setdefault(self._shape(each), []).append(each)
        for one, *others in groups.values():
            self._add(node, one, others)

    def _line(self, file: File, link: str) -> str:
        """Return path, digest and what is wrong with a file."""
        line = escape(file.path + (f" -> {link} (shared)" if link != file.path else ""))
        path = self.base / link
        if not path.exists():
            return f"{line}  [red]is not there any more[/red]"
        now, record = self._read(path), read_record(path)
        line += f"  [cyan]{escape(now.sha256[:DIGITS])}[/cyan]" if now.sha256 else ""
        if now.sha256 != file.sha256:
            line += f"  [red]has changed since it was read: it was {escape((file.sha256 or '')[:DIGITS])}[/red]"
        elif record and record.file.sha256 != now.sha256:
            line += "  [red]has changed since the step made it[/red]"
        return line

    def _described(self, record: Record, path: str) -> str:
        """Return settings and code of a step; settings that are in the tree already by their place."""
        own = {key: value for key, value in record.settings.items() if key in RUN}
        rest = {key: value for key, value in record.settings.items() if key not in own}
        place = self._settings.setdefault(record.step + _json(rest), path)
        shown = own if rest and place != path else record.settings
        parts = [_flow(shown)] if shown else []
        parts += [f"other settings as for {place}"] if shown is not record.settings else []
        module = MODULES.get(record.step)
        changed = module is not None and step_digest(module, record.step) != record.code
        return "; ".join([*parts, f"code {record.code}" + (" (is another now)" if changed else "")])

    def _inputs(self, record: Record) -> list[Made]:
        """Return what a step read, the files of one run together."""
        runs: dict[str, Made] = {}
        for file in (each for files in record.inputs.values() for each in files):
            path = _target(self.base / file.path)
            link = file.path if path == self.base / file.path else self._short(path)
            found = read_record(path)
            made = runs.setdefault(_run(found) if found else file.path, Made([], [], found))
            made.files.append(file)
            made.links.append(link)
        return list(runs.values())

    def _short(self, path: Path) -> str:
        return str(path.relative_to(self.base) if path.is_relative_to(self.base) else path)

    def _shape(self, made: Made) -> str:
        """Return what two runs have in common that were made alike, whatever their seed."""
        if made.record is None:
            return made.files[0].path
        run = _run(made.record)
        if run not in self._shapes:
            # For records that lead in a circle.
            self._shapes[run] = ""
            settings = {key: value for key, value in made.record.settings.items() if key not in ALIKE}
            below = sorted(self._shape(each) for each in self._inputs(made.record))
            self._shapes[run] = str(hash((made.record.step, made.record.code, _json(settings), tuple(below))))
        return self._shapes[run]


def _run(record: Record) -> str:
    """Return what the files of one run of a step have in common."""
    return _json(record.model_dump(exclude={"file"}))


def _target(path: Path) -> Path:
    """Return the file that a link leads to; folders above it may be links, too, and stay as they are."""
    seen: set[Path] = set()
    while path.is_symlink() and path not in seen:
        seen.add(path)
        path = Path(*_normal((path.parent / path.readlink()).parts))
    return path


def _normal(parts: Iterable[str]) -> list[str]:
    """Return the parts of a path without ``..``."""
    found: list[str] = []
    for part in parts:
        if part == ".." and found and found[-1] != "..":
            found.pop()
        else:
            found.append(part)
    return found


def _base(path: Path, record: Record) -> Path:
    """Return the folder that the path in a file's record is relative to."""
    parts, recorded = path.absolute().parts, Path(record.file.path).parts
    return Path(*parts[: -len(recorded)]) if parts[-len(recorded) :] == recorded else Path()


def _names(made: Iterable[Made]) -> str:
    return ", ".join(each.files[0].path for each in made)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _flow(settings: dict[str, object]) -> str:
    """Return settings on one line."""
    return yaml.safe_dump(settings, default_flow_style=True, width=10**6).strip().removeprefix("{").removesuffix("}")
