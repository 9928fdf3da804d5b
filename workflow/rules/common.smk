"""The validated configuration, and the functions by which rules name their inputs and params."""

import sys
from pathlib import Path

# The package is used from this checkout, also where only its dependencies are installed (conda).
sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from snakemake.exceptions import WorkflowError

from asdpipe.config import canonical_json
from asdpipe.configfile import load_config
from asdpipe.data import audioset, dcase
from asdpipe.errors import UserError

try:
    CONFIG = load_config(config, workflow.configfiles)
    # Missing folders are found now, not when the first job starts.
    DATASET = CONFIG.resolve_dataset(CONFIG.dataset)
    if DATASET.root:
        dcase.machine_folders(Path(DATASET.root), DATASET.machines)
    if DATASET.pool and CONFIG.resolve_pool(DATASET.pool).root:
        audioset.clip_folders(Path(CONFIG.resolve_pool(DATASET.pool).root))
except UserError as error:
    raise WorkflowError(f"The configuration is not valid.\n{error}")

shell.prefix(
    f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH" '
    f'PYTHONPATH="{Path(workflow.basedir) / "src"}" ASDPIPE_DEVICE={CONFIG.device}; '
)

STAGE = "results/{dataset}/{method}/seed{seed}/stage{stage}"
# What stage 1 has in common for all methods that start alike, and what else if they also score alike.
SHARED_MODEL = ["labels.parquet", "model.safetensors", "model.json", "training.csv", "embeddings.parquet"]
SHARED_SCORES = ["representatives.parquet", "scores.parquet", "thresholds.parquet"]
LAST_STAGE = CONFIG.stages if CONFIG.resolve_method(CONFIG.method).iterates else 1
SHARING = {name: method.start_from for name, method in sorted(CONFIG.methods.items()) if method.start_from}
SHARING_SCORES = [
    name
    for name, start in SHARING.items()
    if CONFIG.resolve_method(name).inference == CONFIG.resolve_method(start).inference
]
SHARING_MODEL = [name for name in SHARING if name not in SHARING_SCORES]


def any_of(names):
    """Return a regular expression that only these names match."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    dataset=any_of(CONFIG.datasets),
    pool=any_of(CONFIG.pools),
    method=any_of(CONFIG.methods),
    seed=r"\d+",
    stage=r"[1-9]\d*",
    shard=r"\d+",


def asked(function):
    """Turn the package's error messages into Snakemake's, without traceback."""

    def wrapper(wildcards):
        try:
            return function(wildcards)
        except UserError as error:
            raise WorkflowError(str(error))

    return wrapper


def method_settings(*sections):
    """Return a params function: these sections of the method as JSON, the same whatever the order of the keys."""

    @asked
    def params(wildcards):
        method = CONFIG.resolve_method(wildcards.method)
        return canonical_json(method.model_dump(mode="json", include=set(sections)))

    return params


def dataset_settings(*keys):
    """Return a params function: these keys of the data set as JSON."""

    @asked
    def params(wildcards):
        dataset = CONFIG.resolve_dataset(wildcards.dataset)
        return canonical_json(dataset.model_dump(mode="json", include=set(keys)))

    return params


def pool_settings(*keys):
    """Return a params function: these keys of the pool as JSON."""

    @asked
    def params(wildcards):
        pool = CONFIG.resolve_pool(wildcards.pool)
        return canonical_json(pool.model_dump(mode="json", include=set(keys)))

    return params


def num_samples(wildcards):
    """Return the length of the network's input for a data set."""
    return CONFIG.resolve_dataset(wildcards.dataset).num_samples


def is_trained(wildcards):
    """Tell whether a method has a network."""
    return CONFIG.resolve_method(wildcards.method).kind == "iterative"


def previous(wildcards, file):
    """Return a file of the stage before."""
    return f"results/{wildcards.dataset}/{wildcards.method}/seed{wildcards.seed}/stage{int(wildcards.stage) - 1}/{file}"


def pool_of(wildcards):
    """Return the pool that a method takes external clips from, or None."""
    method = CONFIG.resolve_method(wildcards.method)
    uses_pool = method.kind == "iterative" and method.external.enabled and method.external.n_max > 0
    return CONFIG.resolve_dataset(wildcards.dataset).pool if uses_pool else None


def pool_files(wildcards, file):
    """Return a file of every shard of the pool."""
    pool = pool_of(wildcards)
    shards = range(CONFIG.resolve_pool(pool).shards) if pool else []
    return [f"results/external/{pool}/{shard}/{file}" for shard in shards]


def gpus(wildcards):
    """Return how many GPUs a job that runs a network asks for."""
    return 0 if CONFIG.device == "cpu" else 1


# manifest.smk


def demo_names(definitions):
    return any_of(name for name, each in definitions.items() if each.format == "demo")


@asked
def dataset_root(wildcards):
    generated = f"results/data/{wildcards.dataset}/recordings"
    return CONFIG.resolve_dataset(wildcards.dataset).root or generated


@asked
def dataset_folders(wildcards):
    """Return the folders whose change means other clips: generated as a whole, or every <machine>/<split>."""
    dataset = CONFIG.resolve_dataset(wildcards.dataset)
    return dcase.clip_folders(Path(dataset.root), dataset.machines) if dataset.root else dataset_root(wildcards)


@asked
def pool_root(wildcards):
    return CONFIG.resolve_pool(wildcards.pool).root or f"results/external/{wildcards.pool}/recordings"


@asked
def pool_folders(wildcards):
    """Return the folders whose change means other clips: generated as a whole, or those of audio and metadata."""
    root = CONFIG.resolve_pool(wildcards.pool).root
    return audioset.clip_folders(Path(root)) if root else pool_root(wildcards)


# train.smk


def stage1_files(wildcards, files):
    """Return files of the stage 1 that a method shares."""
    return [
        f"results/{wildcards.dataset}/{SHARING[wildcards.method]}/seed{wildcards.seed}/stage1/{file}" for file in files
    ]


def training_inputs(wildcards):
    """Return what stages after the first take from the stage before."""
    if wildcards.stage == "1":
        return {}
    files = {}
    if CONFIG.resolve_method(wildcards.method).pseudo_labels.enabled:
        files["pseudo_labels"] = previous(wildcards, "pseudo_labels.parquet")
    if pool_of(wildcards):
        files["selected"] = previous(wildcards, "selected.parquet")
        files["pool_index"] = pool_files(wildcards, "waveforms.parquet")
        files["pool_samples"] = pool_files(wildcards, "waveforms.int16")
    if not files:
        raise WorkflowError(
            f"{wildcards.method} has no stage {wildcards.stage}: without pseudo-labels and external clips "
            "(methods.*.pseudo_labels.enabled, methods.*.external.enabled) every stage is the same"
        )
    return files


def options(**values):
    """Return command-line options for the inputs that there are."""
    return " ".join(
        f"--{name.replace('_', '-')} {file}"
        for name, files in values.items()
        for file in ([files] if isinstance(files, str) else files)
    )


# embed.smk


def model_inputs(wildcards):
    """Return the trained model; the yardstick has none."""
    if not is_trained(wildcards):
        if wildcards.stage != "1":
            raise WorkflowError(f"{wildcards.method} is not trained: it has stage 1 only")
        return {}
    folder = STAGE.format(**wildcards)
    return {"weights": f"{folder}/model.safetensors", "description": f"{folder}/model.json"}


# select.smk


def shard_scores(wildcards):
    """Return the scores of every shard; selection at random needs none."""
    if CONFIG.resolve_method(wildcards.method).external.selection == "random":
        return []
    shards = range(CONFIG.resolve_pool(pool_of(wildcards)).shards)
    return [f"{STAGE}/external/{shard}.parquet".format(**wildcards) for shard in shards]


# evaluate.smk


def yardstick_auc(wildcards):
    """Return the result of the training-free method, which has no seed and one stage."""
    if CONFIG.yardstick is None:
        return []
    return [f"results/{CONFIG.dataset}/{CONFIG.yardstick}/seed{CONFIG.seeds[0]}/stage1/auc.csv"]
