"""Manifests of one's own recordings: a folder per machine type, and a csv that people write with Excel."""

import os
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdpipe.artifacts.schemas import SCHEMAS
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.reading import read_config
from asdpipe.data import own_machines as folder
from asdpipe.errors import UserError
from tests.conftest import ROOT
from tests.own_trees import list_own


@pytest.fixture
def own(tmp_path, write_clip):
    """Two machine types, three training clips and two test clips each."""
    for machine in ("fan", "pump"):
        for name in ("train/a", "train/b", "train/c", "test/x", "test/y"):
            write_clip(tmp_path / f"own/{machine}/{name}.wav", seconds=0.1)
    return tmp_path / "own"


def table_of(root, *arguments):
    """Return the manifest as the workflow's next step reads it."""
    file = root.parent / "clips.parquet"
    write_table("clips", list_own(root, *arguments), file)
    return read_table("clips", file).set_index("clip_id")


def missing(values):
    return [None if pd.isna(value) else value for value in values]


def test_folders_say_machine_type_and_split_and_nothing_else_is_guessed(own):
    clips = table_of(own)
    assert clips.groupby(["machine", "split"]).size().to_dict() == {
        ("fan", "train"): 3,
        ("fan", "test"): 2,
        ("pump", "train"): 3,
        ("pump", "test"): 2,
    }
    assert [clips.index.name, *clips.columns] == SCHEMAS["clips"].names
    assert (clips.dataset == "own").all()
    assert (clips.part == "dev").all()
    assert (clips.section == "00").all()
    assert clips.domain.isna().all()
    assert clips.attributes.isna().all()
    assert missing(clips.is_normal) == [True if split == "train" else None for split in clips.split]
    assert clips.path["fan/train/a.wav"] == str(own / "fan/train/a.wav")
    assert (clips.num_frames == 1600).all()


@pytest.mark.parametrize("suffix", ["wav", "WAV", "flac", "ogg", "mp3"])
def test_common_formats_of_any_rate_are_found_with_their_headers(own, suffix):
    if suffix.upper() not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {suffix}")
    noise = 0.1 * np.random.default_rng(0).standard_normal((44_100, 2))
    soundfile.write(own / f"fan/train/new.{suffix}", noise, 44_100, format=suffix.upper())
    clip = table_of(own).loc[f"fan/train/new.{suffix}"]
    assert clip.sample_rate == 44_100
    # mp3 may count the encoder's padding, at most two frames of 1152 samples.
    assert 44_100 <= clip.num_frames <= 44_100 + (2304 if suffix == "mp3" else 0)


def test_names_may_have_spaces_umlauts_and_sub_folders_and_differ_in_suffix_only(own, write_clip):
    names = ["Lüfter 1/train/Montag, früh/a b.wav", "Lüfter 1/train/Montag, früh/a b.flac", "Lüfter 1/test/x/y/z.wav"]
    for name in names:
        write_clip(own / name, seconds=0.1)
    clips = table_of(own)
    assert set(names) <= set(clips.index)
    assert clips.index.is_unique
    assert set(clips.machine) == {"fan", "pump", "Lüfter 1"}


def test_hidden_files_and_folders_without_audio_are_left_out(own, write_clip):
    for name in ("fan/train/._a.wav", "fan/train/.trash/a.wav", ".cache/train/a.wav", "__MACOSX/fan/train/._a.wav"):
        write_clip(own / name, seconds=0.1)
    (own / "fan/train/notes.txt").write_text("no audio")
    (own / "plots").mkdir()
    (own / "fan/plots").mkdir()
    # Some storage systems keep previews in folders that are called like the file.
    (own / "fan/train/d.wav").mkdir()
    assert len(table_of(own)) == 10


def test_links_are_followed_but_not_in_circles(own, write_clip, tmp_path):
    write_clip(tmp_path / "elsewhere/d.wav", seconds=0.1)
    (own / "fan/train/linked").symlink_to(tmp_path / "elsewhere")
    (own / "fan/train/circle").symlink_to(own / "fan/train")
    clips = table_of(own)
    assert "fan/train/linked/d.wav" in clips.index
    assert len(clips) == 11


def test_sub_folders_of_test_label_its_clips(own, write_clip):
    expected = {"normal": True, "Anomaly": False, "abnormal": False, "anomalous": False, "1": None, "day/anomaly": None}
    for name in expected:
        write_clip(own / f"fan/test/{name}/z.wav", seconds=0.1)
    write_clip(own / "fan/test/anomaly/day/z.wav", seconds=0.1)
    write_clip(own / "fan/train/normal/z.wav", seconds=0.1)
    labels = table_of(own).is_normal
    assert {name: missing([labels[f"fan/test/{name}/z.wav"]])[0] for name in expected} == expected
    assert not labels["fan/test/anomaly/day/z.wav"]
    assert labels["fan/train/normal/z.wav"]


def test_a_data_set_without_test_clips_is_read(own):
    for clip in own.glob("*/test/*"):
        clip.unlink()
    for machine in ("fan", "pump"):
        (own / machine / "test").rmdir()
    assert set(table_of(own).split) == {"train"}


# The csv --------------------------------------------------------------------------------------------------------------


def test_the_csv_says_domain_section_attributes_and_label(own):
    (own / "clips.csv").write_text(
        "file,domain,section,attributes,label\n"
        "fan/train/a.wav,source,1,1500 rpm,normal\n"
        "fan/train/b.wav,Target,left,,\n"
        "\n"
        "fan/test/x.wav,target,01,1800 rpm,ANOMALY\n"
        "pump/test/x.wav,,,,0\n"
    )
    clips = table_of(own)
    columns = ["domain", "section", "attributes", "is_normal"]
    rows = {name: missing(clips.loc[name, columns]) for name in clips.index}
    assert rows["fan/train/a.wav"] == ["source", "01", "1500 rpm", True]
    assert rows["fan/train/b.wav"] == ["target", "left", None, True]
    assert rows["fan/test/x.wav"] == ["target", "01", "1800 rpm", False]
    assert rows["pump/test/x.wav"] == [None, "00", None, True]
    # Not in the csv: as without it.
    assert rows["fan/test/y.wav"] == [None, "00", None, None]
    assert rows["pump/train/a.wav"] == [None, "00", None, True]


@pytest.mark.parametrize(
    ("label", "is_normal"),
    [("normal", True), ("0", True), ("False", True), ("", None)]
    + [(word, False) for word in ("anomaly", "Abnormal", "anomalous", "1", "TRUE")],
)
def test_labels_are_written_in_several_ways(own, label, is_normal):
    (own / "clips.csv").write_text(f"file,label\nfan/test/x.wav,{label}\n")
    assert missing([table_of(own).is_normal["fan/test/x.wav"]]) == [is_normal]


@pytest.mark.parametrize(
    "data",
    [
        "file,attributes,label\r\nLüfter/test/x.wav,1500,anomaly\r\n".encode(),
        "\ufeffFile;Attributes;Label;\r\nLüfter\\test\\x.wav;1500;anomaly;\r\n;;;\r\n".encode(),
        "file;attributes;label\r\nLüfter/test/x.wav;1500;anomaly\r\n".encode("cp1252"),
        b"file\tattributes\tlabel\nL\xc3\xbcfter/test/x.wav\t1500\tanomaly",
        '"file", "attributes", "label"\n"./Lüfter/test/x.wav", "1500", "anomaly"\n'.encode(),
        unicodedata.normalize("NFD", "file,attributes,label\nLüfter/test/x.wav,1500,anomaly\n").encode(),
    ],
    ids=["plain", "german excel, utf-8", "german excel", "tabs", "quotes and spaces", "macOS"],
)
def test_csvs_are_read_as_spreadsheets_write_them(own, data):
    (own / "fan").rename(own / "Lüfter")
    (own / "clips.csv").write_bytes(data)
    clip = table_of(own).loc["Lüfter/test/x.wav"]
    assert (clip.attributes, clip.is_normal) == ("1500", False)


def test_files_may_be_named_below_their_machine_type(own, write_clip):
    write_clip(own / "fan/test/only_here.wav", seconds=0.1)
    (own / "clips.csv").write_text(
        "file,machine,label\ntest/only_here.wav,,normal\ntest/x.wav,pump,anomaly\nfan/test/x.wav,fan,normal\n"
    )
    labels = table_of(own).is_normal
    assert labels["fan/test/only_here.wav"]
    assert not labels["pump/test/x.wav"]
    assert labels["fan/test/x.wav"]
    (own / "clips.csv").write_text("file,label\ntest/x.wav,normal\n")
    with pytest.raises(UserError, match=r"line 2: test/x.wav may be fan/test/x.wav or pump/test/x.wav"):
        list_own(own)


def test_a_file_may_be_listed_twice_with_equal_content(own):
    (own / "clips.csv").write_text("file,label\nfan/test/x.wav,anomaly\nfan\\test\\x.wav,1\n")
    assert not table_of(own).is_normal["fan/test/x.wav"]


def test_the_csv_may_have_another_name_which_must_exist(own):
    (own / "clips.csv").write_text("nonsense that is not read\n")
    (own / "labels.csv").write_text("file,label\nfan/test/x.wav,normal\n")
    assert table_of(own, None, "labels.csv").is_normal["fan/test/x.wav"]
    with pytest.raises(UserError, match=r"none.csv: there is no such file; check datasets.NAME.table"):
        list_own(own, None, "none.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,lable\n", "line 1: unknown column 'lable'; did you mean 'label'?"),
        ("file,domain,Domain\n", "line 1: column 'domain' occurs twice"),
        ("label\nnormal\n", "line 1: the column 'file' is missing"),
        ("", "is empty; its first line names the columns: file"),
        ("file\nfan/test/none.wav\n", "line 2: fan/test/none.wav is no audio file in train/ or test/"),
        ("file\nfan/test/x\n", "line 2: fan/test/x is no audio file"),
        ("label,file\nnormal\n", "line 2: an empty name is no audio file"),
        (
            "file,machine\nfan/test/x.wav,pump\n",
            "line 2: fan/test/x.wav is no audio file in train/ or test/ of machine",
        ),
        ("file,label\n,normal\n", "line 2: an empty name is no audio file"),
        ("file,label\n\nfan/test/x.wav,ok\n", "line 3: unknown label 'ok'; write normal"),
        ("file,domain\nfan/test/x.wav,new\n", "line 2: unknown domain 'new'; write source, target"),
        ("file,section\nfan/test/x.wav,a/b\n", "line 2: section 'a/b' has a character"),
        ("file,label\nfan/train/a.wav,anomaly\n", "line 2: fan/train/a.wav: an anomaly among the training clips"),
        ("file,label\nfan/test/normal/z.wav,1\n", "line 2: fan/test/normal/z.wav: the label is 1, but its folder"),
        (
            "file,label\nfan/test/x.wav,0\nfan/test/x.wav,1\n",
            "line 3: fan/test/x.wav stands in line 2, too, and differs",
        ),
        ("file,label\nfan/test/x.wav,0,1500, rpm\n", "line 2: has 4 cells, the first line 2; put text"),
        ('file,attributes\nfan/test/x.wav,"1500\nfan/test/y.wav,1\n', "cannot be read as csv"),
    ],
)
def test_mistakes_in_the_csv_are_named_with_their_line(own, write_clip, text, words):
    write_clip(own / "fan/test/normal/z.wav", seconds=0.1)
    (own / "clips.csv").write_text(text)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        list_own(own)
    assert str(error.value).startswith(str(own / "clips.csv"))


def test_all_bad_rows_are_listed_at_once_but_not_hundreds(own):
    (own / "clips.csv").write_text("file\n" + "".join(f"fan/test/none{number}.wav\n" for number in range(12)))
    with pytest.raises(UserError) as error:
        list_own(own)
    lines = str(error.value).splitlines()
    assert [re.findall(r"line (\d+):", line) for line in lines[:10]] == [[str(number)] for number in range(2, 12)]
    assert lines[10:] == ["and 2 more"]


@pytest.mark.parametrize(
    "data", ["file\tlabel\nfan/test/x.wav\tnormal\n".encode("utf-16"), b"file,attributes\nfan/test/x.wav,\x81\n"]
)
def test_csvs_in_other_encodings_are_refused(own, data):
    (own / "clips.csv").write_bytes(data)
    with pytest.raises(UserError, match=r"clips.csv: is not a csv in UTF-8; save it as 'CSV UTF-8'"):
        list_own(own)


# Folders --------------------------------------------------------------------------------------------------------------


def test_machine_types_can_be_limited(own, write_clip):
    (own / "clips.csv").write_text("file,label\nfan/test/x.wav,normal\npump/test/x.wav,anomaly\n")
    # What is wrong with others does not matter then.
    write_clip(own / "pool/a.wav", seconds=0.1)
    write_clip(own / "pump/train/anomaly/z.wav", seconds=0.1)
    clips = table_of(own, ["fan"])
    assert set(clips.machine) == {"fan"}
    assert clips.is_normal["fan/test/x.wav"]
    assert folder.machine_folders(own, ["fan"]) == [("fan", own / "fan")]
    with pytest.raises(UserError, match="machine type valve is not there; there are: fan, pool, pump"):
        list_own(own, ["valve"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "loose.wav",
            "loose.wav: lies outside the folder of a machine type; recordings belong into MACHINE_TYPE/train/",
        ),
        ("train/a.wav", "own: train/ lies directly in it, without a machine type; recordings belong into"),
        ("valve/test/a.wav", "valve: has no train/ with recordings of normal operation"),
        ("valve/a.wav", "valve: has no train/ with recordings of normal operation"),
        ("fan/a.wav", "fan/a.wav: lies beside train/ and test/, where nothing is read"),
        ("fan/Test/day/a.wav", "fan/Test: holds recordings, but only train/ and test/ are read"),
        ("mean/train/a.wav", "mean is a row of auc.csv; rename the folder"),
        ("fan {1}/train/a.wav", "the name of a folder must not have braces"),
        ("fan\\pump/train/a.wav", "the name of a folder must not have braces, backslashes"),
        ("fan /train/a.wav", "or spaces at its ends"),
        ("fan/train/day {1}/a.wav", "fan/train/day {1}': the name of a folder must not have braces"),
    ],
)
def test_misplaced_recordings_and_unusable_names_stop_before_any_work(own, write_clip, name, words):
    write_clip(own / name, seconds=0.1)
    for read in (folder.machine_folders, lambda root: folder.clip_folders(root, "train"), list_own):
        with pytest.raises(UserError, match=re.escape(words)):
            read(own)


def test_missing_and_empty_folders_are_named(own):
    with pytest.raises(UserError, match="none: there is no such folder; check the root"):
        folder.machine_folders(own / "none")
    with pytest.raises(UserError, match="plots: holds no machine type; recordings belong into"):
        (own / "plots").mkdir()
        folder.machine_folders(own / "plots")
    (own / "valve/train").mkdir(parents=True)
    (own / "valve/train/a.m4a").touch()
    with pytest.raises(UserError, match=r"valve/train: holds no audio file \(.flac, .mp3, .ogg, .wav\)"):
        list_own(own)


def test_anomalies_in_a_training_folder_are_refused(own, write_clip):
    write_clip(own / "fan/train/Anomaly/z.wav", seconds=0.1)
    with pytest.raises(
        UserError, match=r"z.wav: an anomaly among the training clips; training takes normal clips only"
    ):
        list_own(own)


def test_file_names_that_are_not_text_are_refused(own, write_clip):
    name = os.fsencode(own / "fan/train/L") + b"\xfcfter.wav"
    try:
        os.link(os.fsencode(own / "fan/train/a.wav"), name)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    with pytest.raises(UserError, match=r"'fan/train/L\\udcfcfter.wav' is not UTF-8; rename the file"):
        list_own(own)


def watched(own, split):
    """Return what the workflow compares before it lists a split anew: modification times, and what the csv says."""
    times = {path: Path(path).stat().st_mtime_ns for path in folder.clip_folders(own, split)}
    return times, folder.facts(own, split)


CHANGES = {
    "added": ("train", lambda own: (own / "fan/train/d.wav").touch()),
    "added below": ("train", lambda own: (own / "fan/train/day/night/d.wav").touch()),
    "sub-folder": ("train", lambda own: (own / "fan/train/more").mkdir()),
    "machine type": ("train", lambda own: (own / "valve/train").mkdir(parents=True)),
    "row": ("train", lambda own: (own / "clips.csv").write_text(f"{CSV}fan/train/a.wav,,target\n")),
    "test clip removed": ("test", lambda own: (own / "pump/test/x.wav").unlink()),
    "test clip added": ("test", lambda own: (own / "pump/test/day/z.wav").touch()),
    "test clip relabelled": ("test", lambda own: (own / "clips.csv").write_text(CSV.replace("normal", "anomaly"))),
    "row of a test clip": ("test", lambda own: (own / "clips.csv").write_text(f"{CSV}test\\y.wav,pump,,1\n")),
}
CSV = "file,machine,domain,label\ntrain/b.wav,fan,source\nfan/test/x.wav,,,normal\n"


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_shows_in_what_the_workflow_watches_of_its_split_and_in_no_other(own, name):
    for place in ("fan/train/day/night", "pump/test/day"):
        (own / place).mkdir(parents=True)
    (own / "clips.csv").write_text(CSV)
    changed, change = CHANGES[name]
    # Older than any clock tick that the change may fall into.
    for path in own.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    before = {split: (watched(own, split), folder.list_clips(own, "own", split)) for split in ("train", "test")}
    change(own)
    other = "train" if changed == "test" else "test"
    assert watched(own, changed) != before[changed][0]
    assert watched(own, other) == before[other][0]
    if name != "machine type":
        pd.testing.assert_frame_equal(folder.list_clips(own, "own", other), before[other][1])


def test_a_csv_of_equal_content_says_the_same(own):
    (own / "clips.csv").write_text(CSV)
    facts = {split: folder.facts(own, split) for split in ("train", "test")}
    assert len(set(facts.values()) - {""}) == 2
    lines = CSV.splitlines()
    (own / "clips.csv").write_bytes("\r\n".join([lines[0], lines[2], lines[1]]).replace(",", ";").encode("utf-8-sig"))
    assert {split: folder.facts(own, split) for split in facts} == facts
    (own / "clips.csv").unlink()
    assert folder.facts(own, "train") == ""


def test_rows_that_name_no_split_concern_both(own):
    (own / "clips.csv").write_text("file\nfan/Test/x.wav\n")
    assert folder.facts(own, "train") == folder.facts(own, "test") != ""
    for split in ("train", "test"):
        with pytest.raises(UserError, match=r"line 2: fan/Test/x.wav is no audio file"):
            folder.list_clips(own, "own", split)


def test_a_bad_row_of_a_test_clip_does_not_stop_the_listing_of_training_clips(own):
    (own / "clips.csv").write_text("file,label\nfan/test/x.wav,maybe\n")
    assert len(folder.list_clips(own, "own", "train")) == 6
    with pytest.raises(UserError, match="line 2: unknown label 'maybe'"):
        folder.list_clips(own, "own", "test")


def test_a_machine_type_may_be_called_test(own, write_clip):
    write_clip(own / "test/train/a.wav", seconds=0.1)
    (own / "clips.csv").write_text("file,machine,section\ntest/train/a.wav,,7\ntest/x.wav,fan,8\n")
    sections = table_of(own).section
    assert (sections["test/train/a.wav"], sections["fan/test/x.wav"]) == ("07", "08")


def test_the_workflow_watches_only_what_is_chosen(own):
    assert folder.clip_folders(own, "train", ["fan"]) == [str(own / "fan/train")]
    assert folder.clip_folders(own, "test", ["fan"]) == [str(own / "fan/test")]
    assert folder.clip_folders(own, "supplemental") == []
    shutil.rmtree(own / "pump/test")
    shutil.rmtree(own / "fan/test")
    assert folder.clip_folders(own, "test") == []
    assert folder.list_clips(own, "own", "test").empty


# What is not read -----------------------------------------------------------------------------------------------------


def test_files_that_are_not_read_are_counted_by_ending(own, caplog):
    for name in ("train/d.m4a", "train/day/e.M4A", "train/f.aiff", "test/g.opus", "train/.hidden.m4a", "train/README"):
        (own / "fan" / name).parent.mkdir(exist_ok=True)
        (own / "fan" / name).touch()
    folder.list_clips(own, "own", "train")
    (message,) = caplog.messages
    counts = "2 .m4a, 1 without an ending, 1 .aiff"
    assert f"train files that are not read: {counts}, such as {own / 'fan/train/d.m4a'};" in message
    assert ".flac, .mp3, .ogg, .wav" in message
    caplog.clear()
    folder.list_clips(own, "own", "test")
    assert "test files that are not read: 1 .opus, such as" in caplog.text
    caplog.clear()
    folder.list_clips(own, "own", "train", ["pump"])
    assert not caplog.messages


def test_a_folder_of_other_formats_only_names_them(own):
    for clip in (own / "fan/train").iterdir():
        clip.rename(clip.with_suffix(".wma"))
    with pytest.raises(UserError, match=r"fan/train: holds no audio file.*not read: 3 .wma, such as .*a.wma"):
        folder.list_clips(own, "own", "train")


def test_names_of_dcase_get_a_hint(own, write_clip, caplog):
    folder.list_clips(own, "own", "train")
    assert not caplog.messages
    for number in range(7):
        write_clip(own / f"fan/train/section_00_source_train_normal_{number:04d}_vel_8.wav", seconds=0.1)
    folder.list_clips(own, "own", "train")
    assert "7 of 13 files are named as in DCASE (section_00_source_train_normal_0000_vel_8.wav)" in caplog.text
    assert "format: dcase reads domains, sections and labels" in caplog.text
    caplog.clear()
    # Whoever has a csv knows.
    (own / "clips.csv").write_text("file\n")
    folder.list_clips(own, "own", "train")
    assert not caplog.messages


# The config to copy ---------------------------------------------------------------------------------------------------


def test_the_config_to_copy_is_valid():
    config = read_config([ROOT / "config/own.yaml"], {"data_root": "x"})
    dataset = config.resolve_dataset(config.dataset)
    assert (dataset.format, dataset.root, dataset.pool) == ("folder", "x/machines", None)
    assert len(config.seeds) == 3
    for pool in config.pools:
        # A pool of one's own is small: one job packs it.
        assert config.resolve_pool(pool).shards == 1
        assert config.resolve_pool(pool).root.startswith("x/")


def test_its_variant_for_one_machine_type_is_valid(tmp_path):
    text = (ROOT / "config/own.yaml").read_text()
    text, swapped = re.subn(r"^external:.*\n", "", text, flags=re.M)
    text, uncommented = re.subn(r"^# (external: \{)", r"\1", text, flags=re.M)
    text, named = re.subn("pool: null", "pool: sounds", text)
    assert (swapped, uncommented, named) == (1, 1, 1)
    (tmp_path / "one.yaml").write_text(text)
    config = read_config([tmp_path / "one.yaml"], {"data_root": "x"})
    method = config.resolve_method(config.method)
    assert (method.external.first_stage, method.external.n_max) == ("random", "auto")
    # Its stage 1 is its own: that of ba_trp has no external clips.
    assert config.owner_of_first_model(config.method) == config.method
