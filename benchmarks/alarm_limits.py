"""False alarms on new normal clips of the demo: conformal limits beside the challenge's decision threshold.

Usage: python -m benchmarks.alarm_limits STAGE FOLDER [--clips 400] [--csv benchmarks/alarm_limits.csv]

Generates normal clips that the stage was not trained on (other seeds of the generator) below FOLDER, and scores them.
The clips of every machine type and domain are split at random into calibration and test clips, half each, 200 times.
The conformal limit comes from the calibration clips, the decision threshold from the scores of the stage's training
clips, at the same nominal rates. Both are tested on the same clips.

A rate is inside the band if the number of false alarms of a split lies in the central 95 % interval of the binomial
distribution of the test clips with the nominal rate. This is asked of the mean over the splits, and of every split.
Even a perfect limit leaves the band in more than 5 % of the splits, as calibration clips are random, too: its number
of false alarms is beta-binomial. The probability of that to be inside is what single splits can reach.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, binom

from asdpipe.artifacts.tables import read_table
from asdpipe.data.demo.machines import write_dataset
from asdpipe.method.conformal import alarm_limit
from asdpipe.monitor.detector import load_detector
from asdpipe.monitor.origin import stage_scores
from asdpipe.monitor.scoring import OneMethod

RATES = (0.05, 0.1, 0.2)
SPLITS = 200
SEEDS = (1001, 1002)
DOMAINS = ("source", "target")
Scores = NDArray[np.float64]


def false_alarms(scores: Scores, rate: float, fixed_limit: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the false alarms among the test half of random splits, (splits, 2): conformal and fixed limit.

    Args:
        scores: of normal clips, (clips,).
    """
    found = []
    for _ in range(SPLITS):
        calibration, test = np.array_split(rng.permutation(scores), 2)
        found.append([(test > limit).sum() for limit in (alarm_limit(calibration, rate), fixed_limit)])
    return np.array(found)


def inside(alarms: NDArray[np.float64] | float, clips: int, rate: float) -> NDArray[np.bool_]:
    """Return which numbers of false alarms are inside the band."""
    low, high = binom.interval(0.95, clips, rate)
    return (low <= alarms) & (alarms <= high)


def reachable(calibration: int, clips: int, rate: float) -> float:
    """Return the probability that a split of exchangeable clips is inside the band."""
    k = int(np.floor(rate * (calibration + 1) + 1e-9))
    low, high = binom.interval(0.95, clips, rate)
    alarms = betabinom(clips, k, calibration + 1 - k)
    return float(alarms.cdf(high) - alarms.cdf(low - 1))


def new_scores(stage: Path, folder: Path, clips: int, seconds: float) -> pd.DataFrame:
    """Generate and score normal clips; columns seed, machine, domain, score."""
    frames = []
    detector = load_detector(stage, "cpu")
    for seed in SEEDS:
        place, half = folder / str(seed), clips // len(SEEDS)
        if not place.exists():
            write_dataset(place, seed=seed, clip_seconds=seconds, source_clips=half, target_clips=half, test_clips=1)
        files = [file for file in sorted(place.rglob("train/*.wav")) if file.parent.parent.name in detector.machines]
        rows = [
            (row.machine, row.file.name.split("_")[2], row.result.score)
            for row in detector.score_files(files)
            if row.result
        ]
        frames.append(pd.DataFrame(rows, columns=["machine", "domain", "score"]).assign(seed=seed))
    return pd.concat(frames, ignore_index=True)


def thresholds(stage: Path) -> dict[str, dict[float, float]]:
    """Return the decision thresholds of machine types at each nominal rate, from the scores of the training clips."""
    made = stage_scores(stage)
    known = OneMethod(made, torch.device("cpu")).known
    clips = read_table("clips", made.input("train_clips"), ["clip_id", "machine"])
    table = clips.merge(read_table("scores", made.file), on="clip_id")
    return {
        str(machine): {
            rate: known[str(machine)].scorer.limit(part.score.to_numpy()[np.isfinite(part.score)], 1 - rate)
            for rate in RATES
        }
        for machine, part in table.groupby("machine")
    }


def table_of(scores: pd.DataFrame, limits: dict[str, dict[float, float]]) -> pd.DataFrame:
    """Return a row per machine type, domain and nominal rate.

    Args:
        limits: decision thresholds by machine type and rate.
    """
    rng, rows = np.random.default_rng(0), []
    for (machine, domain), part in scores.groupby(["machine", "domain"]):
        for rate in RATES:
            alarms = false_alarms(part.score.to_numpy(), rate, limits[str(machine)][rate], rng)
            tested = len(part) // 2
            mean, kept = alarms.mean(axis=0), inside(alarms, tested, rate).mean(axis=0)
            within = inside(mean, tested, rate)
            # One calibration with the clips of one seed, tested on those of the other.
            first, second = (part.score[part.seed == seed].to_numpy() for seed in SEEDS)
            once = int((second > alarm_limit(first, rate)).sum())
            k = int(np.floor(rate * (len(first) + 1) + 1e-9))
            low, high = betabinom.interval(0.95, len(second), k, len(first) + 1 - k)
            rows.append(
                {
                    "machine": machine,
                    "domain": domain,
                    "rate": rate,
                    "test_clips": tested,
                    "conformal": mean[0] / tested,
                    "conformal_in_band": within[0],
                    "conformal_splits_in_band": kept[0],
                    "reachable": reachable(len(part) - tested, tested, rate),
                    "threshold": mean[1] / tested,
                    "threshold_in_band": within[1],
                    "threshold_splits_in_band": kept[1],
                    "other_seed": once / len(second),
                    "other_seed_in_band": low <= once <= high,
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=400, help="normal clips per machine type and domain")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a clip")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/alarm_limits.csv"))
    given = parser.parse_args()
    scores = new_scores(given.stage, given.folder, given.clips, given.seconds)
    scores.to_csv(given.folder / "scores.csv", index=False)
    table = table_of(scores, thresholds(given.stage))
    table.to_csv(given.csv, index=False, float_format="%.4f", lineterminator="\n")
    print(table.to_string(index=False, float_format="%.3f"))
    for rate, part in table.groupby("rate"):
        print(f"\nnominal {rate:.0%}, {len(part)} machine types x domains")
        for name in ("conformal", "threshold"):
            print(
                f"  {name}: {part[f'{name}_in_band'].sum()} inside the band, "
                f"mean rate {part[name].min():.1%} to {part[name].max():.1%}, "
                f"splits inside {part[f'{name}_splits_in_band'].mean():.1%} (reachable {part.reachable.mean():.1%})"
            )
        by_domain = part.groupby("domain").threshold.agg(["min", "max"])
        print(by_domain.to_string(float_format="%.3f"))
        print(
            f"  clips of the other seed: {part.other_seed_in_band.sum()} of {len(part)} inside the beta-binomial 95 %"
        )


if __name__ == "__main__":
    main()
