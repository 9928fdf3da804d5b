"""The validated configuration, and the functions by which rules name their inputs and params."""

import errno
import json
import logging
import os
import shlex
import sys
import tempfile
from pathlib import Path

# The package is used from this checkout, also where only its dependencies are installed (conda).
sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from snakemake.exceptions import WorkflowError

from asdpipe import paper
from asdpipe.code_digest import step_digest
from asdpipe.config_data import Download
from asdpipe.config_method import canonical_json
from asdpipe.configfile import load_config
from asdpipe.data import audioset, dcase, folder, labelled_folder
from asdpipe.errors import UserError
from asdpipe.steps import STEPS


def refuse_full_disks():
    """Stop here, where Snakemake would go on to a traceback: its locks and its scheduler write small files."""
    # Where the scheduler writes: not always tempfile.gettempdir(), which passes over a full disk.
    temporary = Path(os.environ.get("TMPDIR", os.path.join(os.sep, "tmp")))
    for folder, remedy in ((Path.cwd(), ""), (temporary, ", or set TMPDIR to a folder elsewhere")):
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(65536))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # Snakemake's own log does not fit, either.
                logging.raiseExceptions = False
                raise WorkflowError(
                    f"{folder}: the disk is full (or your share of it): make room there{remedy}, and run again; "
                    "what was finished before is kept"
                )


def refuse_read_only_results():
    """Stop before the first job does, where results cannot be written; planning them is no problem."""
    results = Path("results")
    if results.exists() and not os.access(results, os.W_OK):
        raise WorkflowError(
            f"{results.absolute()}: cannot be written (a disk mounted read-only, or another user's folder): "
            "run in a folder of your own (--directory), where results may be copied or linked to"
        )


def folders_of_dataset(dataset):
    """Return the folders and files that tell of other clips or labels."""
    root = Path(dataset.root)
    if dataset.format == "folder":
        return folder.clip_folders(root, dataset.machines, dataset.table)
    truth = Path(dataset.ground_truth or root / "ground_truth")
    return dcase.clip_folders(root, dataset.machines, dataset.parts) + ([str(truth)] if truth.is_dir() else [])


def folders_of_pool(pool):
    """Return the folders and files that tell of other external clips or labels."""
    if pool.format == "folder":
        return labelled_folder.clip_folders(Path(pool.root), pool.table)
    return audioset.clip_folders(Path(pool.root))


refuse_full_disks()
try:
    CONFIG = load_config(config, workflow.configfiles)
    # Missing folders are found now, not when the first job starts.
    DATASET = CONFIG.resolve_dataset(CONFIG.dataset)
    if DATASET.root and not DATASET.download:
        folders_of_dataset(DATASET)
    if DATASET.pool and CONFIG.resolve_pool(DATASET.pool).root:
        folders_of_pool(CONFIG.resolve_pool(DATASET.pool))
except UserError as error:
    raise WorkflowError(f"The configuration is not valid.\n{error}")

# What must not run anything again when it changes goes to the steps by their environment.
ENVIRONMENT = {"PYTHONPATH": str(Path(workflow.basedir) / "src"), "ASDPIPE_DEVICE": CONFIG.device}
if CONFIG.torch_compile:
    ENVIRONMENT["ASDPIPE_TORCH_COMPILE"] = "1"
if CONFIG.download != Download():
    ENVIRONMENT["ASDPIPE_DOWNLOAD"] = CONFIG.download.model_dump_json()
exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in ENVIRONMENT.items())
shell.prefix(
    f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH" '
    + exports.replace("{", "{{").replace("}", "}}")
    + "; "
)

STAGE = "results/{dataset}/{method}/seed{seed}/stage{stage}"
METHODS = {name: CONFIG.resolve_method(name) for name in CONFIG.methods}
LAST_STAGE = CONFIG.stages if METHODS[CONFIG.method].iterates else 1
AUTOENCODERS = [name for name, method in METHODS.items() if method.kind == "autoencoder"]
# What methods have in common is made once, in the folder of its owner; the others have links.
MODEL = ["labels.parquet", "model.safetensors", "model.json", "training.csv", "embeddings.parquet"]
# Methods that only score otherwise than their owner take its models of every stage.
OWNER = {name: CONFIG.owner_of_models(name) for name in METHODS}
RESCORED = [name for name in METHODS if OWNER[name] != name]
# Methods that start like their owner take its stage 1, and what follows from it as far as they score alike.
FIRST_OWNER = {name: CONFIG.owner_of_first_model(name) for name in METHODS}
SAME_START = [name for name in METHODS if FIRST_OWNER[name] != name and name not in RESCORED]
SAME_REPRESENTATIVES = [
    name for name in SAME_START if METHODS[name].inference.k_source == METHODS[FIRST_OWNER[name]].inference.k_source
]
SAME_SCORES = [name for name in SAME_REPRESENTATIVES if METHODS[name].scoring == METHODS[FIRST_OWNER[name]].scoring]


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

    def params(wildcards):
        return canonical_json(METHODS[wildcards.method].model_dump(mode="json", include=set(sections)))

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


# The prefix tells it apart from the other params of a job.
CODE = {name: f"code:{step_digest(module, name)}" for module, names in STEPS.items() for name in names}


def code(step, rule=None):
    """Return the digest of a step's code as a param of its rule, which has its name unless given.

    Without track_code a function that returns the digest that is on record for the result, so that it never changes.
    """
    if CONFIG.track_code:
        return CODE[step]

    def params(wildcards):
        output = getattr(rules, rule or step).output[0].apply_wildcards(wildcards)
        recorded = workflow.persistence.params(output) or []
        return next((each.strip("'") for each in recorded if each.startswith("'code:")), CODE[step])

    return params


def num_samples(wildcards):
    """Return the length of the network's input for a data set."""
    return CONFIG.resolve_dataset(wildcards.dataset).num_samples


def is_trained(wildcards):
    """Tell whether a method has a network."""
    return METHODS[wildcards.method].kind == "iterative"


def previous(wildcards, file):
    """Return a file of the stage before."""
    return f"results/{wildcards.dataset}/{wildcards.method}/seed{wildcards.seed}/stage{int(wildcards.stage) - 1}/{file}"


def pool_of(wildcards):
    """Return the pool that a method takes external clips from, or None."""
    return CONFIG.resolve_dataset(wildcards.dataset).pool if METHODS[wildcards.method].takes_external else None


def packed_shards(wildcards, file):
    """Return a file of every packed shard of the pool."""
    pool = pool_of(wildcards)
    shards = range(CONFIG.pools[pool].shards) if pool and CONFIG.pools[pool].packed else []
    return [f"results/external/{pool}/{shard}/{file}" for shard in shards]


def growing(base, per_mb=0):
    """Return a resource function: ``base`` and so much for each MB of packed samples, times the attempt."""
    if not per_mb:
        # Later steps of a group are asked before their input is there.
        return lambda wildcards, attempt: attempt * base
    return lambda wildcards, input, attempt: attempt * (base + int(per_mb * Path(input.samples).stat().st_size / 1e6))


def gpus(wildcards):
    """Return how many GPUs a job that runs a network asks for."""
    return 0 if CONFIG.device == "cpu" else 1


# manifest.smk


def demo_names(definitions):
    return any_of(name for name, each in definitions.items() if each.format == "demo")


def fetched_names():
    return any_of(name for name, each in CONFIG.datasets.items() if each.fetched)


@asked
def dataset_root(wildcards):
    generated = f"results/data/{wildcards.dataset}/recordings"
    return CONFIG.resolve_dataset(wildcards.dataset).root or generated


@asked
def ground_truth(wildcards):
    """Return the folder with the labels of the evaluation test clips; empty: below the root, if there."""
    return CONFIG.resolve_dataset(wildcards.dataset).ground_truth or ""


@asked
def dataset_sources(wildcards):
    """Return what tells of other clips: the index of a download, or the folders of clips and labels."""
    dataset = CONFIG.resolve_dataset(wildcards.dataset)
    if dataset.download:
        return f"results/data/{wildcards.dataset}/download.json"
    if dataset.root is None:
        return dataset_root(wildcards)
    return folders_of_dataset(dataset)


@asked
def pool_root(wildcards):
    return CONFIG.resolve_pool(wildcards.pool).root or f"results/external/{wildcards.pool}/recordings"


@asked
def pool_folders(wildcards):
    """Return what tells of other clips: generated as a whole, or the folders of audio and metadata."""
    pool = CONFIG.resolve_pool(wildcards.pool)
    return folders_of_pool(pool) if pool.root else pool_root(wildcards)


# train.smk


def owned(owners, *files):
    """Return an input function: these files of the same stage, in the folder of the method that makes them."""

    def inputs(wildcards):
        stage = wildcards.get("stage", 1)
        folder = f"results/{wildcards.dataset}/{owners[wildcards.method]}/seed{wildcards.seed}/stage{stage}"
        return [f"{folder}/{file}".format(**wildcards) for file in files]

    return inputs


def training_inputs(wildcards):
    """Return what a stage takes from the one before; stage 1 at most external clips drawn at random."""
    first = wildcards.stage == "1"
    method = METHODS[wildcards.method]
    files = {}
    if method.pseudo_labels.enabled and not first:
        files["pseudo_labels"] = previous(wildcards, "pseudo_labels.parquet")
    pool = pool_of(wildcards)
    if pool and (not first or method.external.first_stage == "random"):
        files["selected"] = previous(wildcards, "selected.parquet")
        packed = CONFIG.pools[pool].packed
        shards = packed_shards(wildcards, "waveforms.parquet")
        files["pool_index"] = shards if packed else previous(wildcards, "selected_waveforms.parquet")
        shards = packed_shards(wildcards, "waveforms.int16")
        files["pool_samples"] = shards if packed else previous(wildcards, "selected_waveforms.int16")
    if not files and not first:
        raise WorkflowError(
            f"{wildcards.method} has no stage {wildcards.stage}: without pseudo-labels and external clips "
            "(pseudo_labels.enabled, external.enabled with n_max above 0 and a pool) every stage is the same"
        )
    return files


def options(**values):
    """Return command-line options for the inputs that there are."""
    return " ".join(
        f"--{name.replace('_', '-')} {file}"
        for name, files in values.items()
        for file in ([files] if isinstance(files, str) else files)
    )


# features.smk


@asked
def selected_settings(wildcards):
    """Return how the files of a data set's pool are decoded, as JSON."""
    pool = CONFIG.resolve_pool(CONFIG.resolve_dataset(wildcards.dataset).pool)
    return canonical_json(pool.model_dump(mode="json", include={"channel", "min_seconds", "on_bad_clip"}))


# embed.smk


def model_inputs(wildcards):
    """Return the trained model; the yardstick has none."""
    if not is_trained(wildcards):
        if wildcards.stage != "1":
            raise WorkflowError(f"{wildcards.method} has stage 1 only: it is not iterative")
        return {}
    folder = STAGE.format(**wildcards)
    return {"weights": f"{folder}/model.safetensors", "description": f"{folder}/model.json"}


# score.smk


def shard_inputs(wildcards):
    """Return what a shard of the pool is scored from: its packed clips, or the manifest that names its files."""
    pool = CONFIG.resolve_dataset(wildcards.dataset).pool
    if not CONFIG.pools[pool].packed:
        return {"pool_clips": f"results/external/{pool}/clips.parquet"}
    folder = f"results/external/{pool}/{wildcards.shard}"
    return {"index": f"{folder}/waveforms.parquet", "samples": f"{folder}/waveforms.int16"}


@asked
def shard_settings(wildcards):
    """Return how the files of a shard are decoded, where the pool is not packed."""
    if CONFIG.pools[CONFIG.resolve_dataset(wildcards.dataset).pool].packed:
        return ""
    return f"--settings {shlex.quote(selected_settings(wildcards))} --shard {wildcards.shard}"


def backend_inputs(wildcards):
    """Return the representatives, for methods that score by them."""
    if not is_trained(wildcards) or METHODS[wildcards.method].inference.backend != "kmeans":
        return {}
    return {"representatives": f"{STAGE}/representatives.parquet".format(**wildcards)}


# select.smk


def shard_scores(wildcards):
    """Return the scores of every shard; selection at random needs none."""
    if METHODS[wildcards.method].external.selection == "random":
        return []
    shards = range(CONFIG.pools[pool_of(wildcards)].shards)
    return [f"{STAGE}/external/{shard}.parquet".format(**wildcards) for shard in shards]


# evaluate.smk


def scored_clips(wildcards):
    """Return the scores to evaluate; there is no stage 0."""
    if int(wildcards.stage) < 1:
        raise WorkflowError("There is no stage 0: stages begin with 1, e.g. results/stage1/auc.csv")
    return f"{STAGE}/scores.parquet".format(**wildcards)


def of_each_seed(file):
    """Return an input function: this file of the stage, of the configured data set and method, for every seed."""

    def inputs(wildcards):
        names = {"dataset": CONFIG.dataset, "method": CONFIG.method, "stage": wildcards.stage}
        return [f"{STAGE}/{file}".format(seed=seed, **names) for seed in CONFIG.seeds]

    return inputs


def yardstick_auc(wildcards):
    """Return the result of the training-free method, which has no seed and one stage."""
    if CONFIG.yardstick is None:
        return []
    return [f"results/{CONFIG.dataset}/{CONFIG.yardstick}/seed{CONFIG.seeds[0]}/stage1/auc.csv"]


# tables.smk

TABLE_DATASETS = CONFIG.tables.datasets or [CONFIG.dataset]


def table_runs(table, dataset):
    """Return the runs of a table that are asked for; without a pool, not those that take external clips."""
    asked_for, pool = CONFIG.tables.methods, CONFIG.datasets[dataset].pool
    runs = [run for run in paper.runs(table) if asked_for is None or run.method in asked_for]
    return [run for run in runs if pool or not METHODS[run.method].takes_external]


def table_aucs(wildcards):
    """Return the results of every run and seed; the yardstick has no seed."""
    return [
        f"{STAGE}/auc.csv".format(dataset=dataset, method=run.method, seed=seed, stage=run.stage)
        for dataset in TABLE_DATASETS
        for run in table_runs(wildcards.table, dataset)
        for seed in CONFIG.seeds[: 1 if METHODS[run.method].kind == "raw_logmel" else None]
    ]


def table_groups(wildcards):
    """Return data set and file of each selection whose N_out makes the groups of Table 4."""
    return [
        (dataset, f"{STAGE}/selected.parquet".format(dataset=dataset, method="ba_ex", seed=seed, stage=1))
        for dataset in TABLE_DATASETS
        for seed in CONFIG.seeds
        if wildcards.table == "4" and CONFIG.datasets[dataset].pool and table_runs("4", dataset)
    ]


def table_selected(wildcards):
    """Return these files."""
    return [file for _, file in table_groups(wildcards)]


def table_years(wildcards):
    """Return the year of every data set as JSON, in the order of the columns."""
    return json.dumps({name: CONFIG.datasets[name].year for name in TABLE_DATASETS})


def table_n_max(wildcards):
    """Return N_max of the methods of Table 4 as JSON; the others do not print it."""
    methods = [run.method for run in paper.runs("4")] if wildcards.table == "4" else []
    limits = {name: METHODS[name].external.n_max for name in methods if METHODS[name].takes_external}
    return canonical_json(limits)
