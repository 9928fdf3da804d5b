"""The answer of a report: three sentences that a person can act on."""

from collections.abc import Iterator
from typing import NamedTuple

from asdpipe.report.clips import Clips
from asdpipe.report.results import Results, safest


class Answer(NamedTuple):
    """What to take, what it does now, and what to do next."""

    choice: str
    alarms: str
    action: str


def answer(results: Results, system: str, clips: Clips) -> Answer:
    """Return the answer of a run.

    Args:
        system: name of the shown system; clips: its clips.
    """
    return Answer(_choice(results, system), alarms(system, clips), _action(results, clips))


def _choice(results: Results, system: str) -> str:
    if not results.has_labels:
        return "No test clip has a label, so nobody can say yet which method is better."
    if found := safest(results.advice):
        # One sentence of several.
        return f"{'; '.join(each.removesuffix('.') for each in found)}."
    of_mean = results.means[(results.means.system == system) & (results.means.machine == "mean")]
    values = ", ".join(f"{row.split} {row.auc:.1f} %" for row in of_mean.itertuples() if row.auc == row.auc)
    return f"{system} has a mean AUC of {values}; {results.note.removesuffix('.') or 'it is the only system'}."


def alarms(system: str, clips: Clips) -> str:
    """Return in a sentence what the limits do with the shown clips."""
    counts = clips.counts()
    limits = "limits that keep a rate of false alarms" if clips.promised else "decision thresholds"
    with_limits = f"With its {limits}, {system} (seed {clips.run.seed})"
    if clips.table.empty or set(clips.table.split) == {"train"}:
        return (
            f"{with_limits} calls {counts.alarms} of {counts.clips} training clips anomalous; there are no test clips."
        )
    if not counts.normal + counts.anomalous:
        return f"{with_limits} raises an alarm for {counts.alarms} of {counts.clips} test clips."
    parts = []
    if counts.normal:
        parts.append(f"raises {_share(counts.false_alarms, counts.normal)} false alarms on normal test clips")
    if counts.anomalous:
        parts.append(f"misses {_share(counts.missed, counts.anomalous)} anomalous ones")
    worst = max(clips.machines, key=lambda name: clips.counts(name).missed + clips.counts(name).false_alarms)
    most = clips.counts(worst)
    mistakes = f"most mistakes are with {worst} ({most.false_alarms} false alarms, {most.missed} missed)"
    return f"{with_limits} {' and '.join(parts)}; {mistakes}."


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({100 * count / of:.0f} %)"


def _action(results: Results, clips: Clips) -> str:
    if not results.has_labels:
        return (
            "Listen to the clips with the highest scores below, and label what you hear: a few dozen of each kind do."
        )
    actions = [each.removesuffix(".") for each in _actions(results)]
    if not clips.promised:
        actions.append(
            "these thresholds promise no rate of false alarms: give asdpipe calibrate new normal recordings for limits "
            "that do"
        )
    actions = actions or ["listen to the mistakes below, and record more test clips of that kind"]
    text = f"{'; '.join(actions[:2])}."
    return text[0].upper() + text[1:]


def _actions(results: Results) -> Iterator[str]:
    """Yield what the comparison advises, the most useful first."""
    seeds = [each for each in results.advice if "one training" in each]
    more = [each for each in results.advice if each not in (*seeds, *safest(results.advice))]
    yield from seeds
    yield from more
