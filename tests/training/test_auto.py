"""The settings of a training that are auto."""

import math

import numpy as np
import pytest

from asdpipe.config.base import as_json, read_settings, with_values
from asdpipe.config.method import Method, TrainingSettings
from asdpipe.method.data_size import Size
from asdpipe.training.auto import numbers
from asdpipe.training.batches import num_batches

AUTO = {
    "loss": {"subclusters": "auto"},
    "training": dict.fromkeys(("source_per_batch", "target_per_batch", "epochs"), "auto"),
}
# Two machine types of a hundred clips and a large one.
SIZES = {"fan": Size(100, 3), "pump": Size(140, 0), "valve": Size(900, 10)}


def settings(**sections) -> dict:
    return Method.model_validate(sections).training_settings().model_dump(mode="json")


def test_all_numbers_follow_the_clips():
    # A quarter of the median, 140 clips, is more than 16. A fortieth of 1140 clips are 28, a quarter of which are 7.
    assert numbers(settings(**AUTO), SIZES) == {
        "loss.subclusters": 16,
        "training.source_per_batch": 28,
        "training.target_per_batch": 7,
        "training.epochs": 50,
    }


@pytest.mark.parametrize("epoch", ["all", "random_half"])
def test_epochs_and_target_clips_follow_the_batches_that_are_stated(epoch):
    stated = {"source_per_batch": 10, "target_per_batch": "auto", "epochs": "auto", "epoch": epoch}
    # 114 batches, or half of them and one.
    steps = {"all": 114, "random_half": 58}[epoch]
    assert num_batches(1140, 10, epoch) == steps
    epochs = max(50, math.ceil(200 / steps))
    assert numbers(settings(training=stated), SIZES) == {"training.target_per_batch": 2, "training.epochs": epochs}


def test_a_training_without_source_clips_has_numbers():
    found = numbers(settings(**AUTO), {"fan": Size(0, 5)})
    assert found == {
        "loss.subclusters": 2,
        "training.source_per_batch": 16,
        "training.target_per_batch": 4,
        "training.epochs": 200,
    }


@pytest.mark.parametrize(
    "sections", [{}, {"training": "fine_tune"}, {"loss": "arc_face"}, {"training": "frames", "network": "autoencoder"}]
)
def test_what_is_stated_stays(sections):
    stated = settings(**sections)
    assert numbers(stated, SIZES) == {}
    read = read_settings(TrainingSettings, as_json(Method.model_validate(sections).training_settings()))
    assert with_values(read, {}) == read


def test_numbers_replace_auto_and_nothing_else():
    read = read_settings(TrainingSettings, as_json(Method.model_validate(AUTO).training_settings()))
    found = numbers(read.model_dump(mode="json"), SIZES)
    used = with_values(read, found)
    numeric = {"loss": {"subclusters": 16}, "training": {"source_per_batch": 28, "target_per_batch": 7, "epochs": 50}}
    assert used == Method.model_validate(numeric).training_settings()
    # Precision is chosen later, by the hardware.
    assert used.training.precision == "auto"
    assert np.isscalar(used.training.build().epochs)
