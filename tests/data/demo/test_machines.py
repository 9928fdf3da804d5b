"""The demo data set: layout, metadata, determinism, and the physics of some machines measured from their sound."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray

from asdpipe.data.demo import machines as demo
from asdpipe.data.demo import sounds

SECONDS = 1.0
SOURCE, TARGET, TEST = 5, 3, 4


def make_dataset(folder: Path, seed: int = 7, source: int = SOURCE, target: int = TARGET, test: int = TEST) -> Path:
    demo.write_dataset(
        folder, seed=seed, clip_seconds=SECONDS, source_clips=source, target_clips=target, test_clips=test
    )
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def wavs(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.endswith(".wav")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset"))


def machine_folders(dataset: Path) -> dict[str, Path]:
    sets = {"dev_data": demo.DEV_MACHINES, "eval_data": demo.EVAL_MACHINES}
    return {name: dataset / part / "raw" / name for part, names in sets.items() for name in names}


# Layout and metadata


def test_machines_are_split_into_dev_and_eval(dataset: Path) -> None:
    assert [*demo.MACHINES] == ["rotor", "gearmesh", "valve", "slider", "fan", "compressor"]
    assert [*demo.MACHINES] == [*demo.DEV_MACHINES, *demo.EVAL_MACHINES]
    found = sorted(path.name for path in dataset.glob("*_data/raw/*"))
    assert found == sorted(demo.MACHINES)


def test_names_carry_group_number_and_attributes(dataset: Path) -> None:
    for name, folder in machine_folders(dataset).items():
        groups: dict[tuple[str, ...], list[int]] = {}
        for path in sorted(folder.glob("t*/*.wav")):
            section, number, domain, split, label, index, *attributes = path.stem.split("_")
            assert (section, number, split) == ("section", "00", path.parent.name)
            assert len(attributes) == 4 and all(attributes)
            assert not set(attributes) & set(demo.MACHINES[name].faults)
            groups.setdefault((domain, split, label), []).append(int(index))
        expected = {("source", "train", "normal"): SOURCE, ("target", "train", "normal"): TARGET}
        expected |= {(d, "test", label): TEST for d in ("source", "target") for label in ("normal", "anomaly")}
        assert {key: sorted(value) for key, value in groups.items()} == {k: list(range(n)) for k, n in expected.items()}


def test_attribute_table_agrees_with_the_names(dataset: Path) -> None:
    for name, folder in machine_folders(dataset).items():
        with (folder / "attributes_00.csv").open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        assert header == ["file_name", "d1p", "d1v", "d2p", "d2v"]
        assert {row[0] for row in rows} == {
            f"{name}/{path.parent.name}/{path.name}" for path in folder.glob("t*/*.wav")
        }
        assert all(Path(row[0]).stem.endswith("_" + "_".join(row[1:])) for row in rows)


def test_target_states_are_not_in_the_source() -> None:
    for machine in demo.MACHINES.values():
        source = [attributes for attributes, _ in machine.source]
        assert not [attributes for attributes, _ in machine.target if attributes in source]
        assert 4 <= len(machine.source) + len(machine.target) <= 6
        assert len(machine.faults) >= 3


def test_audio_is_16_khz_mono_pcm16_with_room_below_clipping(dataset: Path) -> None:
    lengths = []
    for path in sorted(dataset.rglob("*.wav")):
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16000, 1, "PCM_16", "WAV")
        wave, _ = sf.read(path)
        assert np.abs(wave).max() < 0.95
        assert np.std(wave) > 10 ** (-55 / 20), path
        lengths.append(len(wave))
    assert max(lengths) == SECONDS * 16000
    assert min(lengths) >= 0.75 * SECONDS * 16000
    assert 0.03 < np.mean(np.array(lengths) < max(lengths)) < 0.25


# Determinism


def test_another_seed_changes_every_clip(dataset: Path, tmp_path: Path) -> None:
    old, new = wavs(contents(dataset)), wavs(contents(make_dataset(tmp_path, 8, source=1, target=1, test=1)))
    assert new.keys() < old.keys()
    assert not [name for name in new if old[name] == new[name]]


def test_same_seed_same_clips_however_many(dataset: Path, tmp_path: Path) -> None:
    fewer = contents(make_dataset(tmp_path, source=SOURCE - 2, target=TARGET - 2, test=TEST - 2))
    more = contents(dataset)
    assert wavs(fewer).items() < wavs(more).items()
    for table in fewer.keys() - wavs(fewer).keys():
        assert set(fewer[table].splitlines()) < set(more[table].splitlines())


def test_no_two_clips_are_the_same(dataset: Path) -> None:
    data = list(wavs(contents(dataset)).values())
    assert len(set(data)) == len(data)


# Errors and limits


@pytest.mark.parametrize("name", ["source_clips", "target_clips", "test_clips", "clip_seconds"])
def test_dataset_refuses_bad_numbers(name: str, tmp_path: Path) -> None:
    arguments = {"clip_seconds": 1.0, "source_clips": 1, "target_clips": 1, "test_clips": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        demo.write_dataset(tmp_path / "out", seed=0, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_shortest_clips_are_finite_and_audible(tmp_path: Path) -> None:
    demo.write_dataset(tmp_path, seed=3, clip_seconds=0.5, source_clips=1, target_clips=1, test_clips=4)
    assert all(np.std(sf.read(path)[0]) > 10 ** (-55 / 20) for path in tmp_path.rglob("*.wav"))


# Physics, measured from the machine alone (no factory noise)

SAMPLES = 8 * sounds.SAMPLE_RATE
FAULTS = [(name, kind) for name, machine in demo.MACHINES.items() for kind in machine.faults]


@cache
def machine_sound(name: str, fault: demo.Fault | None = None, **attributes: str) -> NDArray[np.float64]:
    return demo.MACHINES[name].sound(attributes, fault or demo.Fault(), SAMPLES, np.random.default_rng(1))


def band_level(x: NDArray[np.float64], low: float, high: float) -> float:
    """Power between two frequencies (Hz) in dB."""
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    frequency = np.fft.rfftfreq(len(x), 1 / sounds.SAMPLE_RATE)
    return float(10 * np.log10(power[(frequency >= low) & (frequency < high)].sum() + 1e-20))


def envelope(x: NDArray[np.float64], low: float) -> NDArray[np.float64]:
    """Power above ``low`` Hz in 5 ms steps."""
    high = sounds.filtered(x, lambda f: (f > low).astype(np.float64))
    return np.asarray(np.mean(high.reshape(-1, 80) ** 2, axis=1))


def strongest_rate(x: NDArray[np.float64], low: float, high: float) -> float:
    """Strongest periodicity between two rates (Hz) of a curve sampled at 200 Hz."""
    spectrum = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x)), 16 * len(x)))
    rate = np.fft.rfftfreq(16 * len(x), 1 / 200)
    inside = (rate >= low) & (rate < high)
    return float(rate[inside][np.argmax(spectrum[inside])])


def cells(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power in cells of 64 ms and a third of an octave."""
    power = np.abs(np.fft.rfft(x.reshape(-1, 1024) * np.hanning(1024), axis=1)) ** 2
    edges = np.unique(np.round(np.geomspace(1, 513, 28)).astype(int))
    return np.asarray(np.add.reduceat(power, edges[:-1], axis=1))


@pytest.mark.parametrize(("spd", "hz"), [("1", 19.0), ("2", 25.0), ("3", 34.0)])
def test_rotor_shows_harmonics_of_its_shaft_speed(spd: str, hz: float) -> None:
    x = machine_sound("rotor", spd=spd, load="A")
    on = [band_level(x, (k - 0.15) * hz, (k + 0.15) * hz) for k in range(1, 7)]
    off = [band_level(x, (k + 0.35) * hz, (k + 0.65) * hz) for k in range(1, 7)]
    assert min(np.subtract(on, off)) > 15


def test_rotor_imbalance_raises_the_first_order_by_its_strength() -> None:
    normal = machine_sound("rotor", spd="2", load="A")
    raised = [
        band_level(machine_sound("rotor", demo.Fault("imbalance", s), spd="2", load="A"), 23, 27)
        - band_level(normal, 23, 27)
        for s in (0.0, 1.0)
    ]
    assert raised == pytest.approx([3, 16], abs=2)


def test_bearing_fault_repeats_at_the_outer_race_rate() -> None:
    x = machine_sound("rotor", demo.Fault("bearing", 1.0), spd="1", load="A")
    assert strongest_rate(envelope(x, 2900), 50, 90) == pytest.approx(3.58 * 19, rel=0.04)


@pytest.mark.parametrize("load", ["0", "2"])
def test_gear_pair_sings_at_its_mesh_frequency_with_pinion_side_bands(load: str) -> None:
    x = machine_sound("gearmesh", spd="2", load=load)
    carrier, side, floor = (band_level(x, f - 5, f + 5) for f in (460, 480, 470))
    assert carrier > side + 8
    assert side > floor + 3


@pytest.mark.parametrize("prs", ["2", "8"])
def test_compressor_strokes_slow_down_with_pressure(prs: str) -> None:
    x = machine_sound("compressor", prs=prs, mic="1")
    assert strongest_rate(envelope(x, 2000), 5, 11) == pytest.approx(9 - 0.25 * float(prs), rel=0.04)


def test_missing_clicks_are_missing_and_a_leak_hisses() -> None:
    normal = machine_sound("valve", pat="1", bg="A")
    silent = machine_sound("valve", demo.Fault("missing", 1.0), pat="1", bg="A")
    clicks = [int((envelope(x, 2000) > 1e-5).sum()) for x in (normal, silent)]
    assert clicks[1] < 0.7 * clicks[0]
    leaking = machine_sound("valve", demo.Fault("leak", 1.0), pat="1", bg="A")
    assert band_level(leaking, 5000, 6200) > band_level(normal, 5000, 6200) + 6


def test_slider_friction_follows_the_stroke() -> None:
    x = machine_sound("slider", vel="400", ac="0.50")
    ramp, stroke = 0.4 / (0.5 * 9.81), 0.120
    half_cycle = ramp + stroke / 0.4
    assert strongest_rate(envelope(x, 500), 1.5, 4) == pytest.approx(1 / half_cycle, rel=0.05)


def test_fan_noise_follows_the_fifth_power_of_speed() -> None:
    slow, fast = (machine_sound("fan", vol=vol, n="W") for vol in ("9", "12"))
    assert band_level(fast, 300, 3000) - band_level(slow, 300, 3000) == pytest.approx(50 * np.log10(12 / 9), abs=1.5)


@pytest.mark.parametrize(("name", "kind"), FAULTS)
def test_every_anomaly_changes_the_sound_more_when_stronger(name: str, kind: str) -> None:
    attributes = demo.MACHINES[name].source[0][0]
    faults = demo.Fault(), demo.Fault(kind, 0.0), demo.Fault(kind, 1.0)
    normal, barely, obvious = (np.log(1e-7 + cells(machine_sound(name, fault, **attributes))) for fault in faults)
    small, large = np.mean((barely - normal) ** 2), np.mean((obvious - normal) ** 2)
    assert 0 < small < large
    assert large > 1e-3
