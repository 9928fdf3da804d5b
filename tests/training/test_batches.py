"""The batches of an epoch, recognised by their samples."""

import numpy as np
import pytest
import torch

from asdpipe.training.batches import Batch, TrainingSet, epoch_batches, num_batches, shuffled_batches
from asdpipe.training.crop import make_crop, on_device


def training_set(source: int, target: int, lengths=(40,), seed: int = 0) -> TrainingSet:
    """Clip number n holds the samples 1000 n, 1000 n + 1, ...; its row in the waveforms is another one."""
    count = source + target
    rng = np.random.default_rng(seed)
    row = rng.permutation(count)
    samples = [None] * count
    for clip in range(count):
        length = lengths[clip % len(lengths)]
        samples[row[clip]] = (300 * clip + np.arange(length)).astype(np.int16)
    is_target = np.zeros(count, dtype=bool)
    is_target[rng.permutation(count)[:target]] = True
    return TrainingSet(
        waveforms=samples,
        row=row,
        class_index=np.arange(count, dtype=np.int32) * 2,
        machine_index=np.arange(count, dtype=np.int32) % 3,
        is_target=is_target,
    )


def epoch(clips: TrainingSet, source_per_batch=8, target_per_batch=2, num_samples=16, seed=0):
    return list(epoch_batches(clips, num_samples, source_per_batch, target_per_batch, np.random.default_rng(seed)))


def waveforms(clips: TrainingSet, batch: Batch, num_samples: int = 16) -> torch.Tensor:
    return make_crop(clips, num_samples, torch.device("cpu"))(batch)


def members(batch) -> list[int]:
    return [int(value) // 2 for value in batch.class_index]


@pytest.mark.parametrize(
    ("source", "per_batch", "batches"), [(990, 80, 13), (80, 80, 1), (81, 80, 2), (1, 80, 1), (0, 80, 1), (160, 80, 2)]
)
def test_number_of_batches_is_the_source_clips_over_the_batch_size_rounded_up(source, per_batch, batches):
    assert num_batches(source, per_batch) == batches


@pytest.mark.parametrize(
    ("source", "batches"), [(0, 1), (1, 1), (8, 1), (9, 2), (17, 2), (32, 3), (33, 3), (13_860 // 10, 88)]
)
def test_a_random_half_is_half_the_batches_and_one_more_each_of_its_usual_size(source, batches):
    assert num_batches(source, 8, "random_half") == batches
    clips = training_set(source, 4)
    drawn = list(epoch_batches(clips, 16, 8, 2, np.random.default_rng(0), epoch="random_half"))
    assert len(drawn) == batches
    own = [clip for batch in drawn for clip in members(batch) if not clips.is_target[clip]]
    assert len(set(own)) == len(own)
    full = epoch(clips, 8, 2)
    # The same draws as the first batches of all clips.
    assert [members(batch) for batch in drawn] == [members(batch) for batch in full[:batches]]


def test_every_epoch_draws_another_random_half():
    clips, generator = training_set(80, 4), np.random.default_rng(0)
    counts = np.zeros(84)
    for _ in range(400):
        for batch in epoch_batches(clips, 16, 8, 0, generator, epoch="random_half"):
            counts[members(batch)] += 1
    # Six of ten batches: 240 times of 400, standard deviation 9.8.
    used = counts[~clips.is_target]
    assert used.sum() == 400 * 48
    assert np.abs(used - 240).max() < 45


def test_the_batches_of_an_epoch_are_drawn_again_from_the_state_of_the_generator():
    clips, generator = training_set(40, 5), np.random.default_rng(3)
    list(epoch_batches(clips, 16, 8, 2, generator, epoch="random_half"))
    state = generator.bit_generator.state
    first = [members(batch) for batch in epoch_batches(clips, 16, 8, 2, generator, epoch="random_half")]
    generator.bit_generator.state = state
    assert first == [members(batch) for batch in epoch_batches(clips, 16, 8, 2, generator, epoch="random_half")]


@pytest.mark.parametrize(("source", "per_batch"), [(21, 8), (16, 8), (3, 8), (17, 8), (9, 1)])
def test_every_source_clip_comes_exactly_once_per_epoch_in_nearly_equal_batches(source, per_batch):
    clips = training_set(source, 4)
    batches = epoch(clips, per_batch, 2)
    assert len(batches) == num_batches(source, per_batch)
    seen, sizes = [], []
    for batch in batches:
        own = [clip for clip in members(batch) if not clips.is_target[clip]]
        seen += own
        sizes.append(len(own))
        assert len(batch.clip) == len(own) + 2
    assert sorted(seen) == np.flatnonzero(~clips.is_target).tolist()
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= per_batch


def test_target_clips_are_drawn_with_replacement_and_evenly():
    clips = training_set(300, 3)
    drawn = [[clip for clip in members(batch) if clips.is_target[clip]] for batch in epoch(clips, 2, 4)]
    assert all(len(each) == 4 for each in drawn)  # more than the three target clips there are
    counts = np.array([sum(each.count(clip) for each in drawn) for clip in np.flatnonzero(clips.is_target)])
    # 600 draws, 200 expected of each, standard deviation 11.5.
    assert counts.sum() == 600
    assert np.abs(counts - 200).max() < 50


def test_target_clips_stand_anywhere_in_a_batch():
    # Mixup pairs a clip with its mirror image: a target clip must meet target clips as often as chance has it.
    data, generator = training_set(80, 20), np.random.default_rng(0)
    places, pairs = [], []
    for _ in range(60):
        for batch in epoch_batches(data, 16, 40, 10, generator):
            is_target = data.is_target[members(batch)]
            places += np.flatnonzero(is_target).tolist()
            pairs.append((is_target & is_target[::-1]).sum() / is_target.sum())
    assert np.mean(places) == pytest.approx(24.5, abs=1.5)
    assert np.mean(pairs) == pytest.approx(9 / 49, abs=0.03)


def test_without_target_clips_a_batch_has_source_clips_only():
    batches = epoch(training_set(20, 0), 8, 2)
    assert sorted(len(batch.clip) for batch in batches) == [6, 7, 7]


def test_without_source_clips_one_batch_has_target_clips_only():
    (batch,) = epoch(training_set(0, 3), 8, 5)
    assert len(batch.clip) == 5


def test_target_clips_can_be_left_out():
    clips = training_set(20, 5)
    assert not any(clips.is_target[clip] for batch in epoch(clips, 8, 0) for clip in members(batch))


def test_audio_class_and_machine_belong_to_the_same_clip():
    clips = training_set(30, 6, lengths=(40, 16, 7))
    starts = set()
    for batch in epoch(clips):
        audio = waveforms(clips, batch)
        assert audio.dtype == torch.float32
        assert batch.class_index.dtype == batch.machine_index.dtype == torch.int64
        assert audio.shape[1] == 16
        for x, clip, machine in zip(audio.numpy(), members(batch), batch.machine_index.tolist(), strict=True):
            assert machine == clip % 3
            samples = np.rint(x * 32768).astype(int) - 300 * clip
            length = (40, 16, 7)[clip % 3]
            # A clip of 40 is cut where 16 samples fit; shorter ones repeat from anywhere in them.
            assert 0 <= samples[0] < (25 if length == 40 else length)
            assert samples.tolist() == [(samples[0] + i) % length for i in range(16)]
            starts.add(int(samples[0]))
    assert len(starts) > 5


def test_samples_are_scaled_from_int16_to_one():
    clips = TrainingSet(
        [np.array([-32768, 16384, 0, 32767], dtype=np.int16)],
        np.zeros(1, dtype=np.int64),
        np.zeros(1, dtype=np.int32),
        np.zeros(1, dtype=np.int32),
        np.zeros(1, dtype=bool),
    )
    (batch,) = epoch(clips, num_samples=4)
    assert sorted(waveforms(clips, batch, 4)[0].tolist()) == [-1, 0, 0.5, 32767 / 32768]


def test_batches_are_determined_by_the_seed_and_differ_between_epochs():
    clips = training_set(40, 5)
    first, again, other = (epoch(clips, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(waveforms(clips, a), waveforms(clips, b))
        assert torch.equal(a.class_index, b.class_index)
    assert [members(batch) for batch in first] != [members(batch) for batch in other]
    generator = np.random.default_rng(1)
    epochs = [[members(batch) for batch in epoch_batches(clips, 16, 8, 2, generator)] for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_a_copy_on_the_device_gives_the_same_samples():
    clips = training_set(30, 6, lengths=(40, 16, 7))
    copied = on_device(clips, 16, torch.device("cpu"))
    for batch in epoch(clips):
        assert torch.equal(copied(batch), waveforms(clips, batch))


@pytest.mark.parametrize(
    ("count", "batch_size", "micro_batch"), [(20, 8, 3), (20, 512, 8), (7, 7, 7), (5, 2, 9), (1, 4, 2)]
)
def test_shuffled_batches_hold_every_clip_once(count, batch_size, micro_batch):
    clips, generator = training_set(count - count // 3, count // 3, lengths=(40, 10)), np.random.default_rng(1)
    first, second = (list(shuffled_batches(clips, 16, batch_size, micro_batch, generator)) for _ in range(2))
    for drawn in (first, second):
        sizes = [[len(part.clip) for part in batch] for batch in drawn]
        whole, left = divmod(count, batch_size)
        assert [sum(batch) for batch in sizes] == [batch_size] * whole + [left] * (left > 0)
        assert all(max(batch) <= micro_batch and max(batch) - min(batch) <= 1 for batch in sizes)
        parts = [part for batch in drawn for part in batch]
        assert sorted(clip for part in parts for clip in members(part)) == list(range(count))
        for part in parts:
            assert members(part) == part.clip.tolist()
            for row, clip, offset in zip(waveforms(clips, part), part.clip, part.offset, strict=True):
                assert torch.equal(row * 32768, (300 * clip + (offset + torch.arange(16)) % len(clips[clip])).float())
    order = [[clip for batch in drawn for part in batch for clip in members(part)] for drawn in (first, second)]
    assert order[0] != order[1] or count == 1
