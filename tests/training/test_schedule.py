"""The learning rate of every step, against its definition in epochs."""

import math

import numpy as np
import pytest

from asdpipe.training.schedule import warm_up_and_decay


def by_time(epoch: float, epochs: int, warm_up: int, peak: float) -> float:
    """Return the rate at a time, in epochs: half-cycle cosine after warm-up, as MAE's appendix states it."""
    if epoch < warm_up:
        return peak * epoch / warm_up
    return peak * math.cos(math.pi / 2 * (epoch - warm_up) / (epochs - warm_up)) ** 2


@pytest.mark.parametrize(("epochs", "warm_up", "steps"), [(40, 4, 14), (33, 3, 27), (3, 0, 5), (2, 1, 1), (1, 0, 1)])
def test_the_rate_of_every_step_is_that_of_its_time(epochs, warm_up, steps):
    found = [warm_up_and_decay(step, steps, epochs, warm_up, 2e-4) for step in range(epochs * steps)]
    expected = [by_time(step / steps, epochs, warm_up, 2e-4) for step in range(epochs * steps)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-18)


def test_the_rate_rises_from_0_to_its_peak_and_falls_to_0_after_the_last_step():
    rates = [warm_up_and_decay(step, 10, 40, 4, 2e-4) for step in range(401)]
    assert (rates[0], rates[40]) == (0, 2e-4)
    assert rates[20] == pytest.approx(1e-4)
    assert rates[40 + 180] == pytest.approx(1e-4)
    assert rates[400] == pytest.approx(0, abs=1e-18)
    steps = np.diff(rates)
    assert (steps[:40] > 0).all()
    assert (steps[40:] < 0).all()
