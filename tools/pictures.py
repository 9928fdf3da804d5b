"""Draw the pictures of the documentation: the graph of the rules, and the house with the imports between its rooms.

``python -m tools.pictures`` asks Snakemake for the rules, writes ``docs/dag.dot`` and ``docs/house.svg``, and has
Graphviz (the Debian package graphviz) draw ``docs/dag.svg`` where that is out of date. A test compares the files with
the workflow.
"""

import ast
import hashlib
import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import networkx
import yaml

from tests.test_architecture import LEVELS, MODULES, RULES, SHARED

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src/asdpipe"
DOT, DAG, HOUSE = ROOT / "docs/dag.dot", ROOT / "docs/dag.svg", ROOT / "docs/house.svg"

# ---------------------------------------------------------------- rules

# What every run has: those of the demo.
DEMO = ["results/stage2/auc.csv"]
# A run that has every rule: two formats of data sets and their union, a pool packed and one not, held-out clips.
EVERYTHING = yaml.safe_load("""
dataset: all
seeds: [0]
monitor: {holdout: 0.2}
datasets:
  demo: {format: demo, clip_seconds: 1.5, pool: sounds}
  dcase2023: {root: data/dcase2023, download: true}
  all: {format: union, datasets: [demo, dcase2023], clip_seconds: 10, pool: packed}
pools:
  packed: {format: demo, clip_seconds: 10, shards: 1}
  sounds: {format: demo, clip_seconds: 1.5, shards: 1, packed: false}
network: {dft_kernels: [64, 16, 8], dft_strides: [16, 8, 4]}
methods:
  mix: {fusion: {methods: [ba, raw_logmel]}}
""")
TARGETS = [
    "results/stage2/auc.csv",
    "results/demo/ba_trp_ps_ex/seed0/stage2/auc.csv",
    *(f"results/all/{method}/seed0/stage1/auc.csv" for method in ("topm_audio_mae_m1", "ced_frozen", "mix")),
    "results/all/ba/seed0/stage1/submission",
    "results/tables/table2.csv",
    "results/tables/topm_audio_mae.csv",
]
# Not in the graph: it reads what is there, whatever made it.
ON_REQUEST = {"report"}
# The rule that begins a stage.
FIRST = "train"
STYLE = """    rankdir=LR; bgcolor=white; nodesep=0.2; ranksep=0.35;
    node [shape=box, style="rounded,filled", fillcolor="#eef3fa", color="#4a6fa5", fontname="Helvetica", fontsize=11];
    edge [color="#707070", fontname="Helvetica", fontsize=9];
"""
OTHER = 'fillcolor=white, color="#7a9cc6", style="rounded,dashed"'
NEXT = 'constraint=false, color="#c0392b", style=dashed'


def outputs() -> dict[str, list[str]]:
    """Return the outputs of every rule, as they are written."""
    found = {}
    for name, body in RULES.items():
        block = re.search(r"^    output:\n((?:        .*\n)+)", body, flags=re.M)
        # Captions and categories of snakemake --report are no files.
        found[name] = re.findall(r'"((?:results/|\{STAGE\})[^"]*)"', block[1]) if block else []
    return found


def read_graph(text: str) -> networkx.DiGraph:
    """Return the graph that ``snakemake --rulegraph dot`` prints."""
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', text, flags=re.M))
    graph = networkx.DiGraph()
    graph.add_nodes_from(names.values())
    graph.add_edges_from(
        (names[one], names[other]) for one, other in re.findall(r"^\s*(\d+) -> (\d+)", text, flags=re.M)
    )
    return graph


def dag(demo: str, everything: str) -> str:
    """Return the graph of all rules for Graphviz; arrows are left out where a longer way has the same ends.

    Args:
        demo, everything: what ``snakemake --rulegraph dot`` prints for both runs.
    """
    graph, common = read_graph(everything), read_graph(demo)
    later = [(name, FIRST) for name in graph.predecessors(FIRST) if networkx.has_path(graph, FIRST, name)]
    graph.remove_edges_from([*later, *networkx.selfloop_edges(graph)])
    written = outputs()
    lines = ["// Made from the workflow by `make docs`. Dashed boxes: steps that only some methods and data sets have."]
    lines += ["digraph dag {", STYLE]
    of_stage = {name for name in graph if any(re.match(r"\{STAGE\}|.*/stage0/", file) for file in written[name])}
    for name in sorted(graph, key=lambda name: (name in of_stage, name)):
        files = list(
            dict.fromkeys(file.rpartition("/")[2].replace("{{", "{").replace("}}", "}") for file in written[name])
        )
        label = "\\n".join([name, *files])
        lines.append(f'    {name} [label="{label}"{"" if name in common else f", {OTHER}"}];')
    stage = " ".join(f"{name};" for name in sorted(of_stage))
    frame = 'label="per method, seed and stage"; labeljust=l; fontname="Helvetica"; fontsize=11;'
    lines.append(f'    subgraph cluster_stage {{ {frame} style="rounded,dashed"; color="#4a6fa5"; {stage} }}')
    lines += [f"    {one} -> {other};" for one, other in sorted(networkx.transitive_reduction(graph).edges)]
    lines += [f"    {one} -> {other} [{NEXT}];" for one, other in sorted(later) if one != other]
    return "\n".join([*lines, "}", ""])


def rule_graph(*arguments: str) -> str:
    """Return what ``snakemake --rulegraph dot`` prints."""
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command = [*snakemake, "--rulegraph", "dot", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def mark(dot: str) -> str:
    """Return the last line of a picture, which says what it was drawn from."""
    return f"<!-- drawn from {hashlib.sha256(dot.encode()).hexdigest()[:16]} -->\n"


def draw_dag() -> None:
    """Write the graph of the rules, and draw it if it has changed."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(yaml.safe_dump(EVERYTHING))
        demo = rule_graph("--directory", folder, "--configfile", "config/config.yaml", "--", *DEMO)
        everything = rule_graph("--directory", folder, "--configfile", str(config), "--", *TARGETS)
    dot = dag(demo, everything)
    DOT.write_text(dot, encoding="utf-8")
    if DAG.is_file() and DAG.read_text(encoding="utf-8").endswith(mark(dot)):
        return
    if not shutil.which("dot"):
        sys.exit("docs/dag.svg is out of date, and Graphviz is not here to draw it: apt-get install graphviz")
    picture = subprocess.run(["dot", "-Tsvg"], input=dot, stdout=subprocess.PIPE, text=True, check=True).stdout
    DAG.write_text(picture + mark(dot), encoding="utf-8")


# ---------------------------------------------------------------- rooms

# From the top, without __main__.
ROOMS = LEVELS[1:]
ROW, CELL, LEFT, NAME, TOP = 30, 24, 10, 560, 96


def imports() -> dict[str, set[str]]:
    """Return the rooms that each room imports from, also within functions."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, imported in MODULES.items():
        room = module.split(".")[1]
        if room in found:
            found[room] |= {name.split(".")[1] for name in imported} - {room}
    return found


def purposes() -> dict[str, str]:
    """Return what each room's docstring begins with."""
    files = {room: PACKAGE / room / "__init__.py" for room in ROOMS}
    files = {room: file if file.is_file() else PACKAGE / f"{room}.py" for room, file in files.items()}
    docs = {room: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "" for room, file in files.items()}
    parts = {room: re.split(r"[.:;](?:\s|$)", doc.partition("\n")[0]) for room, doc in docs.items()}
    # "Recordings: manifests, decoding, ..." says nothing new in its first word.
    return {room: words[0] if " " in words[0] else words[1] for room, words in parts.items()}


def house(used: Mapping[str, set[str]], words: Mapping[str, str]) -> str:
    """Return the rooms as the storeys of a house, with a dot where one imports from another, as SVG."""
    width, height = LEFT + NAME + CELL * len(ROOMS) + 90, TOP + ROW * (len(ROOMS) + 1) + 16
    parts = [
        "<!-- Made from the imports by `make docs`. -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]

    def text(x: float, y: float, words: str, more: str = "") -> None:
        parts.append(f'<text x="{x}" y="{y}" {more}>{html.escape(words)}</text>')

    text(
        LEFT, 24, "Rooms, from the door to the ground: imports run downwards only", 'font-weight="bold" font-size="15"'
    )
    text(LEFT, 46, "A dot: a module of the row imports from the column", 'fill="#444"')
    for number, room in enumerate(ROOMS):
        x, y = LEFT + NAME + CELL * number, TOP + ROW * number
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{NAME - 10}" height="{ROW - 4}" rx="5" fill="#eef3fa" stroke="#4a6fa5"/>'
        )
        text(LEFT + 10, y + 18, room, 'font-weight="bold"')
        text(LEFT + 105, y + 18, words[room], 'font-size="11" fill="#333"')
        text(0, 0, room, f'transform="translate({x + 15} {TOP - 6}) rotate(-45)" font-size="11"')
        for other, name in enumerate(ROOMS):
            place = f'cx="{LEFT + NAME + CELL * other + 10}" cy="{y + 13}"'
            if name in used[room]:
                parts.append(f'<circle {place} r="6" fill="#1f3d66"><title>{room} imports {name}</title></circle>')
            elif other > number:
                parts.append(f'<circle {place} r="1.5" fill="#b5bfcc"/>')
    y = TOP + ROW * len(ROOMS)
    parts.append(
        f'<rect x="{LEFT}" y="{y}" width="{width - 2 * LEFT}" height="{ROW - 4}" rx="5" fill="#f3efe6" stroke="#876"/>'
    )
    text(LEFT + 10, y + 18, f"for all rooms: {', '.join(sorted(SHARED))}")
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write all pictures."""
    HOUSE.write_text(house(imports(), purposes()), encoding="utf-8")
    draw_dag()


if __name__ == "__main__":
    main()
