"""The validated configuration, and the functions by which rules name wildcards, params and resources."""

import errno
import json
import logging
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

# The package is used from this checkout, also where only its dependencies are installed (conda).
sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from snakemake.exceptions import WorkflowError

from asdpipe.provenance.code import step_digest
from asdpipe.config.data import Download
from asdpipe.config.base import canonical_json
from asdpipe.config.reading import load_config
from asdpipe.data.pools import audioset, labelled_files as labelled_folder
from asdpipe.data.dcase import manifest as dcase
from asdpipe.data import own_machines as folder
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


def refuse_missing_slurm():
    """Stop before the first job does, where SLURM is asked for and is not there: its executor retries for minutes."""
    if workflow.executor_plugin.name == "slurm" and shutil.which("sbatch") is None:
        raise WorkflowError(
            "sbatch is not found (PATH), so SLURM takes no jobs from here: run on a login node of the cluster, after "
            "`module load slurm` or the like; or without --executor slurm and the slurm profile to compute on this machine"
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
    CONFIG = load_config(config, workflow.configfiles, workflow.config_settings.config_args)
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
