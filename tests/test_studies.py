"""The study: its second design, its grid, and its arithmetic. The study itself takes hours."""

import numpy as np
import pandas as pd
import pytest

from asdpipe.config.reading import load_config
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.demo.machines import Fault
from studies.figures import BASE, comparison_table, mean
from studies.grid import BLOCKS, config
from studies.states import MACHINES, MIDDLE_SPEED, SOURCE_SPEEDS, clips, sound, states


def tone(x, hz):
    """Return the amplitude of a tone, by correlation with it."""
    time = np.arange(len(x)) / SAMPLE_RATE
    return 2 * abs(np.mean(x * np.exp(-2j * np.pi * hz * time)))


def test_a_wrong_load_is_normal_at_another_speed_up_to_half_its_strength():
    for machine in MACHINES.values():
        known = states(machine, "source")
        normal = {load for _, load, _ in known}
        for speed, load, _ in known:
            assert {other for at, other, _ in known if at == speed} < normal
            towards = 1 if speed < MIDDLE_SPEED else -1
            assert min(normal) <= load + towards * Fault("load", 0.5).of("load", 1, 3) <= max(normal)
            # The strongest are up to a level beyond all normal ones.
            assert min(normal) - 1 <= load + towards * Fault("load", 1.0).of("load", 1, 3) <= max(normal) + 1


def test_a_fault_changes_what_it_names_and_no_other_random_number():
    machine, n = MACHINES["pump1"], SAMPLE_RATE
    normal, faulty = (
        sound(machine, 1.0, 0.0, fault, n, np.random.default_rng(3)) for fault in (Fault(), Fault("hit", 1.0))
    )
    impacts = np.flatnonzero(abs(faulty - normal) > 0.01)
    turns = impacts[np.insert(np.diff(impacts) > 200, 0, True)]
    assert len(turns) == pytest.approx(machine.shaft_hz, abs=1)
    assert np.diff(turns) == pytest.approx(SAMPLE_RATE / machine.shaft_hz, rel=0.05)


def test_a_slipping_belt_is_slower_by_up_to_a_third():
    machine, n = MACHINES["gear1"], 4 * SAMPLE_RATE
    first = 7 * machine.belt_ratio * machine.shaft_hz * 1.2
    peaks = []
    for fault in (Fault(), Fault("slip", 1.0)):
        x = sound(machine, 1.2, 1.0, fault, n, np.random.default_rng(0))
        peaks.append(max((tone(x, hz), hz) for hz in np.arange(0.6 * first, 1.05 * first, 0.25))[1] / first)
    assert peaks[1] / peaks[0] == pytest.approx(0.7, abs=0.03)


def test_more_clips_leave_the_earlier_ones_as_they_are():
    few, many = ({"source": count, "target": 1, "test": 1} for count in (2, 3))
    first, longer = (list(clips(MACHINES["press2"], 1, 7, counts)) for counts in (few, many))
    kept = {name: x for name, x, *_ in longer}
    assert [name for name, *_ in longer if "0002" in name] == [longer[2][0]]
    assert all(np.array_equal(x, kept[name]) for name, x, *_ in first)
    assert [(speed, load) for _, _, speed, load in first[:2]] == [("1", "0"), ("1", "1")]
    assert len(SOURCE_SPEEDS) * 2 == len(states(MACHINES["press2"], "source"))


def test_the_grid_is_a_valid_configuration_and_names_mean_one_setting_each():
    settings = {}
    for cell in (cell for block in BLOCKS.values() for cell in block):
        for training in (cell.training, cell.training.first()):
            stated = training.settings(cell.data)
            assert settings.setdefault(training.name(cell.data), stated) == stated
    read = load_config({**config(), "data_root": "."})
    for cell in BLOCKS["steps"]:
        method = read.resolve_method(cell.training.name(cell.data))
        per_epoch = -(-cell.data.source_clips // method.training.source_per_batch)
        assert method.training.epochs * per_epoch == pytest.approx(cell.training.steps, rel=0.15)
        assert method.iterates == (cell.training.stage == 2)


def test_differences_are_paired_by_seed():
    rows = [
        {**BASE, "seed": seed, "scorer": scorer, "auc": auc, "official": auc / 2}
        for scorer, values in (("network", [61.0, 71.0, 84.0]), ("nearest neighbour", [60.0, 70.0, 80.0]))
        for seed, auc in enumerate(values)
    ]
    # Differences 1, 1, 4: mean 2, standard deviation sqrt(3), t(0.975, 2) = 4.303.
    line = comparison_table(pd.DataFrame(rows)).splitlines()[3]
    assert line == "| states, 100 clips, 500 steps | +2.0 (-2.3 to +6.3) | +1.0 (-1.2 to +3.2) | 3 |"
    assert np.isnan(mean(pd.Series([1.0])).low)
