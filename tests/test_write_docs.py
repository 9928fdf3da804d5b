"""What is generated of the configuration: a schema that takes what the program takes, and a table of all keys."""

import re

import jsonschema
import pytest
import yaml

from asdpipe.config.schema import Config
from tests.conftest import ROOT, TINY
from tools import write_docs

SCHEMA = yaml.safe_load(write_docs.schema())
SHORT = {
    "dataset": "dcase2023",
    # A kind alone, and sections without their kind.
    "labels": "attribute",
    "loss": "subspace",
    "training": {"epochs": 3},
    "inference": {"backend": "knn"},
    "methods": {
        "mine": {"parent": "ba", "inference": {"backend": {"kind": "rescaled", "density_neighbours": 4}}},
        "theirs": {"network": "log_mel", "training": "none", "inference": {"backend": "city_block"}},
    },
}


def problems(config: dict) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(config)]


@pytest.mark.parametrize("name", ["config", "own", "real-mini"])
def test_the_schema_takes_shipped_files(name):
    assert problems(yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())) == []


@pytest.mark.parametrize("config", [TINY, SHORT])
def test_the_schema_takes_what_the_program_takes(config):
    Config.model_validate(config)
    assert problems(config) == []


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "attributes"},
        {"training": {"epochs": 0}},
        {"inference": {"backend": {"kind": "knn", "density_neighbours": 4}}},
        {"methods": {"mine": {"epochs": 3}}},
        {"methods": {"mine": {"network": {"kind": "log_mel", "width": 8}}}},
    ],
)
def test_the_schema_refuses_what_the_program_refuses(change):
    with pytest.raises(ValueError, match="validation error"):
        Config.model_validate(SHORT | change)
    assert problems(SHORT | change)


def test_the_table_has_every_key_with_the_default_of_its_kind():
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", write_docs.config_keys(), flags=re.M)
    keys = [key for key, _ in rows]
    assert [default for key, default in rows if key == "training.epochs"] == ["`50`", "`40`", "`100`"]
    assert {"methods.NAME.parent", "inference.backend.kind", "datasets.NAME.demo.seed", "pools.NAME.table.file"} <= {
        *keys
    }
    assert {key.partition(".")[0] for key in keys} == Config.model_fields.keys()
    defaults = dict(rows)
    assert (defaults["network.kind"], defaults["inference.backend.kind"]) == ("`multi_resolution`", "`kmeans`")
    assert defaults["dataset"] == defaults["pools.NAME.format"] == "required"
