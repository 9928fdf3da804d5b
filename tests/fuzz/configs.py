"""Configurations: damaged YAML, and values of every kind in every place."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from asdpipe.config.base import canonical_json
from asdpipe.config.reading import read_config
from asdpipe.config.schema import Config
from asdpipe.errors import UserError
from tests.conftest import ROOT
from tests.fuzz import mutations
from tests.fuzz.harness import Case

FILES = ("config.yaml", "full.yaml", "own.yaml", "real-mini.yaml", "top_m.yaml")
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 0.5, 1e308, math.nan, math.inf, -math.inf),
    *("", " ", "none", "\0", "a\nb", "../..", "{data_root}/x", "-x", "ü" * 50, "x" * 200_000, "dcase2023", "ba"),
    *([], {}, [[]], [None], {"a": {"b": {}}}, {1: 2}, {None: 1}, [1, 2, 3, 4], [-1, 1e9], {"": ""}, {"enabled": 3}),
]
NAMES = ("", "a b", "root", "data", "stage1", "network", "x" * 300, "../x", "-x", "ü", 3, None, "root\n")


def cases(seed: int, first: int, last: int, folder: Path) -> Iterator[Case]:
    """Yield config files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        text = (ROOT / "config" / FILES[number % len(FILES)]).read_bytes()
        if number < len(CRAFTED):
            how, text = "crafted", CRAFTED[number]
        elif number % 3 == 0:
            mutation = mutations.ANYWHERE[rng.integers(len(mutations.ANYWHERE))]
            how, text = mutation.__name__, mutation(text, rng)
        elif number % 3 == 1:
            how, text = "lines", _lines(text, rng)
        else:
            how, text = "values", _values(yaml.safe_load(text), rng)
        path = folder / f"{number:04d}_{how}.yaml"
        path.write_bytes(text)
        yield Case(path.name, lambda path=path: _run(path), (path.name, *(f"{key}" for key in KEYS)))


# A message names the file, or the key, which is what Snakemake's users have on their command lines.
KEYS = (
    "datasets.",
    "pools.",
    "methods.",
    "tables.",
    "enabled",
    "first_stage",
    "data set",
    "method",
    "the configuration",
)


def _run(path: Path) -> str:
    config = read_config([path], {"data_root": "/nowhere"})
    for name in config.methods:
        method = config.resolve_method(name)
        _finite(method.model_dump())
        canonical_json(method.model_dump(mode="json"))
    for name in [config.dataset]:
        config.resolve_dataset(name)
    for name in config.pools:
        try:
            _finite(config.resolve_pool(name).model_dump())
        except UserError as error:
            assert name in str(error)
    Config.model_validate_json(config.model_dump_json(exclude_unset=True))
    return "success"


def _finite(value: Any) -> None:
    if isinstance(value, dict):
        for each in value.values():
            _finite(each)
    elif isinstance(value, tuple | list):
        for each in value:
            _finite(each)
    else:
        assert not isinstance(value, float) or math.isfinite(value)


def _lines(text: bytes, rng: np.random.Generator) -> bytes:
    """Lose, repeat, move and indent lines, or change the value after a colon."""
    lines = text.decode().splitlines()
    for _ in range(rng.integers(1, 4)):
        place, other = rng.integers(len(lines), size=2).tolist()
        key, colon, _ = lines[place].partition(":")
        word = ("!!python/object/apply:os.getcwd []", "&a [*a]", "*b", "1e400", "2026-13-45", "|", "'", "0x1_", "{a: b")
        changes = [
            lines[:place] + lines[place + 1 :],
            [*lines[:place], lines[other], *lines[place:]],
            [*lines[:place], "  " + lines[place], *lines[place + 1 :]],
            [*lines[:place], lines[place].lstrip(), *lines[place + 1 :]],
            [*lines[:place], "\t" + lines[place], *lines[place + 1 :]],
            [*lines[:place], f"{key}{colon} {rng.choice(word)}", *lines[place + 1 :]],
            [*lines[:place], lines[place].upper(), *lines[place + 1 :]],
        ]
        lines = changes[rng.integers(len(changes))] or [""]
    return "\n".join(lines).encode()


def _values(config: dict[str, Any], rng: np.random.Generator) -> bytes:
    """Put odd values into known places: keys of every section, of a data set, a pool or a method."""
    for _ in range(rng.integers(1, 4)):
        properties = SCHEMA["properties"]
        key = str(rng.choice(list(properties)))
        section = properties[key].get("$ref", "").rpartition("/")[2]
        named = {"datasets": "Dataset", "pools": "Pool", "methods": "Method"}.get(key)
        value = ODD[rng.integers(len(ODD))]
        known = SCHEMA["$defs"].get(section or named, {}).get("properties")
        if known and rng.random() < 0.85:
            inner = {str(rng.choice(list(known))): value}
            if named:
                there = config.get(key) or {}
                names = [*there, *NAMES]
                name = names[rng.integers(len(names))]
                inner = {**there, name: {**(there.get(name) or {}), **inner}}
            value = {**config[key], **inner} if isinstance(config.get(key), dict) else inner
        config[key] = value
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()


SCHEMA: dict[str, Any] = Config.model_json_schema()

# Nine times nine times nine ... values, in lists and in mappings.
_BOMB = "\n".join(
    [f"a0: &a0 [{', '.join('x' * 9)}]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)
_NESTED = "\n".join(
    ["b0: &b0 {x: y}", *(f"b{n}: &b{n} {{{', '.join(f'k{i}: *b{n - 1}' for i in range(9))}}}" for n in range(1, 12))]
)
CRAFTED = (
    b"",
    b"[]",
    b"dataset",
    b"\xff\xfe",
    b"\0",
    b"dataset: demo\ndatasets: &a {x: *a}",
    b"a: &a [*a]",
    b"a: &a {a: *a}",
    b"[" * 5000,
    b"{a: " * 5000,
    _BOMB.encode(),
    (_BOMB + "\ndataset: x\ndatasets: {x: {format: demo, demo: *a11}}").encode(),
    *(f"{_BOMB}\n{_NESTED}\ndataset: x\n{key}".encode() for key in ("seeds: *a11", "datasets: *b11", "methods: *b11")),
    b"dataset: x\nmethods: &a {ba: *a}",
    b"dataset: x\nseeds: 0x" + b"f" * 6000,
    b"dataset: !!python/object/apply:os.system [date]",
    b"dataset: 2026-02-30",
    b"dataset: root\ndatasets: {root: {format: demo, rot: 1}}",
    b"dataset: demo\ndatasets: {demo: {format: demo, sed: 1}}",
)
