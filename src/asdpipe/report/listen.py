"""Part 3: the clips to listen to, and why they have their scores."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from time import thread_time
from typing import TYPE_CHECKING, Literal

import numpy as np

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError
from asdpipe.report.clips import ANOMALOUS, NORMAL, UNKNOWN, Clips

if TYPE_CHECKING:
    from asdpipe.monitor.detector import Detector
    from asdpipe.monitor.explanation import Explanation

MOST_ANOMALOUS, MISSED, FALSE_ALARM = "most anomalous", "missed", "false alarm"
# Most clips in all, and of those with a map.
MOST_CLIPS, MOST_EXPLAINED = 36, 18
# Explaining a clip of the demo takes half a second, but with a large network on a CPU minutes: no more are begun then,
# so that a report takes a minute at most, or as long as a single clip. In processor time, which other programs do not
# change: the same results give the same report.
LONGEST_SECONDS = 25.0
# Of each kind and machine type; more of clips without labels, as they have one kind only.
EACH, UNLABELLED = 1, 3


@dataclass(frozen=True)
class Heard:
    """A clip to listen to."""

    kinds: tuple[str, ...]
    clip_id: str
    machine: str
    domain: str
    label: str
    score: float
    limit: float
    alarm: bool
    nearest: str | None
    """Training clip: the nearest by the score, or the one that the map compares with."""
    explanation: "Explanation | None" = None


def choose(clips: Clips) -> list[Heard]:
    """Return the most anomalous, the missed and the falsely alarmed clips of all machine types in turn."""
    found: dict[str, Heard] = {}
    # In turn: where there are too many, all machine types have some.
    for row in zip_longest(*(list(_of_machine(clips, machine)) for machine in clips.machines)):
        for each in filter(None, row):
            known = found.get(each.clip_id)
            found[each.clip_id] = each if known is None else replace(known, kinds=(*known.kinds, *each.kinds))
    chosen = list(found.values())[:MOST_CLIPS]
    return sorted(chosen, key=lambda each: clips.machines.index(each.machine))


def _of_machine(clips: Clips, machine: str) -> Iterator[Heard]:
    part = clips.of(machine).sort_values("score", ascending=False, kind="stable")
    unlabelled = bool((part.label == UNKNOWN).all())
    missed = part[(part.label == ANOMALOUS) & ~part.alarm].iloc[::-1]
    false = part[(part.label == NORMAL) & part.alarm]
    top = part.head(UNLABELLED if unlabelled else EACH)
    for kind, rows in ((MOST_ANOMALOUS, top), (MISSED, missed.head(EACH)), (FALSE_ALARM, false.head(EACH))):
        for row in rows.itertuples():
            yield Heard(
                (kind,),
                *(row.clip_id, row.machine, row.domain or "", row.label),
                *(float(row.score), float(row.limit), bool(row.alarm)),
                nearest=row.nearest_clip_id,
            )


def explained(chosen: list[Heard], clips: Clips, device: Literal["auto", "cpu", "cuda"]) -> tuple[list[Heard], str]:
    """Return the chosen clips with explanations, and why some have none; empty: all have one."""
    # PyTorch takes seconds to import.
    from asdpipe.monitor.detector import load_detector

    try:
        detector = load_detector(clips.made.file.parent, device)
    except (UserError, OSError) as error:
        return chosen, f"Maps are missing: {error}"
    found, notes, end = list(chosen), [], thread_time() + LONGEST_SECONDS
    for number, row in enumerate(_in_turn(chosen)):
        if number >= MOST_EXPLAINED or thread_time() > end:
            notes.append(f"{number} of {len(chosen)} clips have a map; asdpipe explain-clip makes that of others.")
            break
        try:
            found[row] = _explained(chosen[row], clips, detector)
        except UserError as error:
            notes.append(f"{chosen[row].clip_id} has no map: {error}")
    return found, " ".join(notes)


def _in_turn(chosen: list[Heard]) -> list[int]:
    """Return the rows of clips, those of all machine types in turn."""
    before: Counter[str] = Counter()
    turns = []
    for each in chosen:
        turns.append(before[each.machine])
        before[each.machine] += 1
    return sorted(range(len(chosen)), key=lambda row: turns[row])


def _explained(heard: Heard, clips: Clips, detector: "Detector") -> Heard:
    if heard.clip_id not in clips.audio:
        raise UserError("its audio is gone")
    explanation = detector.explain(clips.audio.samples(heard.clip_id), SAMPLE_RATE, heard.machine)
    if not np.isclose(explanation.score, heard.score, atol=1e-4, rtol=1e-4):
        message = f"the model gives it the score {explanation.score:.4g} now, not {heard.score:.4g}"
        raise UserError(f"{message}; run the workflow again")
    # Parts that raise the score one by one may not do so together.
    explanation = replace(explanation, regions=[each for each in explanation.regions if each.fall > 0])
    return replace(heard, explanation=explanation, nearest=heard.nearest or explanation.normal_clip)
