"""Where DCASE Task 2 (2020-2025) was published: archives on Zenodo, ground truth on Zenodo and GitHub."""

from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

from asdpipe.data.dcase.years import YEARS, Part


class Archive(NamedTuple):
    """A zip on Zenodo with recordings of one machine type."""

    record: int
    name: str
    md5: str | None
    """Published MD5, if there is one."""
    machine: str
    part: Part
    folders: tuple[str, ...]
    """Its folders with clips, below that of the machine type."""

    @property
    def url_path(self) -> str:
        """Path of its URL on Zenodo."""
        return f"/records/{self.record}/files/{self.name}"


class TruthFile(NamedTuple):
    """A csv with ground truth, published after the challenge."""

    base: Literal["zenodo", "github"]
    url_path: str
    path: str
    """Path below the folder of the ground truth: that in the repository, without datasets/."""


class _Pack(NamedTuple):
    """A Zenodo record and the pattern of its archives' names."""

    record: int
    name: str


# Development set; training clips of the evaluation set ("additional training"); test clips of the evaluation set.
_PACKS: dict[int, tuple[_Pack, _Pack, _Pack]] = {
    2020: (
        _Pack(3678171, "dev_data_{}.zip"),
        _Pack(3727685, "eval_data_train_{}.zip"),
        _Pack(3841772, "eval_data_test_{}.zip"),
    ),
    2021: (
        _Pack(4562016, "dev_data_{}.zip"),
        _Pack(4660992, "eval_data_{}_train.zip"),
        _Pack(4884786, "eval_data_{}_test.zip"),
    ),
    2022: (
        _Pack(6355122, "dev_{}.zip"),
        _Pack(6462969, "eval_data_{}_train.zip"),
        _Pack(6586456, "eval_data_{}_test.zip"),
    ),
    # Not 7690148 and 7690157, which have older, faulty recordings of the development set.
    2023: (
        _Pack(7882613, "dev_{}.zip"),
        _Pack(7830345, "eval_data_{}_train.zip"),
        _Pack(7860847, "eval_data_{}_test.zip"),
    ),
    # 11259435 replaced 11183284, in which the two archives of _REPLACED were wrong.
    2024: (
        _Pack(10902294, "dev_{}.zip"),
        _Pack(11259435, "eval_data_{}_train.zip"),
        _Pack(11363076, "eval_data_{}_test.zip"),
    ),
    2025: (
        _Pack(15097779, "dev_{}.zip"),
        _Pack(15392814, "eval_data_{}_train.zip"),
        _Pack(15519362, "eval_data_{}_test.zip"),
    ),
}
_REPLACED = {
    (2024, "eval_data_3DPrinter_train.zip"): "eval_data_3DPrinter_train_r2.zip",
    (2024, "eval_data_RoboticArm_train.zip"): "eval_data_RoboticArm_train_r2.zip",
}

# Of the other years none were published.
_MD5 = {
    (3678171, "dev_data_fan.zip"): "649bdfc06263ae7a838963f43b6641e6",
    (3678171, "dev_data_pump.zip"): "90e7091ef722b7238a7f1009365779cd",
    (3678171, "dev_data_slider.zip"): "da24a757719f0d94d5aa2d646bbfdc86",
    (3678171, "dev_data_ToyCar.zip"): "4dec75ca8d9f666aa9e4c1894a740501",
    (3678171, "dev_data_ToyConveyor.zip"): "03b6aa1bfd09a39d53af0ba39f71fa91",
    (3678171, "dev_data_valve.zip"): "34d2672f55bb041589ef79c10dc89934",
    (3727685, "eval_data_train_fan.zip"): "567798854130c8019df8b664c095ed1e",
    (3727685, "eval_data_train_pump.zip"): "4e33ae9c0db5cc88437675f5e317caee",
    (3727685, "eval_data_train_slider.zip"): "f84f186f4295fc23754abcdd1b0580a7",
    (3727685, "eval_data_train_ToyCar.zip"): "a5d4ccd498af70b04dd74b644b820006",
    (3727685, "eval_data_train_ToyConveyor.zip"): "0e808ac0b761e9fb13d5e0c65caff00d",
    (3727685, "eval_data_train_valve.zip"): "057cdd560caffb8305449541afd28c6d",
    (3841772, "eval_data_test_fan.zip"): "1eb9356a768cadfd0f2e59a5c57e578b",
    (3841772, "eval_data_test_pump.zip"): "23a8f8f924be218c69df67fe07360348",
    (3841772, "eval_data_test_slider.zip"): "0193c769073840332ce3aad84b1ccaa2",
    (3841772, "eval_data_test_ToyCar.zip"): "bea2bdd612f616be8f2b8eb087b32c7c",
    (3841772, "eval_data_test_ToyConveyor.zip"): "ccfcc9847c7d3404d7ee9d6d9e0b2ba2",
    (3841772, "eval_data_test_valve.zip"): "f69c551d2088691050d20cccca9d631c",
    (7882613, "dev_bearing.zip"): "8a813bc8d8f156b5395bfccdfac7673c",
    (7882613, "dev_fan.zip"): "9348591e96fb0ad499a1e33b082562fc",
    (7882613, "dev_gearbox.zip"): "b6e55f6a31faa0fc8569ec0afdd53ccf",
    (7882613, "dev_slider.zip"): "b3f8dee36b4718c36d659a4fd1c4afe0",
    (7882613, "dev_ToyCar.zip"): "4e3bf15f4101ed4ed4f1fecde2e2b2a3",
    (7882613, "dev_ToyTrain.zip"): "6b02a6c65eebb3b8b1ae59a6b25bb897",
    (7882613, "dev_valve.zip"): "b2051a2022eadb53cd97581120811cae",
    (7830345, "eval_data_bandsaw_train.zip"): "9274dfe63de028743823f1123f8b4b47",
    (7830345, "eval_data_grinder_train.zip"): "17569c1f9df23621a0dbabc430684a35",
    (7830345, "eval_data_shaker_train.zip"): "35f821b5645b731fb5a1750e33b95fc3",
    (7830345, "eval_data_ToyDrone_train.zip"): "7fea367d1384a1521ae24f72203238de",
    (7830345, "eval_data_ToyNscale_train.zip"): "9332822f3e47afd984c01f2ecb5ca3af",
    (7830345, "eval_data_ToyTank_train.zip"): "b1fd3ab7de7561290df2d477de1c9d33",
    (7830345, "eval_data_Vacuum_train.zip"): "1c8de33d9a8c7850a1f7aaddb97d87be",
    (7860847, "eval_data_bandsaw_test.zip"): "2a8e8f39f6584ab366a8f4da52d4d7a6",
    (7860847, "eval_data_grinder_test.zip"): "631b3e1608b6077772829a6e68c82c77",
    (7860847, "eval_data_shaker_test.zip"): "ba98c98caa96051ec80e24e44b8fca56",
    (7860847, "eval_data_ToyDrone_test.zip"): "fdae7b8d1f4cadb2bea88bc93e2367db",
    (7860847, "eval_data_ToyNscale_test.zip"): "62f5f5043d8fb3a305b1c2e1025872de",
    (7860847, "eval_data_ToyTank_test.zip"): "f5639bf58c47169c622751f19c6fc321",
    (7860847, "eval_data_Vacuum_test.zip"): "a32524fd8c45b574a560685b38acc4e1",
}

_REPOSITORIES = {
    2021: "y-kawagu/dcase2021_task2_evaluator/0c11634ba7259e4ae4a655646aebd6cd056cc523",
    2022: "Kota-Dohi/dcase2022_evaluator/de8719b7d35280ff3a39487c9d1003413eef7818",
    2023: "nttcslab/dcase2023_task2_evaluator/c850537ff8e3b81ab09d90041279dbf86811738b",
    2024: "nttcslab/dcase2024_task2_evaluator/b5d17f63769bf4372a5412a7ede1f814c9590047",
    2025: "nttcslab/dcase2023_task2_baseline_ae/70569b81868233adb8a9320af3dbfd339811c9ee",
}
# The attributes of these two contradict the labels and domains, which are what was scored.
_CONTRADICTORY_2022 = frozenset({"ToyCar", "ToyTrain"})
# Machine types and splits whose hidden attributes were published after the challenge.
_BOTH = ("train", "test")
_REVEALED: dict[tuple[int, Part], tuple[str, dict[str, tuple[str, ...]]]] = {
    (2024, "dev"): ("ground_truth_attributes_all/dev_data", dict.fromkeys(("ToyTrain", "gearbox", "slider"), _BOTH)),
    (2024, "eval"): (
        "ground_truth_attributes_all/eval_data",
        dict.fromkeys(("AirCompressor", "HoveringDrone", "ToothBrush"), _BOTH) | {"BrushlessMotor": ("train",)},
    ),
    (2025, "dev"): (
        "datasets/ground_truth_attributes/dcase2025t2/dev_data",
        dict.fromkeys(("ToyTrain", "bearing", "slider"), _BOTH),
    ),
    (2025, "eval"): (
        "datasets/ground_truth_attributes/dcase2025t2/eval_data",
        dict.fromkeys(("AutoTrash", "Polisher", "ScrewFeeder", "ToyPet"), _BOTH),
    ),
}


def archives(year: int, parts: Collection[Part], machines: Collection[str] | None = None) -> list[Archive]:
    """Return the archives of a year, of these machine types or (None) of all."""
    dev, train, test = _PACKS[year]
    # In 2021 each domain has a folder of its own.
    tests = ("source_test", "target_test") if year == 2021 else ("test",)
    found = [
        _archive(year, dev, machine, "dev", ("train", *tests)) for machine in _machines(year, "dev", parts, machines)
    ]
    for machine in _machines(year, "eval", parts, machines):
        found += [
            _archive(year, train, machine, "eval", ("train",)),
            _archive(year, test, machine, "eval", tests),
        ]
    return found


def ground_truth_files(
    year: int, machines: Collection[str] | None, parts: Collection[Part], revealed: bool
) -> list[TruthFile]:
    """Return the files with labels, domains and attributes that file names do not tell.

    Args:
        revealed: also attributes of both sets that were hidden in the challenge (2024, 2025).
    """
    if year == 2020:
        if not _machines(year, "eval", parts, machines):
            return []
        # The year is added to its name, as in the lists of later years.
        return [TruthFile("zenodo", "/records/3951620/files/eval_data_list.csv", "eval_data_list_2020.csv")]
    repository = _REPOSITORIES[year]
    paths = list(_labels(year, _machines(year, "eval", parts, machines)))
    if revealed:
        paths += _hidden(year, parts, machines)
    return [TruthFile("github", f"/{repository}/{path}", path.removeprefix("datasets/")) for path in paths]


def _machines(year: int, part: Part, parts: Collection[Part], machines: Collection[str] | None) -> list[str]:
    """Return the machine types of a part that are asked for."""
    if part not in parts:
        return []
    return [machine for machine in YEARS[year].part(part) if machines is None or machine in machines]


def _archive(year: int, pack: _Pack, machine: str, part: Part, folders: tuple[str, ...]) -> Archive:
    name = pack.name.format(machine)
    name = _REPLACED.get((year, name), name)
    return Archive(pack.record, name, _MD5.get((pack.record, name)), machine, part, folders)


def _labels(year: int, machines: Collection[str]) -> Iterator[str]:
    """Yield the files with labels, domains and attributes of the evaluation set's test clips."""
    if year == 2025:
        if machines:
            yield "datasets/eval_data_list_2025.csv"
        return
    for machine in machines:
        for section in YEARS[year].eval[machine]:
            stem = f"ground_truth_{machine}_section_{section}"
            if year == 2021:
                yield from (f"ground_truth_data/{stem}_{domain}_test.csv" for domain in ("source", "target"))
                continue
            yield f"ground_truth_data/{stem}_test.csv"
            yield f"ground_truth_domain/{stem}_test.csv"
            if year >= 2023:
                yield f"ground_truth_attributes/{stem}_test.csv"
            elif machine not in _CONTRADICTORY_2022:
                yield f"ground_truth_attributes/{machine}/attributes_{section}.csv"


def _hidden(year: int, parts: Collection[Part], machines: Collection[str] | None) -> Iterator[str]:
    """Yield the files with attributes that were hidden in the challenge."""
    for part in ("dev", "eval"):
        folder, splits = _REVEALED.get((year, part), ("", {}))
        for machine in _machines(year, part, parts, machines):
            for split in splits.get(machine, ()):
                yield f"{folder}/{machine}/attributes_00_{split}_correspondence.csv"
