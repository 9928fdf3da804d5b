"""The tree of ``asdpipe explain``: step, settings and inputs of a result and of all files before it."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from rich.markup import escape
from rich.tree import Tree

from asdpipe.errors import UserError
from asdpipe.provenance.code import code_digest
from asdpipe.provenance.records import RUN, File, Record, Targets, base_folder, describe, no_targets, read_record

# Of runs that differ only in these, the tree shows the first and the names of the others.
ALIKE = RUN - {"stage"}
DIGITS = 12


class Made(NamedTuple):
    """Files that one run of a step wrote, or (record None) files that no step wrote."""

    files: list[File]
    """As recorded by the step that read them."""
    record: Record | None


def explain(path: Path, targets: Targets = no_targets) -> Tree:
    """Return the tree of a result.

    Args:
        targets: the function that ``recorded`` was given.

    Raises:
        UserError: the result has no record, or a record is damaged.
    """
    record = read_record(path)
    if record is None:
        raise UserError(
            f"{path}: has no record of how it was made; name a file written by the workflow, or, if it is older than "
            "the records, re-run its rule (--forcerun)"
        )
    return _Explained(base_folder(path, record) or Path.cwd(), targets).tree(path, record)


class _Explained:
    """A tree under construction.

    Args:
        base: folder that the paths in the records are relative to.
    """

    def __init__(self, base: Path, targets: Targets) -> None:
        self.base = base
        self.targets = targets
        self._shown: dict[str, str] = {}
        """Path by run, of the runs in the tree."""
        self._settings: dict[str, str] = {}
        """Path by settings, of the settings in the tree."""
        self._shapes: dict[str, str] = {}
        self._read = cache(describe)

    def tree(self, path: Path, record: Record) -> Tree:
        absolute = path.absolute()
        shown = str(absolute.relative_to(self.base) if absolute.is_relative_to(self.base) else absolute)
        root = Tree("", hide_root=True)
        self._add(root, Made([describe(path).model_copy(update={"path": shown})], record), [])
        return root

    def _add(self, parent: Tree, made: Made, alike: list[Made]) -> None:
        """Add a node for a run and, below it, the runs that its inputs came from."""
        first = made.files[0].path
        lines = [self._line(file) for file in made.files]
        lines[0] += f"  [bold]{escape(made.record.step)}[/bold]" if made.record else "  not made by a step"
        lines += [f"[dim]and {len(alike)} more, made the same way: {escape(_names(alike))}[/dim]"] if alike else []
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

    def _line(self, file: File) -> str:
        """Return path and digest of a file, and a warning if it is no longer what was recorded."""
        line = escape(file.path)
        path = self.base / file.path
        if not path.exists():
            return f"{line}  [red]no longer exists[/red]"
        now, record = self._read(path), read_record(path)
        line += f"  [cyan]{escape(now.sha256[:DIGITS])}[/cyan]" if now.sha256 else ""
        if now.sha256 != file.sha256:
            line += f"  [red]has changed since it was read: it was {escape((file.sha256 or '')[:DIGITS])}[/red]"
        elif record and record.file.sha256 != now.sha256:
            line += "  [red]has changed since the step made it[/red]"
        return line

    def _described(self, record: Record, path: str) -> str:
        """Return settings and code of a run; settings that the tree shows already by the path of the node."""
        own = {key: value for key, value in record.settings.items() if key in RUN}
        rest = {key: value for key, value in record.settings.items() if key not in own}
        place = self._settings.setdefault(record.step + _json(rest), path)
        shown = own if rest and place != path else record.settings
        parts = [_flow(shown)] if shown else []
        parts += [f"other settings as in {place}"] if shown is not record.settings else []
        parts += [f"code {record.code}" + (" (has changed since)" if self._is_outdated(record) else "")]
        return "; ".join(parts)

    def _is_outdated(self, record: Record) -> bool:
        """Tell whether the step of a record would run other code today."""
        try:
            return code_digest(record.step, self.targets(record.settings)) != record.code
        except (LookupError, ValueError, UserError):
            # The step or a target no longer exists, or the settings are no longer valid.
            return True

    def _inputs(self, record: Record) -> list[Made]:
        """Return the files that a run read, grouped by the runs that wrote them."""
        runs: dict[str, Made] = {}
        for file in (each for files in record.inputs.values() for each in files):
            found = read_record(self.base / file.path)
            runs.setdefault(_run(found) if found else file.path, Made([], found)).files.append(file)
        return list(runs.values())

    def _shape(self, made: Made) -> str:
        """Return a key that is equal for runs that differ only in seed or shard, in all steps before them, too."""
        if made.record is None:
            return made.files[0].path
        run = _run(made.record)
        if run not in self._shapes:
            # Ends the recursion where damaged records form a cycle.
            self._shapes[run] = ""
            settings = {key: value for key, value in made.record.settings.items() if key not in ALIKE}
            below = sorted(self._shape(each) for each in self._inputs(made.record))
            self._shapes[run] = str(hash((made.record.step, made.record.code, _json(settings), tuple(below))))
        return self._shapes[run]


def _run(record: Record) -> str:
    """Return a key that is equal for the files of one run of a step."""
    return _json(record.model_dump(exclude={"file"}))


def _names(made: Iterable[Made]) -> str:
    return ", ".join(each.files[0].path for each in made)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _flow(settings: dict[str, object]) -> str:
    """Return settings on one line."""
    return yaml.safe_dump(settings, default_flow_style=True, width=10**6).strip().removeprefix("{").removesuffix("}")
