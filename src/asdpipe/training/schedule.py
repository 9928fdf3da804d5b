"""Learning rate of every step."""

import math


def warm_up_and_decay(step: int, steps_per_epoch: int, epochs: int, warm_up_epochs: int, peak: float) -> float:
    """Return the learning rate of a step: a linear rise from 0 to ``peak``, then half a cosine to 0 (AudioMAE).

    Args:
        step: number of steps before it, in all epochs.
        warm_up_epochs: epochs of the rise, fewer than ``epochs``; 0 is reached after the last step.
    """
    warm_up = warm_up_epochs * steps_per_epoch
    if step < warm_up:
        return peak * step / warm_up
    progress = (step - warm_up) / (epochs * steps_per_epoch - warm_up)
    return peak * (1 + math.cos(math.pi * progress)) / 2
