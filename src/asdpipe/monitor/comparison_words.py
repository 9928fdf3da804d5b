"""A comparison of systems for people: a table, sentences, advice, and a csv."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from asdpipe.artifacts.files import written
from asdpipe.method.bootstrap import Interval, safest
from asdpipe.monitor.comparison import FEWEST, MEAN, OFFICIAL, Comparison, Row

COLUMNS = (
    *("split", "machine", "normal", "anomalous", "a", "b"),
    *("value_a", "value_b", "difference", "low", "high", "verdict"),
)
TOO_FEW = "too few clips"
# Beyond this factor, more clips of the same kind are no advice.
MOST_CLIPS = 10


def verdict(interval: Interval | None) -> str:
    """Return in a word what an interval of a minus b says of a."""
    if interval is None:
        return TOO_FEW
    return ("better" if interval.low > 0 else "worse") if interval.is_real else "no difference seen"


def lines(comparison: Comparison) -> Iterator[dict[str, object]]:
    """Yield every pair of systems in every row by COLUMNS; metrics in percent."""
    names = [system.name for system in comparison.systems]
    for row in comparison.rows:
        for a in range(len(names)):
            for b in range(a):
                reverse = row.differences.get((b, a))
                found = None if reverse is None else Interval(-reverse.value, -reverse.high, -reverse.low)
                difference = row.values[a] - row.values[b]
                values = (row.split, row.machine, *row.count, names[a], names[b], row.values[a], row.values[b])
                bounds = (difference, *(found[1:] if found else (math.nan, math.nan)))
                yield dict(zip(COLUMNS, (*values, *bounds, verdict(found)), strict=True))


def write_csv(comparison: Comparison, file: Path) -> None:
    """Write all pairs, with four decimals."""
    with written(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for line in lines(comparison):
            writer.writerow(
                {name: _number(value, 4) if isinstance(value, float) else value for name, value in line.items()}
            )


def show(comparison: Comparison) -> None:
    """Print what every system has in comparison with the first, and what that means."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    first = comparison.systems[0].name
    table = Table(box=box.SIMPLE, title=f"AUC [%], in comparison with {first}", pad_edge=False, collapse_padding=True)
    for name in ("split", "machine", "clips", "", first, "AUC", "difference", "95 %", ""):
        right = name in (first, "AUC", "difference", "95 %")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for line in lines(comparison):
        if line["b"] != first:
            continue
        known = line["verdict"] != TOO_FEW
        interval = f"{_number(line['low'])} to {_number(line['high'])}" if known else ""
        table.add_row(
            *(str(line["split"]), str(line["machine"]), f"{line['normal']}+{line['anomalous']}", str(line["a"])),
            *(_number(line["value_b"]), _number(line["value_a"]), _number(line["difference"]), interval),
            str(line["verdict"]),
            style="bold" if line["machine"] in (MEAN, OFFICIAL) else None,
        )
    console = Console()
    # A pipe has 80 columns by default, too few for the names of methods.
    console.width = console.width if console.is_terminal else 200
    console.print(table)
    for sentence in (*sentences(comparison), *advice(comparison)):
        console.print(f"- {sentence}", highlight=False, markup=False)


def sentences(comparison: Comparison) -> Iterator[str]:
    """Yield which differences of the mean and of the official score are real."""
    names = [system.name for system in comparison.systems]
    ranked = [row for row in comparison.rows if row.machine in (MEAN, OFFICIAL) and row.differences]
    for row in ranked:
        where = f"{row.split}, {'mean AUC' if row.machine == MEAN else 'official score'}"
        for (a, b), interval in row.differences.items():
            if interval.is_real:
                better, worse = (a, b) if interval.value > 0 else (b, a)
                low, high = sorted(map(abs, interval[1:]))
                yield (
                    f"{where}: {names[better]} is better than {names[worse]} "
                    f"by {abs(interval.value):.1f} points (95 %: {low:.1f} to {high:.1f})."
                )
        if unseen := [pair for pair, interval in row.differences.items() if not interval.is_real]:
            pairs = ", ".join(f"{names[a]} and {names[b]}" for a, b in unseen)
            yield f"{where}: no difference can be seen between {pairs}."
    if ranked and (compared := sum(len(row.differences) for row in comparison.rows)) >= 20:
        yield f"Of {compared} comparisons in all, about {round(compared / 20)} look real by chance alone."


def advice(comparison: Comparison) -> Iterator[str]:
    """Yield which system is safest so far, and what to record or train to know more."""
    names = [system.name for system in comparison.systems]
    for row in comparison.rows:
        if row.machine == MEAN and row.differences:
            number, regret = safest(row.differences, len(names))
            yield f"{row.split}: safest so far is {names[number]}: {_surpassed(regret)}."
            yield from _to_see_more(row, number, names)
        elif row.machine == MEAN:
            simplest = next((system for system in comparison.systems if not system.trained), comparison.systems[0])
            why = "it needs no training" if not simplest.trained else "it was given first"
            message = f"{row.split}: nothing is ranked, as some machine types have too few labelled test clips"
            yield f"{message}; stay with {simplest.name} until then ({why})."
        elif row.machine != OFFICIAL and not row.count.are_enough:
            missing = ", ".join(_missing(row))
            yield f"{row.split}, {row.machine}: label or record {missing}; {FEWEST} of each are needed to rank."
    if single := [system.name for system in comparison.systems if system.trained and len(system.seeds) == 1]:
        what = "is one training" if len(single) == 1 else "are one training each"
        yield f"{', '.join(single)} {what}: another seed may turn the order; run several, e.g. seeds: [0, 1, 2, 3, 4]."


def _surpassed(regret: float) -> str:
    if regret <= 0:
        return "it is better than all others"
    return f"another may be better, but by {regret:.1f} points at most (95 %)"


def _missing(row: Row) -> Iterator[str]:
    for count, label in zip(row.count, ("normal", "anomalous"), strict=True):
        if count < FEWEST:
            yield f"{FEWEST - count} more {label} test clips (there are {count})"


def _to_see_more(row: Row, chosen: int, names: list[str]) -> Iterator[str]:
    """Yield what would tell the safest system from its strongest rival."""
    rival = max((number for number in range(len(names)) if number != chosen), key=lambda number: row.values[number])
    pair = (min(chosen, rival), max(chosen, rival))
    interval, blame = row.differences[pair], row.blame[pair]
    if interval.is_real or not sum(blame):
        return
    between = f"{row.split}: between {names[chosen]} and {names[rival]}"
    causes = dict(zip(("normal test clips", "anomalous test clips", "seeds"), blame, strict=True))
    cause = max(causes, key=causes.__getitem__)
    verb = "train more of them" if cause == "seeds" else "label or record more of them"
    yield f"{between}, most of the uncertainty ({causes[cause] / sum(blame):.0%}) comes from the {cause}: {verb}."
    factor = math.inf if interval.value == 0 else ((interval.high - interval.low) / 2 / interval.value) ** 2
    if factor <= MOST_CLIPS:
        size = f"a difference of {abs(interval.value):.1f} points"
        yield f"{between}, {size} would show with {factor:.1f} times as many clips and seeds."


def _number(value: object, digits: int = 1) -> str:
    # Adding zero turns -0 into 0.
    return "" if not isinstance(value, float) or math.isnan(value) else f"{round(value, digits) + 0:.{digits}f}"
