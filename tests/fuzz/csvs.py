"""Lists that people and other programs write: csvs of clips, labels and ground truth, pools in parquet, zips."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from asdpipe.artifacts.files import write_csv
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.data.decoding import decoded
from asdpipe.data.download.unpack import unpack
from asdpipe.data.pools import audioset
from asdpipe.data.pools import labelled_files as labelled_folder
from asdpipe.data.reading import BadClip, read_clip
from asdpipe.data.sources import sources
from asdpipe.method.metrics import METRICS
from asdpipe.paper.results import comparison, over_seeds, read_auc
from tests.dcase_trees import list_all
from tests.fuzz import mutations
from tests.fuzz.harness import Case
from tests.own_trees import list_own

Rng = np.random.Generator
CELLS = (
    *(
        "",
        " ",
        '"',
        "'",
        ",",
        ";",
        "\t",
        "\0",
        "\r",
        "\n",
        '"\n"',
        "nan",
        "inf",
        "-1",
        "1e999",
        "0x1",
        "#",
        "ü",
        "=1+1",
    ),
    *(
        "x" * 200_000,
        "../../x",
        "/etc/passwd",
        "-x",
        "section_00_0000.wav",
        "train",
        "anomaly",
        "mean",
        "\ufeff",
        "\x1b[31m",
    ),
)


def cases(seed: int, first: int, last: int, place: Path) -> Iterator[Case]:
    """Yield lists of every kind in turn."""
    kinds = list(KINDS)
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        kind = kinds[number % len(kinds)]
        file, run = KINDS[kind](place / kind)
        whole = file.read_bytes()
        if file.suffix == ".csv" and rng.random() < 0.6:
            how, data = "cells", _cells(whole, rng)
        else:
            mutation = rng.choice([*mutations.ANYWHERE, mutations.flip_tail])
            how, data = mutation.__name__, mutation(whole, rng)
        file.write_bytes(data)
        # The message may name what the list does not fit: the file beside it, or the folder.
        yield Case(f"{number:04d}_{kind}_{how}", run, (file.name, str(place / kind)))
        file.write_bytes(whole)


def _cells(data: bytes, rng: Rng) -> bytes:
    """Lose, repeat, swap and rewrite cells and lines."""
    lines = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(rng.integers(1, 5)):
        row = int(rng.integers(len(lines)))
        column = int(rng.integers(len(lines[row])))
        change = rng.integers(6)
        if change == 0:
            lines[row][column] = CELLS[rng.integers(len(CELLS))]
        elif change == 1:
            del lines[row][column]
            lines[row] = lines[row] or [""]
        elif change == 2:
            lines.insert(row, lines[int(rng.integers(len(lines)))])
        elif change == 3:
            lines[row] = lines[row][::-1]
        elif change == 4:
            lines[row].insert(column, CELLS[rng.integers(len(CELLS))])
        elif len(lines) > 1:
            del lines[row]
    return "\n".join(",".join(line) for line in lines).encode()


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


Made = tuple[Path, Callable[[], str]]


def _clips(root: Path) -> Made:
    _touch(root, *(f"{machine}/{name}.wav" for machine in ("fan", "pump") for name in ("train/a", "train/b", "test/x")))
    file = root / "clips.csv"
    file.write_text(
        "file,machine,domain,section,attributes,label\nfan/train/a.wav,fan,source,1,1500 rpm,normal\n"
        "test/x.wav,pump,target,left,,anomaly\nfan/test/x.wav,,,,,0\npump/train/b.wav,,target,,,\n"
    )
    return file, lambda: _manifest(list_own(root), root)


def _labels(root: Path) -> Made:
    _touch(root, "a/dog.wav", "a/cat.wav", "b/cat.wav", "b/rain.flac")
    file = root / "labels.csv"
    file.write_text('file,label,fold\ndog,Dog;Bark,1\nb/cat.wav,"Cat, Meow",1\nrain.flac,Rain,2\n')
    return file, lambda: _pool(labelled_folder.list_clips(root, "p", 2), root)


def _audioset(root: Path) -> None:
    _touch(root, *(f"audios/x/Y{number:011d}.wav" for number in range(4)))
    (root / "metadata").mkdir(exist_ok=True)
    rows = "".join(f'{number:011d}, 0.000, 10.000, "/m/1,/m/2"\n' for number in range(5))
    (root / "metadata/a_segments.csv").write_text("# comment\n" + rows)
    (root / "metadata/class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/1,"Dog, bark"\n1,/m/2,Cat\n')


def _segments(root: Path) -> Made:
    _audioset(root)
    return root / "metadata/a_segments.csv", lambda: _pool(audioset.list_clips(root, "p", 2), root)


def _names(root: Path) -> Made:
    _audioset(root)
    return root / "metadata/class_labels_indices.csv", lambda: _pool(audioset.list_clips(root, "p", 2), root)


def _ontology(root: Path) -> Made:
    _audioset(root)
    (root / "metadata/class_labels_indices.csv").unlink()
    file = root / "metadata/ontology.json"
    file.write_text(json.dumps([{"id": "/m/1", "name": "Dog"}, {"id": "/m/2", "name": "Cat", "child_ids": []}]))
    return file, lambda: _pool(audioset.list_clips(root, "p", 2), root)


def _parquet(root: Path) -> Made:
    (root / "data").mkdir(parents=True, exist_ok=True)
    file = root / "data/00.parquet"
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(6):
        buffer = io.BytesIO()
        soundfile.write(buffer, 0.1 * rng.standard_normal(2000), 16_000, format="FLAC")
        contents.append({"bytes": buffer.getvalue(), "path": None})
    audio = pa.array(contents, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    labels = [["/m/1"], ["/m/2", "/m/1"], ["/m/1"]] * 2
    table = pa.table({"video_id": [f"clip{row}" for row in range(6)], "audio": audio, "labels": labels})
    pq.write_table(
        table.append_column("human_labels", pa.array([["A"], ["B", "A"], ["A"]] * 2)), file, row_group_size=2
    )

    def run() -> str:
        clips, lost = audioset.list_clips(root, "p", 1)
        ended = _pool((clips, lost), root)
        results = list(decoded(sources(read_table("pool_clips", root / "pool.out")), read_clip))
        assert len(results) == len(clips)
        bad = [each for each in results if isinstance(each.samples, BadClip)]
        return "skip" if bad or len(lost) else ended

    return file, run


def _dcase(root: Path) -> None:
    for machine in ("fan", "gearbox"):
        for domain in ("source", "target"):
            _touch(root, f"dev_data/{machine}/train/section_00_{domain}_train_normal_0000_a_1.wav")
            for number, label in enumerate(("normal", "anomaly")):
                _touch(root, f"dev_data/{machine}/test/section_00_{domain}_test_{label}_{number:04d}_a_1.wav")


def _attributes(root: Path) -> Made:
    _dcase(root)
    file = root / "dev_data/fan/attributes_00.csv"
    file.write_text(
        "file_name,d1p,d1v\nfan/train/section_00_source_train_normal_0000_a_1.wav,m-n,W\n"
        "fan/test/section_00_target_test_anomaly_0001_a_1.wav,m-n,X\n"
    )
    return file, lambda: _manifest(list_all(root, "d", year=2023, check_counts=False), root)


def _evaluation(root: Path, year: int) -> None:
    machine = {2020: "fan", 2023: "bandsaw", 2025: "AutoTrash"}[year]
    name = "id_01_{:08d}" if year == 2020 else "section_00_{:04d}"
    train = "normal_id_01_00000000" if year == 2020 else "section_00_source_train_normal_0000_noAttribute"
    _touch(root, f"eval_data/{machine}/train/{train}.wav", f"dev_data/fan/train/{_DEV[year == 2020]}.wav")
    _touch(root, *(f"eval_data/{machine}/test/{name.format(number)}.wav" for number in range(4)))
    (root / "ground_truth").mkdir(exist_ok=True)


_DEV = ("section_00_source_train_normal_0000_a_1", "normal_id_00_00000000")


def _truth(root: Path, year: int) -> Callable[[], str]:
    return lambda: _manifest(list_all(root, "d", year=year, check_counts=False), root)


def _list_2020(root: Path) -> Made:
    _evaluation(root, 2020)
    file = root / "ground_truth/eval_data_list.csv"
    rows = "".join(f"id_01_{number:08d}.wav,normal_id_01_{number:08d}.wav,{number % 2}\n" for number in range(4))
    file.write_text("fan\n" + rows)
    return file, _truth(root, 2020)


def _list_2025(root: Path) -> Made:
    _evaluation(root, 2025)
    file = root / "ground_truth/eval_data_list_2025.csv"
    full = "section_00_{}_test_{}_{:04d}_x_1.wav"
    rows = [
        f"section_00_{number:04d}.wav,{full.format(('source', 'target')[number % 2], label, number)}\n"
        for number, label in enumerate(("normal", "anomaly", "normal", "anomaly"))
    ]
    file.write_text("AutoTrash\n" + "".join(rows))
    return file, _truth(root, 2025)


def _truth_2023(root: Path) -> Made:
    _evaluation(root, 2023)
    for kind, flags in (("data", (0, 1, 0, 1)), ("domain", (0, 0, 1, 1))):
        file = root / f"ground_truth/ground_truth_{kind}/ground_truth_bandsaw_section_00_test.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"section_00_{number:04d}.wav,{flag}\n" for number, flag in enumerate(flags)))
    return file, _truth(root, 2023)


def _auc(root: Path) -> Made:
    root.mkdir(parents=True, exist_ok=True)
    rows = [
        ("d", "m", 1, "dev", machine, "00", 0, *range(50, 50 + len(METRICS))) for machine in ("fan", "mean", "hmean")
    ]
    file = root / "auc.csv"
    columns = ["dataset", "method", "stage", "split", "machine", "section", "seed", *METRICS]
    write_csv(pd.DataFrame(rows, columns=columns), file)

    def run() -> str:
        write_csv(over_seeds([read_auc(file)]), root / "out.csv")
        comparison([file])
        return "success"

    return file, run


def _zip(root: Path) -> Made:
    root.mkdir(parents=True, exist_ok=True)
    file = root / "dev_fan.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            info = zipfile.ZipInfo(f"fan/train/section_00_{number}.wav")
            archive.writestr(info, np.random.default_rng(number).bytes(500), zipfile.ZIP_DEFLATED)

    def run() -> str:
        unpack(file, root / "raw", "fan")
        assert {each.name for each in (root / "raw").iterdir()} == {"fan"}
        return "success"

    return file, run


def _manifest(frame: pd.DataFrame, root: Path) -> str:
    write_table("clips", frame, root / "manifest.out")
    read_table("clips", root / "manifest.out")
    return "success"


def _pool(listed: tuple[pa.Table, pd.DataFrame], root: Path) -> str:
    clips, lost = listed
    write_table("pool_clips", clips, root / "pool.out", groups="shard")
    write_csv(lost, root / "lost.csv")
    read_table("pool_clips", root / "pool.out")
    return "skip" if len(lost) else "success"


KINDS: dict[str, Callable[[Path], Made]] = {
    "clips": _clips,
    "labels": _labels,
    "segments": _segments,
    "names": _names,
    "ontology": _ontology,
    "parquet": _parquet,
    "attributes": _attributes,
    "list_2020": _list_2020,
    "list_2025": _list_2025,
    "truth_2023": _truth_2023,
    "auc": _auc,
    "zip": _zip,
}
