"""The metrics against counted pairs, a hand-integrated ROC curve and published totals."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest

from asdpipe.method.metrics import METRICS, evaluate, harmonic_mean, pseudo_label_ari

# The official baseline's eval results (source AUC, target AUC, pAUC per machine type) and their published totals.
DCASE_2023_MAHALA = [
    *(0.8364, 0.5886, 0.5754),  # bandsaw
    *(0.7409, 0.5068, 0.5955),  # grinder
    *(0.8477, 0.6300, 0.6233),  # shaker
    *(0.8130, 0.4622, 0.5142),  # ToyDrone
    *(0.6678, 0.4090, 0.5089),  # ToyNscale
    *(0.8012, 0.4532, 0.5384),  # ToyTank
    *(0.8384, 0.9006, 0.6532),  # Vacuum
]
DCASE_2024_MSE = [
    *(0.7912, 0.4796, 0.4942),  # 3DPrinter
    *(0.6500, 0.4824, 0.5547),  # AirCompressor
    *(0.6916, 0.5374, 0.5011),  # Scanner
    *(0.7658, 0.5266, 0.5000),  # ToyCircuit
    *(0.8602, 0.4388, 0.5021),  # HoveringDrone
    *(0.6224, 0.4598, 0.5163),  # HairDryer
    *(0.7504, 0.6948, 0.5274),  # ToothBrush
    *(0.6596, 0.4152, 0.5116),  # RoboticArm
    *(0.7070, 0.6352, 0.5558),  # BrushlessMotor
]


def pairs(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Share of (normal, anomalous) pairs in the right order; a tie is half right."""
    return sum(1.0 if a > n else 0.5 if a == n else 0.0 for n in normal for a in anomalous) / (
        len(normal) * len(anomalous)
    )


def partial_auc(normal: np.ndarray, anomalous: np.ndarray, max_fpr: float = 0.1) -> float:
    """Area under the ROC polygon up to max_fpr, McClish-standardised: chance 0.5, perfect 1."""
    points = [(0.0, 0.0)]
    for threshold in sorted({*normal, *anomalous}, reverse=True):
        points.append((float(np.mean(normal >= threshold)), float(np.mean(anomalous >= threshold))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= max_fpr or x1 == x0:
            continue
        end = min(x1, max_fpr)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    smallest, largest = max_fpr**2 / 2, max_fpr
    return 0.5 * (1 + (area - smallest) / (largest - smallest))


def table(seed: int, clips: int = 120, levels: int = 40):
    rng = np.random.default_rng(seed)
    is_normal = rng.uniform(size=clips) < 0.5
    domain = rng.choice(["source", "target"], clips, p=[0.7, 0.3])
    shift = (~is_normal) * 0.6 + (domain == "target") * 0.4
    score = np.round((rng.normal(size=clips) + shift) * levels / 8) / levels  # coarse: many ties
    return is_normal, domain, score


@pytest.mark.parametrize("seed", range(5))
def test_every_auc_equals_its_counted_pairs(seed):
    is_normal, domain, score = table(seed)
    values = evaluate(is_normal, domain.tolist(), score)
    assert tuple(values) == METRICS
    assert values["auc"] == pytest.approx(pairs(score[is_normal], score[~is_normal]))
    for name in ("source", "target"):
        inside = domain == name
        # The DCASE convention: normals of the domain against all anomalies.
        assert values[f"auc_{name}"] == pytest.approx(pairs(score[is_normal & inside], score[~is_normal]))
        within = pairs(score[is_normal & inside], score[~is_normal & inside])
        assert values[f"auc_{name}_within"] == pytest.approx(within)
        assert values[f"auc_{name}"] != pytest.approx(within, abs=1e-4)


def test_the_conventions_by_hand():
    # Source normals 0 and 2, target normal 4; source anomaly 3, target anomaly 5.
    values = evaluate(
        np.array([True, True, True, False, False]),
        ["source", "source", "target", "source", "target"],
        np.array([0.0, 2.0, 4.0, 3.0, 5.0]),
    )
    assert values["auc"] == pytest.approx(5 / 6)
    assert values["auc_source"] == 1
    assert values["auc_target"] == pytest.approx(1 / 2)
    assert values["auc_source_within"] == 1
    assert values["auc_target_within"] == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [6, 40, 4000])
def test_pauc_equals_the_standardised_area_of_the_roc_polygon(seed, levels):
    is_normal, domain, score = table(seed, levels=levels)
    expected = partial_auc(score[is_normal], score[~is_normal])
    assert evaluate(is_normal, domain.tolist(), score)["pauc"] == pytest.approx(expected, abs=1e-9)


def test_pauc_looks_only_at_the_lowest_false_positive_rates():
    # 20 normals, 10 anomalies. Two normals (FPR 0.1) score above all anomalies: nothing is found up to FPR 0.1.
    normal, anomalous = np.arange(20.0), np.full(10, 17.5)
    score = np.concatenate([normal, anomalous])
    is_normal = np.arange(30) < 20
    values = evaluate(is_normal, ["source"] * 30, score)
    assert values["auc"] == pytest.approx(0.9)
    assert values["pauc"] == pytest.approx(0.5 * (1 - 0.005 / 0.095))


@pytest.mark.parametrize(("sign", "auc", "pauc"), [(1, 1.0, 1.0), (0, 0.5, 0.5), (-1, 0.0, 0.5 * (1 - 0.005 / 0.095))])
def test_perfect_constant_and_inverted_scores(sign, auc, pauc):
    is_normal = np.arange(40) % 2 == 0
    domain = ["source", "source", "target", "target"] * 10
    values = evaluate(is_normal, domain, sign * (~is_normal).astype(float))
    for name in METRICS:
        if name.startswith("auc"):
            assert values[name] == auc
    assert values["pauc"] == pytest.approx(pauc)


def test_official_score_is_the_harmonic_mean_of_source_auc_target_auc_and_pauc():
    is_normal, domain, score = table(3)
    values = evaluate(is_normal, domain.tolist(), score)
    a, b, c = (values[name] for name in ("auc_source", "auc_target", "pauc"))
    assert values["official"] == pytest.approx(3 / (1 / a + 1 / b + 1 / c))


def test_metrics_do_not_change_when_scores_are_stretched_or_clips_reordered():
    is_normal, domain, score = table(1)
    order = np.random.default_rng(0).permutation(len(score))
    before = evaluate(is_normal, domain.tolist(), score)
    after = evaluate(is_normal[order], domain[order].tolist(), np.exp(score[order]) * 3 - 1)
    assert after == pytest.approx(before)


def test_metrics_without_their_clips_are_nan_and_so_is_the_official_score():
    score = np.array([0.1, 0.4, 0.3, 0.9])
    values = evaluate(np.array([True, True, True, False]), ["source", "source", "source", "target"], score)
    assert values["auc"] == values["auc_source"] == 1
    assert all(math.isnan(values[name]) for name in ("auc_target", "auc_source_within", "auc_target_within"))
    assert math.isnan(values["official"])
    for label in (True, False):
        values = evaluate(np.full(4, label), ["source", "source", "target", "target"], score)
        assert all(math.isnan(value) for value in values.values())


def test_without_domains_auc_and_pauc_remain():
    is_normal, domain, score = table(2)
    known, unknown = evaluate(is_normal, domain.tolist(), score), evaluate(is_normal, [None] * len(score), score)
    assert unknown["auc"] == known["auc"]
    assert unknown["pauc"] == known["pauc"]
    assert all(math.isnan(unknown[name]) for name in METRICS if name not in ("auc", "pauc"))


# ---------------------------------------------------------------- harmonic mean, ARI


@pytest.mark.parametrize(
    ("values", "total"), [(DCASE_2023_MAHALA, 0.6105082), (DCASE_2024_MSE, 0.5650831)], ids=["2023", "2024"]
)
def test_harmonic_mean_reproduces_the_published_dcase_totals(values, total):
    assert len(values) in (21, 27)
    # The per-machine values are printed with four digits, the totals were computed from more.
    assert harmonic_mean(values) == pytest.approx(total, abs=1e-5)
    assert np.mean(values) != pytest.approx(total, abs=1e-2)


@pytest.mark.parametrize(("values", "mean"), [([0.5], 0.5), ([1, 0.5], 2 / 3), ([0.2, 0.3, 0.6], 0.3)])
def test_harmonic_mean_by_hand(values, mean):
    assert harmonic_mean(values) == pytest.approx(mean)
    assert harmonic_mean(iter(values)) == pytest.approx(mean)


def test_harmonic_mean_with_a_zero_is_nearly_zero_and_with_a_nan_is_nan():
    assert 0 < harmonic_mean([0.9, 0.0]) < 1e-14
    assert math.isnan(harmonic_mean([0.9, math.nan]))


@pytest.mark.parametrize(
    ("true", "predicted", "ari"),
    [
        ("aabb", "0011", 1.0),
        ("aabb", "1100", 1.0),  # names do not matter
        ("aabb", "0012", 4 / 7),  # scikit-learn's manual: 0.57
        ("aaaa", "0123", 0.0),
        ("aabb", "0101", -0.5),
    ],
)
def test_ari_known_values(true, predicted, ari):
    assert pseudo_label_ari(list(true), list(predicted)) == pytest.approx(ari)


def test_ari_equals_counted_pairs_corrected_for_chance():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 60)
    predicted = np.where(rng.uniform(size=60) < 0.6, true, rng.integers(0, 5, 60))
    both = in_true = in_predicted = total = 0
    for i, j in combinations(range(60), 2):
        same_true, same_predicted = true[i] == true[j], predicted[i] == predicted[j]
        both += same_true and same_predicted
        in_true += same_true
        in_predicted += same_predicted
        total += 1
    chance = in_true * in_predicted / total
    expected = (both - chance) / ((in_true + in_predicted) / 2 - chance)
    assert pseudo_label_ari(true.astype(str).tolist(), predicted.astype(str).tolist()) == pytest.approx(expected)
