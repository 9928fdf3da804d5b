"""Which training clips are held out: a share, whole sessions together, the same ones whatever else there is."""

import numpy as np
import pytest

from asdpipe.data.holdout import held_out, session


@pytest.mark.parametrize(
    ("clip_id", "expected"),
    [
        # Directly in train/: each for itself.
        ("pump/train/a 01.wav", "pump/train/a 01.wav"),
        ("dev_data/raw/fan/train/section_00_source_train_normal_0000_.wav", None),
        ("pump/train/monday/a.wav", "pump/train/monday"),
        ("pump/train/monday/mic 1/a.wav", "pump/train/monday"),
        ("own/pump/train/monday/a.wav", "own/pump/train/monday"),
        # A machine type of that name.
        ("train/train/a.wav", "train/train/a.wav"),
        ("train/train/monday/a.wav", "train/train/monday"),
        ("a.wav", "a.wav"),
    ],
)
def test_clips_in_a_sub_folder_are_a_session(clip_id, expected):
    assert session(clip_id) == (expected or clip_id)


def test_about_the_share_is_held_out_and_more_clips_or_a_larger_share_change_no_side():
    clips = np.array([f"fan/train/{number}.wav" for number in range(4000)])
    out = held_out(clips, 0.2)
    # Four standard deviations.
    assert abs(out.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / len(clips))
    assert (held_out(clips[::-7], 0.2) == out[::-7]).all()
    assert held_out(clips, 0.4)[out].all()
    assert not held_out(clips, 0).any()
    days = [f"fan/train/day {number % 40}/{number}.wav" for number in range(4000)]
    by_day = held_out(days, 0.3).reshape(100, 40)
    assert (by_day == by_day[0]).all()
    assert 0 < by_day[0].sum() < 40
