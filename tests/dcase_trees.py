"""Trees of DCASE Task 2 with the true folders and names of each year, all clips being links to one file.

Facts here come from the organisers' lists and papers, not from the package, so that tests compare two accounts.
"""

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdpipe.data.dcase import manifest
from tests.conftest import SHARED

Layout = Literal["official", "merged", "asdkit"]
GROUND_TRUTH = SHARED / "dcase_ground_truth"
PLAN = ".plan.json"

_MIMII = ["fan", "pump", "slider", "valve"]
_FIRST_SHOT = ["bearing", "fan", "gearbox", "slider", "valve", "ToyCar", "ToyTrain"]
_NEW = {
    2023: "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum",
    2024: "3DPrinter AirCompressor BrushlessMotor HairDryer HoveringDrone RoboticArm Scanner ToothBrush ToyCircuit",
    2025: "AutoTrash BandSealer CoffeeGrinder HomeCamera Polisher ScrewFeeder ToyPet ToyRCCar",
}
HIDDEN = {
    2024: ["gearbox", "slider", "ToyTrain", "AirCompressor", "BrushlessMotor", "HoveringDrone", "ToothBrush"],
    2025: ["bearing", "slider", "ToyTrain", "AutoTrash", "Polisher", "ScrewFeeder", "ToyPet"],
}
# {} varies from clip to clip.
_ATTRIBUTES = {
    "bearing": "vel_{}_loc_E",
    "slider": "vel_{}_ac_0.11",
    "fan": "m-n_{}",
    "valve": "v1pat_{}_v2pat_none",
    "RoboticArm": "weight15_Bckg{}",
    "CoffeeGrinder": "mic_imp34dt05_mic_pos_{}_grind_100_bkg_A",
    "ScrewFeeder": "vol_{}",
}


def sections(year: int, part: str, machine: str) -> list[str]:
    """Return the sections (2020: machine IDs) of a machine type in one part of a year."""
    if year == 2020:
        if machine.startswith("Toy"):
            first, last = {"ToyCar": (4, 7), "ToyConveyor": (3, 6)}[machine]
            return [f"{n:02d}" for n in (range(1, first + 1) if part == "dev" else range(first + 1, last + 1))]
        return ["00", "02", "04", "06"] if part == "dev" else ["01", "03", "05"]
    if year in (2021, 2022):
        return ["00", "01", "02"] if part == "dev" else ["03", "04", "05"]
    return ["00"]


def machine_types(year: int, part: str) -> list[str]:
    """Return the machine types of one part of a year."""
    if year == 2020:
        return [*_MIMII, "ToyCar", "ToyConveyor"]
    if year == 2021:
        return [*_MIMII, "gearbox", "ToyCar", "ToyTrain"]
    return _NEW[year].split() if part == "eval" and year in _NEW else _FIRST_SHOT


@cache
def real_eval_test(year: int) -> list[dict]:
    """Return machine, section, released, renamed, domain, is_normal, true attributes of the real evaluation test clips.

    From the organisers' list of new names; for ToyCar and ToyTrain of 2022 label and domain from the evaluator.
    Skips the test where the shared ground truth is not there.
    """
    if not GROUND_TRUTH.is_dir():
        pytest.skip(f"the shared ground truth is not there ({GROUND_TRUTH})")
    source = "asdkit" if year == 2024 else "nttcslab_baseline"
    rows, machine = [], ""
    for line in (GROUND_TRUTH / f"{year}/{source}/eval_data_list_{year}.csv").read_text().split():
        released, _, new = line.partition(",")
        if not new:
            machine = released
            continue
        released, renamed = released.removesuffix(".wav"), new.split(",")[0].removesuffix(".wav")
        words = renamed.split("_")
        if year == 2020:
            facts = {"section": words[2], "domain": None, "is_normal": words[0] == "normal", "true": None}
        else:
            facts = {
                "section": words[1],
                "domain": words[2],
                "is_normal": words[4] == "normal",
                "true": "_".join(words[6:]).removesuffix("noAttribute") or None,
            }
        rows.append({"machine": machine, "released": released, "renamed": renamed, **facts})
    if year == 2022:
        for row in rows:
            if row["machine"] in ("ToyCar", "ToyTrain"):
                flags = _flags_2022(row["machine"], row["section"])[row["released"]]
                row |= {"is_normal": flags[0] == "0", "domain": "target" if flags[1] == "1" else "source"}
    return rows


@cache
def _flags_2022(machine: str, section: str) -> dict[str, tuple[str, str]]:
    read = []
    for kind in ("data", "domain"):
        file = f"2022/Kota-Dohi_evaluator/ground_truth_{kind}/ground_truth_{machine}_section_{section}_test.csv"
        read.append(dict(line.split(",") for line in (GROUND_TRUTH / file).read_text().split()))
    return {clip.removesuffix(".wav"): (label, read[1][clip]) for clip, label in read[0].items()}


def write_year(
    root: Path,
    year: int,
    *,
    layout: Layout = "official",
    machines: Sequence[str] | None = None,
    parts: Sequence[str] = ("dev", "eval"),
    clip: Path | None = None,
    counts: Literal["published"] | int = 2,
) -> pd.DataFrame:
    """Write a year's tree below root and return its expected manifest.

    Args:
        layout: "official" {dev,eval}_data/raw/<machine>; "merged" dev_data/<machine> with renamed evaluation test
            clips; "asdkit" raw/<machine> with these, and with new names for all of 2020.
        machines: only these; None: all.
        clip: the audio file that all clips link to; None: a short one is generated.
        counts: clips per group (section, split, domain, label), or "published" with the real names of the
            evaluation test clips (the test is skipped where the shared ground truth is not there).

    Returns:
        clip_id, machine, part, section, split, domain, is_normal, attributes (as released, or in the ground truth of
        evaluation test clips), revealed (the same with those that the challenge hid); by clip_id.
    """
    root.mkdir(parents=True, exist_ok=True)
    wave = root / ".clip"
    if clip is None:
        soundfile.write(wave, 0.1 * np.random.default_rng(0).standard_normal(160), 16_000, "PCM_16", format="WAV")
    else:
        shutil.copyfile(clip, wave)
    plan = []
    for part in parts:
        for machine in machine_types(year, part):
            if machines is None or machine in machines:
                for section in sections(year, part, machine):
                    for row in _plan(year, part, machine, section, counts):
                        row["clip_id"] = _place(year, layout, row)
                        plan.append(row)
    for folder in {root / row["clip_id"].rpartition("/")[0] for row in plan}:
        folder.mkdir(parents=True, exist_ok=True)
    for row in plan:
        _link(wave, root / row["clip_id"])
    wave.unlink()
    (root / PLAN).write_text(json.dumps(plan))
    return _expected(year, layout, plan)


def write_truth(folder: Path, year: int, tree: Path) -> None:
    """Write the ground truth of a tree that ``write_year`` wrote, in the layout of the repositories that publish it."""
    plan = json.loads((tree / PLAN).read_text())
    test = [row for row in plan if row["part"] == "eval" and row["split"] == "test"]
    files: dict[str, list[str]] = {}
    for row in test:
        old, new, machine = f"{row['released']}.wav", f"{row['renamed']}.wav", row["machine"]
        label, domain = str(int(not row["is_normal"])), str(int(row["domain"] == "target"))
        if year in (2020, 2025):
            lines = files.setdefault(f"eval_data_list_{year}.csv", [])
            if machine not in lines:
                lines.append(machine)
            new = f"{row['full']}.wav" if year == 2025 else new
            lines.append(f"{old},{new},{label}" if year == 2020 else f"{old},{new}")
            continue
        middle = f"{row['section']}_{row['domain']}" if year == 2021 else row["section"]
        name = f"ground_truth_{machine}_section_{middle}_test.csv"
        files.setdefault(f"ground_truth_data/{name}", []).append(f"{old},{label}")
        if year == 2021:
            continue
        files.setdefault(f"ground_truth_domain/{name}", []).append(f"{old},{domain}")
        if year == 2022:
            file = f"ground_truth_attributes/{machine}/attributes_{row['section']}.csv"
            lines = files.setdefault(file, ["file_name,d1p,d1v,d2p,d2v,file_name_with_full_attributes"])
            pairs = "vel,8,loc,E" if len(lines) % 2 else "vel,8"
            lines.append(f"{machine}/test/{old},{pairs},{machine}/test/{new}")
        else:
            hidden = machine in HIDDEN.get(year, ()) and machine != "BrushlessMotor"
            third = f",{row['full']}.wav" if hidden else ""
            # The organisers forgot _test_ in these.
            second = row["renamed"].replace("_test_", "_") if machine == "RoboticArm" else row["renamed"]
            files.setdefault(f"ground_truth_attributes/{name}", []).append(f"{old},{second}{third}")
    for row in plan:
        if row["machine"] in HIDDEN.get(year, ()) and row["split"] != "supplemental":
            is_eval_test = row["part"] == "eval" and row["split"] == "test"
            if row["machine"] == "BrushlessMotor" and is_eval_test:
                continue
            base = "ground_truth_attributes_all" if year == 2024 else "ground_truth_attributes/dcase2025t2"
            file = f"{base}/{row['part']}_data/{row['machine']}/attributes_00_{row['split']}_correspondence.csv"
            right = row["renamed"] if year == 2024 and is_eval_test else row["released"]
            files.setdefault(file, ["source_file_name,target_file_name"]).append(f"{row['full']}.wav,{right}.wav")
    for file, lines in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        # Some of the published files have Windows line ends.
        (folder / file).write_text("".join(f"{line}\r\n" for line in lines), newline="")


def list_all(root: Path, dataset: str, machines: Sequence[str] | None = None, **options) -> pd.DataFrame:
    """Return the manifest of all splits, as the workflow lists, joins and labels them."""
    splits = [
        manifest.list_clips(root, dataset, split, machines, **options) for split in ("train", "test", "supplemental")
    ]
    return manifest.label_clips(pd.concat([each for each in splits if len(each)] or splits), root, machines, **options)


def same_manifest(clips: pd.DataFrame, expected: pd.DataFrame, attributes: str = "revealed") -> None:
    """Assert that a manifest says of each clip what is expected; attributes: "attributes" or "revealed"."""
    columns = ["clip_id", "machine", "part", "section", "split", "domain", "is_normal", "attributes"]
    wanted = (
        expected.drop(columns="attributes").rename(columns={attributes: "attributes"})
        if (attributes != "attributes")
        else expected
    )
    found = clips[columns].sort_values("clip_id", ignore_index=True).astype(object)
    wanted = wanted[columns].sort_values("clip_id", ignore_index=True).astype(object)
    pd.testing.assert_frame_equal(found.where(found.notna(), None), wanted.where(wanted.notna(), None))


def sizes(year: int, part: str, machine: str, section: str, counts: Literal["published"] | int) -> dict:
    """Return (split, domain, is_normal) -> number of clips of a section, without published evaluation test sets."""
    domains = [None] if year == 2020 else ["source", "target"]
    kinds = [("test", domain, label) for domain in domains for label in (True, False)]
    if counts != "published":
        return {("train", domain, True): counts for domain in domains} | dict.fromkeys(kinds, counts)
    if year == 2020:
        # Made up where nothing is published, such that the year's total is the published one.
        train = {"fan00": 911, "fan02": 916, "fan04": 933, "fan06": 915, "valve06": 892, "ToyConveyor06": 825}
        default = 1000 if part == "dev" or machine == "ToyCar" else 900
        found = {("train", None, True): train.get(machine + section, default)}
        test = [350, 264 if section == "01" else 265] if machine == "ToyCar" else [100, 200]
    elif year == 2021:
        gearbox = {"00": 1001, "03": 1005, "04": 1092}
        source = gearbox.get(section, 1008) if machine == "gearbox" else 1000
        found = {("train", "source", True): source, ("train", "target", True): 3}
        # Of gearbox and slider only sums are published; the split of the rest is made up.
        index = int(section) % 3
        test = {
            "gearbox": [[195, 105, 103, 112], [108, 123, 103, 112], [108, 123, 103, 112]][index],
            "slider": [[104, 101, 100, 101], [103, 101, 100, 101], [103, 100, 100, 100]][index],
        }.get(machine, [100] * 4)
    else:
        found = {("train", "source", True): 990, ("train", "target", True): 10}
        test = [50] * 4
    return found | (dict(zip(kinds, test, strict=True)) if part == "dev" else {})


def _plan(year: int, part: str, machine: str, section: str, counts: Literal["published"] | int) -> Iterator[dict]:
    """Yield the clips of a section: released and renamed names, full name, and what is true of them."""
    about = {"part": part, "machine": machine, "section": section}
    draw = random.Random(f"{year} {part} {machine} {section}")
    # Numbers start at 0 or at 1.
    start = len(machine) % 2
    eval_test = []
    for (split, domain, is_normal), size in sizes(year, part, machine, section, counts).items():
        for number in range(start, start + size):
            facts = {**about, "split": split, "domain": domain, "is_normal": is_normal, "true": None}
            if year > 2021 or (year == 2021 and split == "train"):
                facts["true"] = _ATTRIBUTES.get(machine, "car_{}_spd_28V_mic_1").format(draw.choice(["A1", "B2", "C"]))
            row = facts | _names(year, facts, number)
            if part == "eval" and split == "test":
                eval_test.append(row)
            else:
                yield row
    if counts == "published" and part == "eval":
        for real in real_eval_test(year):
            if (real["machine"], real["section"]) == (machine, section):
                yield {**about, "split": "test", "full": real["renamed"], **real}
    draw.shuffle(eval_test)
    for number, row in enumerate(eval_test, start):
        domain = f"{row['domain']}_test_" if year == 2021 else ""
        yield row | {
            "released": f"id_{section}_{number:08d}" if year == 2020 else f"section_{section}_{domain}{number:04d}"
        }
    if year == 2025:
        yield from _supplemental(about, 100 if counts == "published" else counts)


def _supplemental(about: dict, size: int) -> Iterator[dict]:
    """Yield clean or noise clips, with one of the names that are reported."""
    noise = len(about["machine"]) % 2 == 0
    for number in range(size):
        name = f"section_00_noise_supplemental_normal_{number:04d}" if noise else f"section_00_machine_{number:04d}_"
        facts = {"split": "supplemental", "domain": None, "is_normal": None, "true": "noise" if noise else "machine"}
        yield {**about, **facts, "released": name, "renamed": name, "full": name}


def _names(year: int, facts: dict, number: int) -> dict[str, str]:
    label = "normal" if facts["is_normal"] else "anomaly"
    if year == 2020:
        name = f"{label}_id_{facts['section']}_{number:08d}"
        return {"released": name, "renamed": name, "full": name}

    def named(number: int, attributes: str | None) -> str:
        stem = f"section_{facts['section']}_{facts['domain']}_{facts['split']}_{label}_{number:04d}"
        return stem if attributes is None else f"{stem}_{attributes}"

    hidden = facts["machine"] in HIDDEN.get(year, ())
    released = named(number, "noAttribute" if hidden else facts["true"])
    # Clips with hidden attributes were numbered anew.
    full = named(number + 3 if hidden and facts["split"] == "train" else number, facts["true"])
    told = year == 2025 or facts["machine"] == "BrushlessMotor"
    return {"released": released, "renamed": full if told and facts["split"] == "test" else released, "full": full}


def _place(year: int, layout: Layout, row: dict) -> str:
    split, is_eval_test = row["split"], row["part"] == "eval" and row["split"] == "test"
    if layout == "official":
        folder = f"{row['domain']}_test" if year == 2021 and split == "test" else split
        return f"{row['part']}_data/raw/{row['machine']}/{folder}/{row['released']}.wav"
    stem = row["renamed"] if is_eval_test else row["released"]
    if layout == "asdkit" and year == 2020:
        label, _, section, number = stem.split("_")
        stem = f"section_{section}_source_{split}_{label}_{number}"
    return f"{'raw' if layout == 'asdkit' else 'dev_data'}/{row['machine']}/{split}/{stem}.wav"


def _expected(year: int, layout: Layout, plan: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(plan)
    frame["revealed"] = frame.true
    toys = frame.machine.isin(["ToyCar", "ToyTrain"]) & (frame.part == "eval") & (frame.split == "test")
    if year == 2022:
        frame.loc[toys, "revealed"] = None
        if layout != "official":
            frame["is_normal"] = frame.is_normal.astype(object)
            frame.loc[toys, ["is_normal", "domain"]] = None
    hidden = frame.machine.isin(HIDDEN.get(year, ())) & (frame.split != "supplemental")
    frame["attributes"] = frame.revealed.where(~hidden, None)
    columns = ["clip_id", "machine", "part", "section", "split", "domain", "is_normal", "attributes", "revealed"]
    return frame[columns].sort_values("clip_id", ignore_index=True)


def _link(wave: Path, target: Path) -> None:
    try:
        os.link(wave, target)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        # A file has only so many names (65,000 on ext4): go on with a copy of it.
        shutil.copyfile(wave, target)
        wave.unlink()
        os.link(target, wave)
