"""The metrics against counted pairs, a hand-integrated ROC curve and published totals."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from asdpipe.method.metrics import METRICS, evaluate, harmonic_mean, official_score
from asdpipe.method.pseudo_labels import pseudo_label_ari

# The official baselines' results on the evaluation sets, as the evaluators print them: machine types, source AUC,
# target AUC, pAUC of each, and the total score.
PUBLISHED = {
    "2023 MAHALA": (
        "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum",
        "0.836434267021059 0.7409411378914575 0.8476602762317048 0.813 0.6678 0.8012 0.8384",
        "0.5885844748858448 0.50682261208577 0.6299533799533801 0.4622 0.409 0.4532 0.9006",
        "0.5753594967896497 0.5955291246149972 0.6233307541280444 0.5142105263157895 0.5089473684210526 "
        "0.5384210526315789 0.653157894736842",
        0.6105082186925268,
    ),
    "2023 MSE": (
        "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum",
        "0.6667348190554078 0.706837186424004 0.69428983714698 0.7968 0.77 0.7212 0.8816",
        "0.48287671232876717 0.5516569200779727 0.5604118104118104 0.561 0.4716 0.6468 0.4532",
        "0.5091087658743451 0.5846166760294185 0.5491654428600755 0.5368421052631579 0.5178947368421053 "
        "0.5826315789473684 0.5947368421052631",
        0.5925469043549957,
    ),
    "2024 MSE": (
        "3DPrinter AirCompressor Scanner ToyCircuit HoveringDrone HairDryer ToothBrush RoboticArm BrushlessMotor",
        "0.7912 0.65 0.6916 0.7658 0.8602 0.6224 0.7504 0.6596 0.707",
        "0.4796 0.4824 0.5374 0.5266 0.4388 0.4598 0.6948 0.4152 0.6352",
        "0.4942105263157895 0.5547368421052632 0.5010526315789474 0.5 0.5021052631578947 0.5163157894736842 "
        "0.5273684210526316 0.511578947368421 0.5557894736842105",
        0.5650830191796572,
    ),
    "2025 MAHALA": (
        "AutoTrash HomeCamera ToyPet ToyRCCar BandSealer CoffeeGrinder Polisher ScrewFeeder",
        "0.7726 0.8616 0.6982 0.5586 0.7638 0.7498 0.7042 0.729",
        "0.526 0.4264 0.509 0.5548 0.3268 0.4042 0.5278 0.7904",
        "0.541578947368421 0.5184210526315789 0.5684210526315789 0.54 0.49105263157894735 0.5142105263157895 "
        "0.5378947368421052 0.7005263157894737",
        0.5650558189601554,
    ),
    "2025 MSE": (
        "AutoTrash HomeCamera ToyPet ToyRCCar BandSealer CoffeeGrinder Polisher ScrewFeeder",
        "0.8102 0.814 0.677 0.5284 0.7198 0.7304 0.6686 0.6486",
        "0.3436 0.4976 0.367 0.6272 0.3956 0.4436 0.443 0.6592",
        "0.5421052631578948 0.5284210526315789 0.55 0.5552631578947368 0.5205263157894737 0.5342105263157895 "
        "0.5231578947368422 0.6210526315789474",
        0.5442827820713174,
    ),
}
# What the evaluator of 2021 prints of fan: AUC and pAUC of sections 03 to 05, by domain, and their harmonic means.
FAN_2021 = {
    "auc_source_within": (0.6669, 0.7014, 0.5834),
    "pauc_source_within": (0.5273684210526316, 0.52, 0.5352631578947369),
    "auc_target_within": (0.5229, 0.5357, 0.448452380952381),
    "pauc_target_within": (0.49315789473684213, 0.5063157894736842, 0.4805764411027569),
}
FAN_2021_HARMONIC = (0.5634700058286667, 0.5097204125946903)
# What the evaluator of 2020 prints: AUC of every machine ID and their average, then pAUC and their average.
PUBLISHED_2020 = {
    "fan": (
        (0.7939877300613497, 0.8663687150837989, 0.869850950290476, 0.8434024651452082),
        (0.6181788827897966, 0.6768597471331961, 0.7075731309293712, 0.6675372536174548),
    ),
    "pump": (
        (0.8455172413793103, 0.7973451327433627, 0.8474193548387097, 0.8300939096537941),
        (0.7014519056261344, 0.5891942244993014, 0.6394312393887945, 0.6433591231714101),
    ),
    "valve": (
        (0.57725, 0.5424166666666665, 0.551825, 0.5571638888888889),
        (0.5109649122807017, 0.5166666666666667, 0.49144736842105263, 0.506359649122807),
    ),
}


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
        pauc_within = partial_auc(score[is_normal & inside], score[~is_normal & inside])
        assert values[f"pauc_{name}_within"] == pytest.approx(pauc_within, abs=1e-9)
        assert values["pauc"] != pytest.approx(pauc_within, abs=1e-4)


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
    assert evaluate(is_normal, domain.tolist(), score)["pauc"] == pytest.approx(expected, abs=1e-12)


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


def test_each_year_takes_its_own_part_of_a_machine_type():
    is_normal, domain, score = table(3)
    by_year = {year: evaluate(is_normal, domain.tolist(), score, f"dcase{year}") for year in (2020, 2021, 2022)}
    values = by_year[2022]
    a, b, c = (values[name] for name in ("auc_source", "auc_target", "pauc"))
    assert evaluate(is_normal, domain.tolist(), score) == values
    assert values["official"] == pytest.approx(3 / (1 / a + 1 / b + 1 / c))
    within = [values[f"{kind}_{name}_within"] for kind in ("auc", "pauc") for name in ("source", "target")]
    assert by_year[2021]["official"] == pytest.approx(4 / sum(1 / value for value in within))
    assert by_year[2020]["official"] == pytest.approx((values["auc"] + values["pauc"]) / 2)
    assert len({round(values["official"], 3) for values in by_year.values()}) == 3


def test_metrics_do_not_change_when_scores_are_stretched_or_clips_reordered():
    is_normal, domain, score = table(1)
    order = np.random.default_rng(0).permutation(len(score))
    before = evaluate(is_normal, domain.tolist(), score)
    after = evaluate(is_normal[order], domain[order].tolist(), np.exp(score[order]) * 3 - 1)
    assert after == pytest.approx(before)


@pytest.mark.parametrize("seed", range(20))
def test_infinite_scores_are_the_most_anomalous_and_tied(seed):
    is_normal, _, score = table(seed, clips=30 + 10 * seed, levels=[3, 40, 4000][seed % 3])
    score[:2], score[2] = np.inf, -np.inf
    values = evaluate(is_normal, [None] * len(score), score)
    finite = np.concatenate([[99, 99, -99], score[3:]])
    normal, anomalous = finite[is_normal], finite[~is_normal]
    assert values["auc"] == pytest.approx(pairs(normal, anomalous), abs=1e-12)
    assert values["pauc"] == pytest.approx(partial_auc(normal, anomalous), abs=1e-12)


def test_a_score_that_is_not_a_number_leaves_no_metric():
    is_normal, domain, score = table(0)
    score[5] = math.nan
    values = evaluate(is_normal, domain.tolist(), score)
    assert math.isnan(values["auc"])
    assert math.isnan(values["pauc"])


@pytest.mark.filterwarnings("error")
def test_metrics_without_their_clips_are_nan_and_so_is_the_official_score():
    score = np.array([0.1, 0.4, 0.3, 0.9])
    values = evaluate(np.array([True, True, True, False]), ["source", "source", "source", "target"], score)
    assert values["auc"] == values["auc_source"] == 1
    assert all(math.isnan(values[name]) for name in ("auc_target", "auc_source_within", "auc_target_within"))
    assert math.isnan(values["official"])
    for label in (True, False):
        values = evaluate(np.full(4, label), ["source", "source", "target", "target"], score)
        assert all(math.isnan(value) for value in values.values())


def test_without_domains_auc_and_pauc_remain_and_are_the_official_score_of_2020():
    is_normal, domain, score = table(2)
    known, unknown = evaluate(is_normal, domain.tolist(), score), evaluate(is_normal, [None] * len(score), score)
    assert unknown["auc"] == known["auc"]
    assert unknown["pauc"] == known["pauc"]
    assert all(math.isnan(unknown[name]) for name in METRICS if name not in ("auc", "pauc"))
    assert evaluate(is_normal, [None] * len(score), score, "dcase2020")["official"] == pytest.approx(
        (known["auc"] + known["pauc"]) / 2
    )


# ---------------------------------------------------------------- official scores


@pytest.mark.parametrize("system", PUBLISHED)
def test_the_official_score_reproduces_the_published_totals(system):
    machines, *columns, total = PUBLISHED[system]
    source, target, pauc = ([float(value) for value in column.split()] for column in columns)
    values = [{"auc_source": a, "auc_target": b, "pauc": c} for a, b, c in zip(source, target, pauc, strict=True)]
    assert official_score(machines.split(), values, "dcase2022") == pytest.approx(total, abs=1e-12)
    assert np.mean([source, target, pauc]) != pytest.approx(total, abs=1e-2)


def test_the_official_score_of_2021_agrees_with_what_its_evaluator_printed():
    values = [dict(zip(FAN_2021, row, strict=True)) for row in zip(*FAN_2021.values(), strict=True)]
    # All three sections have as many AUCs as pAUCs, so that the mean of all is the mean of both printed means.
    assert official_score(["fan"] * 3, values, "dcase2021") == pytest.approx(
        harmonic_mean(FAN_2021_HARMONIC), abs=1e-12
    )


def test_the_official_score_of_2021_is_over_84_values_each_domain_by_itself():
    machines, rows, expected, across = [], [], [], []
    for seed, (machine, _) in enumerate((machine, section) for machine in range(7) for section in range(3)):
        is_normal, domain, score = table(seed)
        rows.append(evaluate(is_normal, domain.tolist(), score, "dcase2021"))
        machines.append(str(machine))
        for name in ("source", "target"):
            inside = domain == name
            for max_fpr in (None, 0.1):
                expected.append(roc_auc_score(~is_normal[inside], score[inside], max_fpr=max_fpr))
                mixed = inside | ~is_normal
                across.append(roc_auc_score(~is_normal[mixed], score[mixed], max_fpr=max_fpr))
    assert len(expected) == 84
    total = official_score(machines, rows, "dcase2021")
    assert total == pytest.approx(84 / sum(1 / value for value in expected))
    assert total != pytest.approx(84 / sum(1 / value for value in across), abs=1e-3)


def test_the_official_score_of_2020_averages_ids_then_machine_types():
    rows = {
        machine: [{"auc": auc, "pauc": pauc} for auc, pauc in zip(aucs[:-1], paucs[:-1], strict=True)]
        for machine, (aucs, paucs) in PUBLISHED_2020.items()
    }
    printed = {machine: (aucs[-1] + paucs[-1]) / 2 for machine, (aucs, paucs) in PUBLISHED_2020.items()}
    for machine, values in rows.items():
        assert official_score([machine] * 3, values, "dcase2020") == pytest.approx(printed[machine], abs=1e-12)
    machines = [machine for machine in rows for _ in rows[machine]]
    values = [metrics for machine in rows for metrics in rows[machine]]
    assert official_score(machines, values, "dcase2020") == pytest.approx(np.mean(list(printed.values())), abs=1e-12)
    # A machine type with fewer IDs counts as much as the others.
    fewer = official_score(machines[2:], values[2:], "dcase2020")
    alone = (PUBLISHED_2020["fan"][0][2] + PUBLISHED_2020["fan"][1][2]) / 2
    assert fewer == pytest.approx((alone + printed["pump"] + printed["valve"]) / 3, abs=1e-12)


@pytest.mark.parametrize("scoring", ["dcase2020", "dcase2021", "dcase2022"])
def test_a_missing_term_leaves_the_official_score_missing(scoring):
    whole = dict.fromkeys(METRICS, 0.8)
    # What the year's formula does not use may be missing.
    unused = {"dcase2020": "auc_source", "dcase2021": "pauc", "dcase2022": "pauc_source_within"}[scoring]
    assert official_score("ab", [whole, whole | {unused: math.nan}], scoring) == pytest.approx(0.8)
    used = {"dcase2020": "pauc", "dcase2021": "pauc_target_within", "dcase2022": "auc_target"}[scoring]
    assert math.isnan(official_score("ab", [whole, whole | {used: math.nan}], scoring))


# ---------------------------------------------------------------- harmonic mean, ARI


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
