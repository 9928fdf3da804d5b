"""What a training depends on: its kind and whether it uses classes."""

import pytest

from asdpipe.config.base import as_json, read_settings
from asdpipe.config.method import Method, SelfSupervisedSettings, TrainingSettings
from asdpipe.config.targets import targets

TRAINED = ["clips", "fine_tune"]


PRETRAINING = {"loss": "masked_reconstruction", "network": {"kind": "masked_audio_mae", "weights": "random"}}


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
