"""What the step says of clips whose length is not the one that is scored."""

import logging

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import write_table
from asdpipe.config.base import as_json
from asdpipe.config.method import NetworkSettings
from asdpipe.config.networks import LogMel
from asdpipe.steps.embed import embed

RATE = 16_000


@pytest.mark.parametrize(
    ("seconds", "clip_seconds", "said"),
    [
        ((1, 1, 1), 1, ""),
        ((1, 1.5, 2), 1.5, "1 clips are longer than the 24000 samples"),
        ((1, 1, 1), 10, "half of the clips last 1 s or less, clip_seconds is 10 s: set it to the clips' usual length"),
        ((9, 10, 12), 2, "half of the clips last 10 s or less, clip_seconds is 2 s"),
        ((2, 2, 20), 2, "1 clips are longer than the 32000 samples that are scored; only their beginning counts"),
    ],
)
def test_a_clip_length_far_from_that_of_the_clips_is_a_line_in_the_log(tmp_path, caplog, seconds, clip_seconds, said):
    names = [f"fan/train/{number}.wav" for number in range(len(seconds))]
    lengths = [round(each * RATE) for each in seconds]
    clips = pd.DataFrame({"clip_id": names, "path": names, "machine": "fan", "domain": None, "attributes": None})
    facts = {"dataset": "d", "section": "00", "split": "train", "part": "dev", "is_normal": True}
    write_table("clips", clips.assign(**facts, sample_rate=RATE, num_frames=lengths), tmp_path / "clips")
    noise = np.random.default_rng(0).integers(-3000, 3000, sum(lengths), dtype=np.int16)
    (tmp_path / "samples").write_bytes(noise.astype("<i2").tobytes())
    index = pd.DataFrame({"clip_id": names, "offset": np.cumsum(lengths) - lengths, "num_samples": lengths})
    write_table("waveforms", index, tmp_path / "index")
    settings = as_json(NetworkSettings(network=LogMel()))
    files = [tmp_path / name for name in ("clips", "index", "samples", "embeddings")]
    with caplog.at_level(logging.WARNING):
        embed(settings, round(clip_seconds * RATE), *files, device="cpu")
    assert said in caplog.text
    assert bool(said) == bool(caplog.messages)
