"""Names of DCASE clips: real examples of each year, and what does not fit."""

from pathlib import Path

import pytest

from asdpipe.data.dcase.names import bare_stem, parse_clip, parse_name
from asdpipe.errors import UserError


@pytest.mark.parametrize(
    ("year", "stem", "section", "domain", "split", "is_normal", "attributes"),
    [
        (2020, "normal_id_01_00000000", "01", None, None, True, None),
        (2020, "anomaly_id_01_00000263", "01", None, None, False, None),
        (2020, "id_05_00000000", "05", None, None, None, None),
        # ASDKit's new names invent a domain.
        (2020, "section_00_source_train_normal_00000001", "00", None, "train", True, None),
        (2020, "section_05_source_test_anomaly_00000012", "05", None, "test", False, None),
        (
            2021,
            "section_05_target_train_normal_0002_pattern_00_air_pump_comb",
            *("05", "target", "train", True, "pattern_00_air_pump_comb"),
        ),
        (2021, "section_02_target_test_anomaly_0099", "02", "target", "test", False, None),
        (2021, "section_03_source_test_0000", "03", "source", "test", None, None),
        (
            2022,
            "section_05_target_train_normal_0009_v1pat_05_v2pat_05",
            *("05", "target", "train", True, "v1pat_05_v2pat_05"),
        ),
        (2022, "section_00_source_test_normal_0000_m-n_W", "00", "source", "test", True, "m-n_W"),
        (2022, "section_03_0000", "03", None, None, None, None),
        # The README's form of the same.
        (2022, "section_03_test_0000", "03", None, "test", None, None),
        (2023, "section_00_0199", "00", None, None, None, None),
        (2023, "section_00_source_train_normal_0853_vel_500_ac_0.30", "00", "source", "train", True, "vel_500_ac_0.30"),
        (2024, "section_00_source_test_anomaly_0001_noAttribute", "00", "source", "test", False, None),
        (2024, "section_00_source_normal_0035_weight15_BckgF", "00", "source", None, True, "weight15_BckgF"),
        (2024, "section_00_source_train_normal_0001_ac_0.03_", "00", "source", "train", True, "ac_0.03"),
        (
            2025,
            "section_00_source_test_anomaly_1490_mic_imp23absu_mic_pos_A_grind_100_bkg_B",
            *("00", "source", "test", False, "mic_imp23absu_mic_pos_A_grind_100_bkg_B"),
        ),
    ],
)
def test_real_names_say_what_they_say(year, stem, section, domain, split, is_normal, attributes):
    name = parse_name(stem, year)
    assert name is not None
    assert (name.section, name.domain, name.split, name.is_normal, name.attributes) == (
        *(section, domain, split, is_normal),
        attributes,
    )


@pytest.mark.parametrize(
    ("year", "stem"),
    [
        (2020, "section_03_0000"),
        (2021, "normal_id_01_00000000"),
        (2023, "id_01_00000000"),
        (2023, "section_0_source_train_normal_0000"),
        (2023, "section_00_source_0000"),
        (2023, "section_00_0000_vel_8"),
        (2023, "section_00_both_train_normal_0000"),
        (2023, "noise"),
    ],
)
def test_names_of_other_years_do_not_fit(year, stem):
    assert parse_name(stem, year) is None
    with pytest.raises(UserError, match=rf"test/{stem}.wav: the name does not follow DCASE's pattern"):
        parse_clip(Path(f"fan/test/{stem}.wav"), "fan", "dev", year)


def test_without_a_year_all_forms_are_read():
    assert parse_name("id_01_00000000") is not None
    assert parse_name("section_00_0000") is not None
    assert parse_name("section_00_source_train_normal_0000") is not None


@pytest.mark.parametrize(
    ("stem", "domain", "attributes"),
    [
        ("section_00_noise_supplemental_normal_0000", None, "noise"),
        ("section_00_source_supplemental_machine_0000", "source", "machine"),
        ("section_00_machine_0001_", None, "machine"),
        ("section_00_noise_0001_", None, "noise"),
        ("section_00_machine_source_0000_noAttribute", "source", "machine"),
    ],
)
def test_supplemental_clips_have_no_label(stem, domain, attributes):
    clip = parse_clip(Path(f"bearing/supplemental/{stem}.wav"), "bearing", "dev", 2025)
    assert (clip.split, clip.section, clip.is_normal) == ("supplemental", "00", None)
    assert (clip.domain, clip.attributes) == (domain, attributes)


def test_train_folders_take_no_unlabelled_clips_and_supplemental_folders_no_others():
    for place in ("train/section_00_0000", "train/id_01_00000000", "supplemental/clip_1"):
        with pytest.raises(UserError, match="does not follow DCASE's pattern"):
            parse_clip(Path(f"fan/{place}.wav"), "fan", "dev")


def test_names_and_folders_must_agree():
    for place, words in {
        "train/section_00_source_test_normal_0000": "the name says test, the folder says train",
        "test/section_00_source_train_normal_0000": "the name says train, the folder says test",
        "source_test/section_00_target_test_normal_0000": "the name says domain target, the folder says source_test",
        "train/section_00_source_train_anomaly_0000": "an anomaly among the training clips",
        "train/anomaly_id_00_00000000": "an anomaly among the training clips",
    }.items():
        with pytest.raises(UserError, match=words):
            parse_clip(Path(f"fan/{place}.wav"), "fan", "dev")


def test_bare_stems_keep_numbers_with_a_point():
    for text in (
        "slider/train/section_00_x_vel_730_ac_0.11.wav",
        "section_00_x_vel_730_ac_0.11",
        " slider\\train\\section_00_x_vel_730_ac_0.11.FLAC ",
    ):
        assert bare_stem(text) == "section_00_x_vel_730_ac_0.11"
