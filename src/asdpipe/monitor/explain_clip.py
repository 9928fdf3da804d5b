"""What ``asdpipe explain-clip`` does: explain the scores of recordings in words, pictures and numbers."""

from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Literal

from asdpipe.errors import UserError, short
from asdpipe.monitor.command import LONGEST_NAME, recordings
from asdpipe.monitor.detector import load_detector
from asdpipe.monitor.explanation import Explanation


def explain_clips(
    model: Path,
    places: Sequence[Path],
    machine: str | None = None,
    output: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    stage: int | None = None,
) -> Iterator[str]:
    """Yield lines about each recording, and write ``NAME.png`` and ``NAME.npz`` to a folder.

    A recording that cannot be explained has a line with the reason.

    Args:
        model: folder of a stage or of a run; places: files, and folders with recordings.
        machine: their machine type; output: the folder; None: nothing is written.
        stage: of a run.

    Raises:
        UserError: there is no such model, no recording, or none could be explained.
    """
    files = recordings(places)
    detector = load_detector(model, device, stage)
    used: set[str] = set()
    reasons = []
    for file in files:
        name = short(str(file), LONGEST_NAME)
        try:
            found = detector.explain_file(file, machine)
        except UserError as error:
            reasons.append(str(error))
            yield short(str(error), 2 * LONGEST_NAME)
            continue
        yield from _lines(name, found)
        if output is not None:
            # matplotlib takes a second to import.
            from asdpipe.monitor.picture import write_picture

            # Recordings of different days may have the same name.
            names = chain([file.stem], (f"{file.stem}-{number}" for number in count(2)))
            stem = next(each for each in names if each not in used)
            used.add(stem)
            write_picture(found, name, output / f"{stem}.png")
            found.save(output / f"{stem}.npz")
    if len(reasons) == len(files):
        raise UserError(reasons[0])


def _lines(name: str, found: Explanation) -> Iterator[str]:
    above = "above" if found.score > found.limit else "not above"
    yield f"{name}: {found.machine}, score {found.score:.4g}, {above} the limit of {found.limit:.4g}"
    yield f"  compared with {found.normal_clip}"
    for number, words in enumerate(found.words, 1):
        yield f"  {number}. {words}"
    if not found.words:
        yield "  no part of it raises the score"
