"""Why a recording has its score: how much the score falls when parts of it are replaced by those of a normal clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asdpipe.artifacts.files import written
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError
from asdpipe.method.occlusion import Grid, Occlusion
from asdpipe.method.regions import Region as Cells
from asdpipe.method.regions import largest_regions
from asdpipe.monitor.model import Samples, Scoring

REGIONS = 3
LONGEST_SECONDS = 60
DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Region:
    """A part of a recording."""

    low: float
    """In Hz."""
    high: float
    start: float
    """In s."""
    end: float
    fall: float
    """How much the score falls when this part is replaced."""

    def __str__(self) -> str:
        return f"{_frequencies(self.low, self.high)}, from {_time(self.start)} to {_time(self.end)}"


@dataclass(frozen=True)
class Explanation:
    """Why a recording has its score."""

    machine: str
    score: float
    limit: float
    """The machine type's limit."""
    normal_clip: str
    """The training clip that parts were replaced by."""
    samples: Samples
    """The recording as it was scored: 16 kHz, int16, (samples,)."""
    grid: Grid
    """Edges of the bands in Hz and of the spans in s."""
    map: NDArray[np.float64]
    """Fall of the score when a part is replaced, (bands, spans)."""
    scale: float
    """Fall of the score when the whole recording is replaced."""
    regions: list[Region]
    """Up to three, the one with the largest fall first."""

    @property
    def words(self) -> list[str]:
        """What each region says, for people."""
        return [self._said(region) for region in self.regions]

    def _said(self, region: Region) -> str:
        below = self.score > self.limit >= self.score - region.fall
        return f"{region}: without it the score is {region.fall:.3g} lower" + (", below the limit" if below else "")

    def save(self, file: Path) -> None:
        """Write all numbers to an npz file; docs/monitor.md lists its arrays."""
        regions = [[each.low, each.high, each.start, each.end, each.fall] for each in self.regions]
        with written(file) as temporary, temporary.open("wb") as target:
            np.savez_compressed(
                target,
                map=self.map,
                frequency_edges=self.grid.frequency,
                time_edges=self.grid.time,
                score=self.score,
                limit=self.limit,
                scale=self.scale,
                regions=np.array(regions).reshape(-1, 5),
                machine=np.array(self.machine),
                normal_clip=np.array(self.normal_clip),
                samples=self.samples,
            )


def explain(
    model: Scoring,
    samples: Samples,
    machine: str,
    score: float,
    limit: float,
    nearest_clip: str | None,
    batch: int,
) -> Explanation:
    """Return why a recording has its score.

    Args:
        model: scores clips.
        samples: the recording, 16 kHz, (samples,).
        machine, score, limit, nearest_clip: what it has scored.
        batch: clips to score at once.

    Raises:
        UserError: the recording is too long, its score is not finite, or the audio of the training clips is gone.
    """
    if len(samples) > LONGEST_SECONDS * SAMPLE_RATE:
        message = f"lasts {len(samples) / SAMPLE_RATE:.0f} s, but only recordings of up to {LONGEST_SECONDS} s"
        raise UserError(f"{message} can be explained: cut it")
    if not np.isfinite(score):
        raise UserError(f"its score is {score:g}, which cannot be explained")
    normals = model.normals
    if normals is None:
        raise UserError("a bundle has no audio of normal clips; explain with the folder of the stage")
    # Some scores compare with no clip, such as an autoencoder's, and references that were added have no audio here.
    known = nearest_clip if nearest_clip is not None and normals.has(nearest_clip) else None
    normal_clip = known or normals.most_similar(samples, machine)
    occlusion = Occlusion(samples, np.resize(normals.audio(normal_clip), len(samples)))
    bands, spans = (len(edges) - 1 for edges in occlusion.grid)
    cells = [Cells(slice(band, band + 1), slice(span, span + 1)) for band in range(bands) for span in range(spans)]
    everything = Cells(slice(0, bands), slice(0, spans))

    def falls(parts: Sequence[Cells]) -> NDArray[np.float64]:
        found = [np.zeros(0)]
        for first in range(0, len(parts), batch):
            clips = [occlusion.without(*part) for part in parts[first : first + batch]]
            found.append(score - model.scores(clips, [machine] * len(clips)).score)
        return np.concatenate(found)

    scale, *values = falls([everything, *cells])
    found = np.array(values).reshape(bands, spans)
    parts = largest_regions(found, REGIONS)
    regions = [_region(occlusion.grid, part, fall) for part, fall in zip(parts, falls(parts), strict=True)]
    regions.sort(key=lambda region: -region.fall)
    return Explanation(machine, score, limit, normal_clip, samples, occlusion.grid, found, float(scale), regions)


def _region(grid: Grid, cells: Cells, fall: float) -> Region:
    low, high = grid.frequency[cells.rows.start], grid.frequency[cells.rows.stop]
    start, end = grid.time[cells.columns.start], grid.time[cells.columns.stop]
    return Region(float(low), float(high), float(start), float(end), float(fall))


def _frequencies(low: float, high: float) -> str:
    """Return a band in words, with its unit."""
    if high < 1000:
        return f"{low:.0f}{DASH}{high:.0f} Hz"
    return f"{low / 1000:.2g}{DASH}{high / 1000:.2g} kHz"


def _time(seconds: float) -> str:
    """Return a time in words, e.g. "3.1 s"."""
    return f"{round(seconds, 2):g} s"
