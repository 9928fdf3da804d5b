"""Read audio files as 16 kHz mono samples of 16 bits."""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asdpipe.data.audio import FULL_SCALE, SAMPLE_RATE, to_int16

LONGEST_SECONDS = 3600.0
# An hour of stereo at 72 kHz decodes in seconds; headers of damaged files may promise far more.
MOST_SAMPLES = 1 << 29
# Samples of all channels per decoded block; most clips fit into one.
BLOCK = 1 << 23

Source = Path | bytes
"""An audio file, or its contents."""


class BadClip(Exception):
    """A clip that cannot be used; the message is the reason."""


class Header(NamedTuple):
    """The header of an audio file."""

    sample_rate: int
    num_frames: int


def read_header(source: Source) -> Header:
    """Read sample rate and length from a file's header.

    Raises:
        BadClip: the file is empty, missing, or not audio that soundfile reads.
    """
    with _opened(source) as file:
        return Header(file.samplerate, file.frames)


@contextmanager
def _opened(source: Source) -> Iterator[soundfile.SoundFile]:
    try:
        if (len(source) if isinstance(source, bytes) else source.stat().st_size) == 0:
            raise BadClip("the file is empty")
        # File names need not be UTF-8: pass them as bytes.
        opened = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else os.fsencode(source))
    except OSError as error:
        raise BadClip(f"the file cannot be opened ({error.strerror})") from None
    except soundfile.LibsndfileError:
        raise BadClip("the file is not audio that can be read (wav, flac, ogg, mp3)") from None
    with opened:
        yield opened


def read_clip(source: Source, channel: Literal["mix"] | int = "mix", min_seconds: float = 0.0) -> NDArray[np.int16]:
    """Read a clip as 16 kHz mono, int16 (samples,).

    Args:
        channel: "mix" averages the channels, a number takes one.
        min_seconds: shorter clips are bad.

    Raises:
        BadClip: unreadable, truncated, too short or too long, not finite, silent, or without that channel.
    """
    with _opened(source) as file:
        rate, channels, promised = file.samplerate, file.channels, file.frames
        if promised > LONGEST_SECONDS * rate:
            raise BadClip(f"lasts {promised / rate:.0f} s, longer than an hour: cut it into clips")
        if promised * channels > MOST_SAMPLES:
            message = f"has {promised} frames of {channels} channels, more than {MOST_SAMPLES} samples in all"
            raise BadClip(f"{message}: cut it into clips")
        if channel != "mix" and channel >= channels:
            raise BadClip(f"has {channels} channel(s), but channel {channel} is asked for")
        mono, frames = _mono_16_khz(file, channel)
    expected = max(promised, promised_wav_frames(source))
    if frames < expected:
        raise BadClip(f"truncated: its header promises {expected} frames, it holds {frames}")
    if frames < max(1, min_seconds * rate):
        raise BadClip(f"{frames} samples are too few: a clip must last at least {min_seconds:g} s")
    if len(mono) == 0:
        raise BadClip("nothing is left of it at 16 kHz")
    highest, lowest = float(mono.max()), float(mono.min())
    if not np.isfinite([highest, lowest]).all():
        raise BadClip("holds samples that are not finite (NaN or infinity), or nearly so")
    if highest == lowest == 0:
        raise BadClip("every sample is zero: a dead microphone or a wrong channel?")
    if mono.dtype == np.int16:
        return mono
    if max(highest, -lowest) <= 0.5 / FULL_SCALE:
        raise BadClip("every sample is below half a step of 16 bits: a dead microphone or a wrong scale?")
    return to_int16(mono)


def _mono_16_khz(file: soundfile.SoundFile, channel: Literal["mix"] | int) -> tuple[NDArray[Any], int]:
    """Return the rest of a file, (samples,), and the number of its frames, holding one block at a time.

    Samples are int16 where the file has them like that, otherwise float32, nominally in [-1, 1]. What is resampled in
    blocks is the same, bit for bit, as what is resampled at once.
    """
    wanted = 0 if channel == "mix" and file.channels == 1 else channel
    is_resampled = file.samplerate != SAMPLE_RATE
    stored = file.subtype == "PCM_16" and wanted != "mix" and not is_resampled
    dtype: Literal["int16", "float32"] = "int16" if stored else "float32"
    stream = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32") if is_resampled else None
    parts, frames = [np.zeros(0, dtype)], 0
    size = max(1, BLOCK // file.channels)
    try:
        while len(block := file.read(size, dtype, always_2d=True)):
            frames += len(block)
            with np.errstate(over="ignore", invalid="ignore"):
                mono = block.mean(axis=1) if wanted == "mix" else block[:, wanted]
            parts.append(mono if stream is None else stream.resample_chunk(mono))
    except soundfile.LibsndfileError as error:
        raise BadClip(f"decoding failed ({str(error).rstrip('.')}): the file is damaged or truncated") from None
    if stream is not None:
        parts.append(stream.resample_chunk(parts[0], last=True))
    return np.concatenate(parts), frames


def promised_wav_frames(source: Source) -> int:
    """Return the frames that a RIFF header promises, 0 for other files and for streams of unknown length.

    libsndfile quietly corrects the length of a truncated wav; this does not.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        if file.read(4) != b"RIFF" or len(file.read(8)) < 8:
            return 0
        block_align = 0
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            if name == b"fmt ":
                block_align = int.from_bytes(file.read(size)[12:14], "little")
            elif name == b"data":
                unknown = size in (0, 0x7FFFFFFF, 0xFFFFFFFF)
                return 0 if unknown or not block_align else size // block_align
            else:
                file.seek(size, 1)
            file.seek(size % 2, 1)
    return 0
