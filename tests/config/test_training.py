"""What a training depends on: its kind and whether it uses classes."""

import pytest

from asdpipe.config.base import as_json, read_settings
from asdpipe.config.method import Method, SelfSupervisedSettings, TrainingSettings
from asdpipe.config.networks import Beats
from asdpipe.config.targets import targets

TRAINED = ["clips", "fine_tune"]


PRETRAINING = {"loss": "masked_reconstruction", "network": {"kind": "masked_audio_mae", "weights": "random"}}
BEATS = {"kind": "beats", "weights": "random"}
BEATS_MB, CLIP_MB = Beats.training_mb


def method(kind: str, **sections) -> Method:
    return Method.model_validate({"training": kind, "pseudo_labels": {"enabled": True}, **sections})


@pytest.mark.parametrize("kind", TRAINED)
def test_a_training_on_classes_depends_on_labels_and_triplet_and_is_iterated(kind):
    plain = method(kind)
    assert plain.uses_classes
    assert plain.iterates
    settings = plain.training_settings()
    assert settings.model_dump().keys() == {"labels", "network", "loss", "triplet", "training"}
    assert settings.training.kind == kind
    assert read_settings(TrainingSettings, as_json(settings)) == settings
    for section in ({"labels": "attribute"}, {"triplet": {"enabled": False}}):
        assert method(kind, **section).first_model != plain.first_model


@pytest.mark.parametrize("kind", TRAINED)
def test_a_training_without_classes_depends_on_network_loss_and_training(kind):
    plain = method(kind, **PRETRAINING)
    assert not plain.uses_classes
    # There are no further stages.
    assert not plain.iterates
    settings = plain.training_settings()
    assert isinstance(settings, SelfSupervisedSettings)
    assert settings.model_dump().keys() == {"network", "loss", "training"}
    assert read_settings(TrainingSettings, as_json(settings)) == settings
    for section in ({"labels": "attribute"}, {"triplet": {"enabled": False}}, {"external": {"n_max": 3}}):
        other = method(kind, **PRETRAINING, **section)
        assert other.first_model == plain.first_model
        assert other.every_model == plain.every_model
    # Machine types stand in for the labels.
    assert "asdpipe.method.classes.MachineLabels" in targets(settings.model_dump(mode="json"))
    assert settings.labeller().needs_attributes is False
    assert not settings.mixes_machines
    (objective,) = settings.objectives(embedding_shape=(1, 8), num_patches=16, num_classes=3)
    assert objective.names == ("reconstruction_loss",)


@pytest.mark.parametrize("kind", ["frames", "none"])
def test_other_trainings_use_no_classes_whatever_the_loss(kind):
    other = method(kind, network="autoencoder")
    assert not other.uses_classes
    assert other.training_settings().model_dump().keys() == {"network", "training"}


def test_fine_tuning_is_by_default_that_of_the_second_paper():
    training = method("fine_tune").training
    assert (training.epochs, training.warm_up_epochs, training.batch_size) == (40, 4, 512)
    assert (training.learning_rate, training.scale_by_batch, training.weight_decay) == (2e-4, False, 1e-2)
    assert training.batch_size % training.micro_batch == 0


# Of clips of 10 s, in MB: for the network, and for each clip of a forward pass.
@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"training": "clips"}, 2500),
        ({"training": "frames", "network": "autoencoder"}, 2500),
        ({"training": "none", "network": BEATS}, BEATS_MB),
        # 8 clips, or 3 views of them.
        ({"training": "fine_tune", "network": BEATS, "triplet": {"enabled": False}}, BEATS_MB + 8 * CLIP_MB),
        ({"training": "fine_tune", "network": BEATS}, BEATS_MB + 24 * CLIP_MB),
        ({"training": {"kind": "fine_tune", "micro_batch": 2}, "network": BEATS}, BEATS_MB + 6 * CLIP_MB),
        ({"training": {"kind": "clips", "target_per_batch": 10}, "network": BEATS}, BEATS_MB + 3 * 90 * CLIP_MB),
        # The most that a rule gives: 80 + 20 clips, or a quarter of 40.
        ({"training": {"source_per_batch": "auto", "target_per_batch": "auto"}}, 2500),
        ({"training": {"source_per_batch": "auto"}, "network": BEATS}, BEATS_MB + 3 * 100 * CLIP_MB),
        (
            {"training": {"source_per_batch": 40, "target_per_batch": "auto"}, "network": BEATS},
            BEATS_MB + 3 * 50 * CLIP_MB,
        ),
    ],
)
def test_memory_of_a_training_is_that_of_its_network_and_of_the_clips_of_a_forward_pass(sections, expected):
    settings = Method.model_validate(sections)
    assert settings.training_mb(160_000) == expected
    # Of long clips, activations take more.
    assert settings.training_mb(320_000) - expected == expected - settings.network.training_mb[0]


def test_memory_of_a_pre_training_does_not_depend_on_triplets():
    plain, without = (method("fine_tune", **PRETRAINING, triplet={"enabled": enabled}) for enabled in (True, False))
    assert plain.training_mb(160_000) == without.training_mb(160_000)


def test_memory_of_an_embedding_grows_with_long_clips():
    settings = method("clips", network=BEATS)
    assert settings.embedding_mb(16_000) == settings.embedding_mb(160_000) == settings.network.embedding_mb
    assert settings.embedding_mb(320_000) == 2 * settings.network.embedding_mb
