"""The autoencoder's training on generated tones, and what it hands to the scores."""

import math

import numpy as np
import pytest
import torch

from asdpipe.config.method import Method
from asdpipe.config.networks import Autoencoder as Network
from asdpipe.config.training import FrameTraining
from asdpipe.errors import UserError
from asdpipe.method.objectives import ReconstructionObjective
from asdpipe.method.scorers import SelectiveMahalanobis
from asdpipe.models.autoencoder import Autoencoder, MachineAutoencoder, inverse_covariances
from asdpipe.models.build import build_extractor
from asdpipe.training.batches import TrainingSet
from asdpipe.training.on_frames import errors, frame_vectors, mean_loss, shuffled
from asdpipe.training.state import Checkpoint, Interrupted
from tests.training.jobs import CPU, Clips, NoCheckpoint, train

SETTINGS = FrameTraining(epochs=12, batch_size=32, learning_rate=3e-3)


def tone(frequency: float, seed: int, seconds: float = 1.0) -> np.ndarray:
    """A tone and its octave in noise, int16."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(16_000 * seconds)) / 16_000 + rng.uniform()
    x = 0.2 * np.sin(2 * np.pi * frequency * t) + 0.1 * np.sin(4 * np.pi * frequency * t)
    return ((x + 0.02 * rng.standard_normal(len(t))) * 32767).astype(np.int16)


def tones(source: int = 12, target: int = 4) -> tuple[list[np.ndarray], np.ndarray]:
    """Source clips at 400 Hz, target clips at 600 Hz."""
    clips = [tone(400, seed) for seed in range(source)] + [tone(600, 100 + seed) for seed in range(target)]
    return clips, np.arange(source + target) < source


def waves(clips: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(clips) / np.float32(32768)).float()


def train_machine(clips, is_source, settings: FrameTraining, seed, checkpoint: Checkpoint | None = None):
    """Train the autoencoder of one machine type."""
    return settings.build().train_machine(
        clips, is_source, seed, ReconstructionObjective(), CPU, checkpoint or NoCheckpoint()
    )


def distances_of(model: Autoencoder, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the distances (clips, 3) by which clips are scored."""
    extractor = MachineAutoencoder().eval()
    extractor.model = model
    extractor.inverse_covariances.copy_(inverse)
    with torch.inference_mode():
        return extractor(x)[:, 0]


def selective_score(distances: torch.Tensor) -> np.ndarray:
    return SelectiveMahalanobis().distance(distances.numpy())


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Matrices this small gain nothing from threads, and on a busy machine wait ten times as long for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained():
    return train_machine(*tones(), SETTINGS, [0])


def test_training_lowers_the_loss_also_of_the_vectors_that_are_only_watched(trained):
    _, _, history = trained
    assert history.columns.tolist() == ["epoch", "loss", "validation_loss", "learning_rate"]
    assert history.epoch.tolist() == list(range(1, 13))
    assert history.loss.iloc[-1] < 0.2 * history.loss.iloc[0]
    assert history.validation_loss.iloc[-1] < 0.2 * history.validation_loss.iloc[0]


def test_another_tone_has_higher_scores_than_new_normal_clips_of_both_domains(trained):
    model, inverse, _ = trained
    normal = distances_of(model, inverse, waves([tone(f, 200 + f) for f in (400, 401, 600, 601)]))
    strange = distances_of(model, inverse, waves([tone(f, f) for f in (900, 1500, 250)]))
    assert strange[:, 0].min() > normal[:, 0].max()
    assert selective_score(strange).min() > selective_score(normal).max()


def test_the_model_comes_back_in_evaluation_mode_with_two_covariances(trained):
    model, inverse, _ = trained
    assert not model.training
    assert inverse.shape == (2, 128, 128)
    assert inverse.isfinite().all()


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    settings = FrameTraining(epochs=2, batch_size=32)
    clips, is_source = tones(4, 2)
    runs = [train_machine(iter(clips), is_source, settings, seed) for seed in ([0, 1], [0, 1], [0, 2])]
    distances = [distances_of(model, inverse, waves(clips)) for model, inverse, _ in runs]
    assert torch.equal(distances[0], distances[1])
    assert runs[0][2].equals(runs[1][2])
    assert not torch.equal(distances[0], distances[2])


def test_covariances_are_of_the_trained_models_errors_on_the_training_vectors():
    clips, is_source = tones(5, 3)
    settings = FrameTraining(epochs=1, batch_size=10_000, validation=0)
    model, inverse, _ = train_machine(clips, is_source, settings, [0])
    with torch.no_grad():
        error = [model(model.frame_vectors(x[None])[0]) - model.frame_vectors(x[None])[0] for x in waves(clips)]
    domain = torch.from_numpy(is_source).repeat_interleave(28)
    expected = inverse_covariances([(torch.cat(error), domain)])
    torch.testing.assert_close(inverse, expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()))


def test_a_machine_type_without_target_clips_is_scored_by_source_alone():
    clips, is_source = tones(3, 0)
    settings = FrameTraining(epochs=1, batch_size=32)
    model, inverse, _ = train_machine(clips, is_source, settings, [0])
    distances = distances_of(model, inverse, waves(clips))
    assert distances[:, 2].isnan().all()
    assert np.array_equal(selective_score(distances), distances[:, 1])


def test_vectors_never_reach_across_two_clips():
    model = Autoencoder()
    clips = [tone(400, 0, 1.0), tone(500, 1, 0.5), tone(600, 2, 0.1), tone(700, 3, 0.7)]
    vectors = frame_vectors(iter(clips), model.log_mel, CPU)
    expected = [model.frame_vectors(waves([clip]))[0] for clip in clips]
    assert [len(each) for each in expected] == [28, 12, 0, 18]
    torch.testing.assert_close(vectors.runs[vectors.row], torch.cat(expected))
    assert vectors.clip.tolist() == [0] * 28 + [1] * 12 + [3] * 18


def test_only_the_spectrograms_are_held():
    vectors = frame_vectors(tones(3, 0)[0], Autoencoder().log_mel, CPU)
    assert vectors.runs.untyped_storage().nbytes() == 3 * 32 * 128 * 4


def test_batches_hold_every_member_once_but_for_one_that_would_be_alone():
    members, draws = torch.arange(100, 133), torch.Generator().manual_seed(0)
    batches = list(shuffled(members, 16, draws))
    assert [len(each) for each in batches] == [16, 16]
    assert len(set(torch.cat(batches).tolist())) == 32
    again = list(shuffled(members, 11, draws))
    assert sorted(torch.cat(again).tolist()) == list(range(100, 133))
    assert torch.cat(again).tolist() != list(range(100, 133))


def test_the_watched_loss_is_the_mean_squared_error_in_evaluation_mode():
    model = Autoencoder()
    vectors = frame_vectors(tones(2, 0)[0], model.log_mel, CPU)
    chosen = torch.tensor([3, 40, 7, 20, 1])
    x = vectors.runs[vectors.row[chosen]]
    expected = float((model.eval()(x).detach() - x).square().mean())
    assert mean_loss(model.train(), vectors, chosen, 2) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(errors(model.train(), vectors, chosen), (model.eval()(x) - x).detach())


@pytest.mark.parametrize(("share", "watched"), [(0.1, 6), (0.5, 28), (0.0, 0)])
def test_a_share_of_the_vectors_is_only_watched(share, watched, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "asdpipe.training.on_frames.shuffled",
        lambda members, size, rng: (seen.append(members), shuffled(members, size, rng))[1],
    )
    settings = FrameTraining(epochs=1, batch_size=32, validation=share)
    _, _, history = train_machine(*tones(2, 0), settings, [0])
    assert [len(set(each.tolist())) for each in seen] == [56 - watched] * 2  # training, then covariances
    assert math.isnan(history.validation_loss[0]) == (watched == 0)


@pytest.mark.parametrize("clips", [[], [tone(400, 0, 0.1)], [tone(400, 0, 0.13)]])
def test_too_little_to_train_on_is_an_error_for_the_user(clips):
    with pytest.raises(UserError, match=rf"{len(clips)} training clips leave 0 runs of 5 frames.*add clips"):
        train_machine(clips, np.ones(len(clips), dtype=bool), SETTINGS, [0])


def test_a_single_short_clip_is_enough():
    clips = [tone(400, 0, 0.2)]
    model, inverse, history = train_machine(clips, np.ones(1, dtype=bool), SETTINGS, [0])
    assert np.isfinite(history.loss).all()
    assert distances_of(model, inverse, waves(clips))[:, :2].isfinite().all()


def test_diverged_training_is_an_error_that_says_what_to_change():
    settings = FrameTraining(epochs=3, batch_size=8, learning_rate=1e30)
    with pytest.raises(UserError, match=r"diverged in epoch \d.*smaller training.learning_rate than 1e\+30"):
        train_machine(*tones(2, 1), settings, [0])


# ---------------------------------------------------------------- all machine types


MACHINES = ["pump", "fan", "pump", "fan", "pump", "fan", "pump"]
METHOD = Method(network=Network(), training=FrameTraining(epochs=2, batch_size=16))


def several_machines(only: str | None = None) -> tuple[TrainingSet, list[str]]:
    """Return clips of two machine types in mixed order, or of one of them, and the machine type of each."""
    recordings = [tone(400 + 40 * number, number, 0.5) for number in range(len(MACHINES))]
    rows = np.array([row for row, machine in enumerate(MACHINES) if only in (None, machine)])
    groups = np.zeros(len(rows), dtype=np.int32)
    return TrainingSet(Clips(recordings), rows, groups, groups, rows >= 5), [MACHINES[row] for row in rows]


def train_all(only: str | None = None, **options):
    clips, machine = several_machines(only)
    return train(clips, METHOD, 8000, machine=machine, **options)


@pytest.fixture(scope="module")
def all_machines():
    return train_all()


def test_every_machine_type_has_the_autoencoder_of_its_own_clips(all_machines):
    assert all_machines.network == {"kind": "autoencoder", "machines": ["fan", "pump"]}
    assert all_machines.history.columns.tolist() == ["machine", "epoch", "loss", "validation_loss", "learning_rate"]
    assert all_machines.history[["machine", "epoch"]].to_numpy().tolist() == [
        ["fan", 1],
        ["fan", 2],
        ["pump", 1],
        ["pump", 2],
    ]
    clips, machine = several_machines()
    x = waves([tone(900, 9, 0.5), tone(450, 8, 0.5)])
    for name in ("fan", "pump"):
        rows = [row for row, each in enumerate(machine) if each == name]
        recordings = [clips.waveforms[row] for row in rows]
        seed = [0, *name.encode()]
        model, inverse, history = train_machine(recordings, ~clips.is_target[rows], METHOD.training, seed)
        with torch.inference_mode():
            found = all_machines.extractor.of_machine(name)(x)[:, 0]
        torch.testing.assert_close(found, distances_of(model, inverse, x), rtol=0, atol=0, equal_nan=True)
        rows = all_machines.history.machine == name
        assert all_machines.history[rows].drop(columns="machine").reset_index(drop=True).equals(history)


def test_another_machine_type_changes_no_autoencoder(all_machines):
    alone = train_all("pump").extractor.of_machine("pump").state_dict()
    for name, value in all_machines.extractor.of_machine("pump").state_dict().items():
        torch.testing.assert_close(alone[name], value, rtol=0, atol=0, equal_nan=True)


def test_the_extractor_comes_back_in_evaluation_mode_and_can_be_built_again(all_machines):
    assert not any(module.training for module in all_machines.extractor.modules())
    again = build_extractor(all_machines.network)
    again.load_state_dict(all_machines.extractor.state_dict())
    assert again.machines == ("fan", "pump")


def test_an_interrupted_training_goes_on_with_the_machine_type_it_was_at(all_machines, tmp_path, monkeypatch):
    checkpoints = {}

    def checkpoint(name: str) -> Checkpoint:
        checkpoints[name] = Checkpoint(tmp_path / name, {"name": name})
        # In the first run, while the second machine type trains.
        if name == "pump" and not (tmp_path / "pump").exists():
            checkpoints[name].stop_asked.set()
        return checkpoints[name]

    with pytest.raises(Interrupted, match="pump: stopped by a signal after epoch 1 and 0 steps"):
        train_all(checkpoint=checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fan", "pump"]
    seen = []
    real = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *arguments: (seen.append(1), real(*arguments))[1])
    trained = train_all(checkpoint=checkpoint)
    # One epoch of four clips with 12 vectors each, a tenth of them watched: 43 in batches of 16.
    assert len(seen) == 3
    assert trained.history.equals(all_machines.history)
    for name, value in all_machines.extractor.state_dict().items():
        torch.testing.assert_close(trained.extractor.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)
    assert trained.checkpoints == [checkpoints["fan"], checkpoints["pump"]]


def test_errors_name_the_machine_type():
    clips, machine = several_machines()
    diverging = METHOD.model_copy(update={"training": FrameTraining(epochs=2, batch_size=8, learning_rate=1e30)})
    with pytest.raises(UserError, match=r"^fan: training of the autoencoder diverged"):
        train(clips, diverging, 8000, machine=machine)


def test_clips_below_five_frames_are_refused_before_training():
    clips, machine = several_machines()
    clips.waveforms[1] = tone(400, 0, 0.12)
    with pytest.raises(UserError, match=r"clips shorter than 0.128 s, which the network needs: 1, e.g. clip 1"):
        train(clips, METHOD, 8000, machine=machine)
