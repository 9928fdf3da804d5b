"""The selection of external clips against a plain reference implementation and cases by hand."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import stats

from asdpipe.method.selection import select, select_random


def reference(rows: list[tuple[int, int, float]], n_max: int | list[int], assign: str):
    """Selected (machine, clip, rank) in order, and N_out, from (clip, machine, score) rows; plain Python.

    ``n_max`` is that of all machines, or of each.
    """
    candidates = Counter(machine for _, machine, _ in rows)
    by_clip = defaultdict(list)
    for clip, machine, score in rows:
        rarity = candidates[machine] if assign == "rarest" else 0
        by_clip[clip].append((rarity, score, machine))
    by_machine = defaultdict(list)
    for clip, offers in by_clip.items():
        _, score, machine = min(offers)
        by_machine[machine].append((score, clip))
    chosen = []
    for machine in sorted(by_machine):
        ranked = sorted(by_machine[machine])[: n_max if isinstance(n_max, int) else n_max[machine]]
        chosen += [(machine, clip, rank) for rank, (_, clip) in enumerate(ranked, start=1)]
    return chosen, {machine: len(clips) for machine, clips in by_machine.items()}


def run(rows: list[tuple[int, int, float]], n_max: int | list[int], assign: str):
    clip = np.array([row[0] for row in rows], dtype=np.int64)
    machine = np.array([row[1] for row in rows], dtype=np.int64)
    score = np.array([row[2] for row in rows], dtype=np.float64)
    found = select(clip, machine, score, np.broadcast_to(n_max, 11), assign)
    chosen = zip(machine[found.row], clip[found.row], found.rank, strict=True)
    return [tuple(map(int, each)) for each in chosen], found.n_out


def random_table(rng: np.random.Generator) -> list[tuple[int, int, float]]:
    """Each (clip, machine) at most once, scores coarse enough to tie often."""
    clips, machines = int(rng.integers(1, 40)), int(rng.integers(1, 6))
    share, levels = rng.uniform(0.05, 1), int(rng.integers(2, 30))
    pairs = [(clip, 2 * machine) for clip in range(clips) for machine in range(machines) if rng.uniform() < share]
    rows = [(clip, machine, -float(rng.integers(1, levels)) / 32) for clip, machine in pairs]
    return [rows[i] for i in rng.permutation(len(rows))]


@pytest.mark.parametrize("assign", ["most_similar", "rarest"])
def test_selection_equals_the_reference_on_random_tables_whatever_the_order_of_the_rows(assign):
    rng = np.random.default_rng(0)
    several = 0
    for _ in range(200):
        rows = random_table(rng)
        n_max = int(rng.integers(0, 12))
        expected = reference(rows, n_max, assign)
        assert run(rows, n_max, assign) == expected
        assert run([rows[i] for i in rng.permutation(len(rows))], n_max, assign) == expected
        several += len({clip for clip, _, _ in rows}) < len(rows)
    assert several > 100


@pytest.mark.parametrize("assign", ["most_similar", "rarest"])
def test_every_machine_type_has_its_own_limit(assign):
    rng = np.random.default_rng(1)
    for _ in range(100):
        rows, n_max = random_table(rng), rng.integers(0, 12, 11).tolist()
        assert run(rows, n_max, assign) == reference(rows, n_max, assign)


def test_the_two_rules_differ_on_random_tables():
    rng = np.random.default_rng(0)
    tables = [random_table(rng) for _ in range(50)]
    assert sum(run(rows, 99, "most_similar") != run(rows, 99, "rarest") for rows in tables) > 25


def test_a_clip_that_several_machines_accept_goes_to_the_most_similar_one():
    rows = [(7, 0, -0.5), (7, 1, -0.8), (7, 2, -0.7), (8, 2, -0.4)]
    assert run(rows, 10, "most_similar") == ([(1, 7, 1), (2, 8, 1)], {1: 1, 2: 1})


def test_a_clip_that_several_machines_accept_goes_to_the_machine_with_the_fewest_candidates():
    rows = [(7, 0, -0.9), (7, 1, -0.5), (8, 0, -0.4), (9, 0, -0.3)]
    assert run(rows, 10, "rarest") == ([(0, 8, 1), (0, 9, 2), (1, 7, 1)], {0: 2, 1: 1})


@pytest.mark.parametrize("assign", ["most_similar", "rarest"])
def test_a_tie_between_machines_goes_to_the_lower_index(assign):
    assert run([(7, 3, -0.5), (7, 1, -0.5)], 10, assign)[0] == [(1, 7, 1)]


def test_a_tie_of_rarity_goes_to_the_lower_score():
    rows = [(7, 0, -0.5), (7, 1, -0.6), (8, 0, -0.1), (9, 1, -0.1)]
    assert run(rows, 10, "rarest")[0] == [(0, 8, 1), (1, 7, 1), (1, 9, 2)]


def test_equal_scores_are_ranked_by_clip():
    rows = [(9, 0, -0.5), (4, 0, -0.5), (6, 0, -0.5), (1, 0, -0.4)]
    assert run(rows, 2, "most_similar") == ([(0, 4, 1), (0, 6, 2)], {0: 4})


@pytest.mark.parametrize(("n_max", "kept"), [(0, 0), (1, 1), (3, 3), (5, 5), (1000, 5)])
def test_the_cap_keeps_the_lowest_scores_and_does_not_change_n_out(n_max, kept):
    rows = [(clip, 4, -clip / 10) for clip in range(5)]
    chosen, n_out = run(rows, n_max, "most_similar")
    assert [clip for _, clip, _ in chosen] == [4, 3, 2, 1, 0][:kept]
    assert n_out == {4: 5}


@pytest.mark.parametrize("assign", ["most_similar", "rarest"])
def test_no_candidates_give_an_empty_selection(assign):
    assert run([], 10, assign) == ([], {})


# ---------------------------------------------------------------- at random


@pytest.mark.parametrize(
    ("clips", "machines", "n_max", "each"),
    [(100, 3, 10, 10), (100, 3, 1000, 33), (100, 4, 25, 25), (2, 3, 10, 0), (0, 3, 10, 0), (50, 2, 0, 0)],
)
def test_random_selection_gives_every_machine_its_share_and_no_clip_twice(clips, machines, n_max, each):
    clip, machine = select_random(clips, np.full(machines, n_max), seed=0)
    assert machine.tolist() == [m for m in range(machines) for _ in range(each)]
    assert len(clip) == len(set(clip.tolist())) == each * machines
    assert set(clip.tolist()) <= set(range(clips))


@pytest.mark.parametrize(("clips", "each"), [(100, [5, 0, 20]), (30, [5, 0, 10])])
def test_random_selection_gives_every_machine_as_many_as_it_may_have_and_at_most_an_equal_share(clips, each):
    clip, machine = select_random(clips, np.array([5, 0, 20]), seed=0)
    assert np.bincount(machine, minlength=3).tolist() == each
    assert len(clip) == len(set(clip.tolist())) == sum(each)


def test_random_selection_is_uniform_over_clips_and_machines():
    counts = np.zeros((12, 3))
    for seed in range(1500):
        clip, machine = select_random(12, np.full(3, 2), seed)
        np.add.at(counts, (clip, machine), 1)
    assert counts.sum() == 1500 * 6
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_random_selection_is_determined_by_the_seed():
    assert np.array_equal(select_random(500, np.full(3, 50), 4)[0], select_random(500, np.full(3, 50), 4)[0])
    assert not np.array_equal(select_random(500, np.full(3, 50), 4)[0], select_random(500, np.full(3, 50), 5)[0])
