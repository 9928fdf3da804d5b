"""The pictures of the documentation show the workflow and the code as they are."""

import re

import yaml

from tests import test_architecture
from tests.conftest import ROOT, run_snakemake
from tools import pictures


def test_the_graph_of_the_rules_is_the_workflows(tmp_path):
    demo = run_snakemake(
        tmp_path / "demo", "--rulegraph", "dot", "--", *pictures.DEMO, config=(ROOT / "config/config.yaml").read_text()
    )
    everything = run_snakemake(
        tmp_path / "all", "--rulegraph", "dot", "--", *pictures.TARGETS, config=yaml.safe_dump(pictures.EVERYTHING)
    )
    dot = pictures.dag(demo.stdout, everything.stdout)
    assert pictures.DOT.read_text() == dot, "docs/dag.dot is out of date: run `make docs`"
    assert pictures.DAG.read_text().endswith(pictures.mark(dot)), "docs/dag.svg is out of date: run `make docs`"


def test_the_graph_has_every_rule_that_runs_a_step():
    shown = set(re.findall(r"^    (\w+) \[", pictures.DOT.read_text(), flags=re.M))
    assert shown - {"node", "edge"} == set(test_architecture.STEP_RULES) - pictures.ON_REQUEST


def test_the_house_has_the_rooms_and_imports_of_the_code():
    used = pictures.imports()
    assert pictures.HOUSE.read_text() == pictures.house(used, pictures.purposes()), "run `make docs`"
    assert {"method", "training", "config"} <= used["steps"]
    assert used["method"] == {"data"}
