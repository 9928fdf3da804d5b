"""The training clips in two parts, and a message where nothing would be left."""

import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.errors import UserError
from asdpipe.steps.hold_out_clips import hold_out_clips

SETTINGS = '{"holdout": 0.25}'


def manifest(path, clips):
    table = pd.DataFrame(clips, columns=["clip_id", "machine", "domain"])
    table = table.assign(path="x", dataset="d", section="00", split="train", part="dev", is_normal=True)
    write_table("clips", table.assign(attributes=None, sample_rate=16_000, num_frames=1), path)
    return table


def test_every_clip_is_in_one_part(tmp_path, caplog):
    clips = [(f"fan/train/{number}.wav", "fan", None if number % 2 else "target") for number in range(40)]
    table = manifest(tmp_path / "clips", [*clips, ("pump/train/1.wav", "pump", None)])
    hold_out_clips(SETTINGS, tmp_path / "clips", tmp_path / "train", tmp_path / "calibration")
    parts = [read_table("clips", tmp_path / name) for name in ("train", "calibration")]
    assert sorted(pd.concat(parts).clip_id) == sorted(table.clip_id)
    assert 2 < len(parts[1]) < 20
    assert "pump: no clip is held out" in caplog.text


def test_a_domain_without_training_clips_is_refused(tmp_path):
    # One session, that of the target domain, is held out as a whole.
    clips = [(f"fan/train/{day}/{number}.wav", "fan", day) for day in ("source", "target") for number in range(5)]
    manifest(tmp_path / "clips", clips)
    share = '{"holdout": 0.5}'
    for settings, words in ((SETTINGS, None), (share, r"fan, \w+: monitor\.holdout = 0\.5 would hold out all 5")):
        arguments = (settings, tmp_path / "clips", tmp_path / "train", tmp_path / "calibration")
        if words is None:
            hold_out_clips(*arguments)
        else:
            with pytest.raises(UserError, match=words):
                hold_out_clips(*arguments)
