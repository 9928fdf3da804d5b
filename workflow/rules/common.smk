"""The validated configuration, its plan, and the functions by which rules name wildcards, params and resources."""

import ast
import errno
import functools
import inspect
import json
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

# A checkout's package is used, also where only its dependencies are installed (conda). Rules of a wheel, or from an
# address, have no src/ beside them.
SOURCE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1] / "src"
if SOURCE.is_dir():
    sys.path.insert(0, str(SOURCE))

from snakemake.exceptions import WorkflowError

from asdpipe.config.data import Download
from asdpipe.config.targets import targets
from asdpipe.config.reading import load_config
from asdpipe.errors import UserError
from asdpipe.monitor import planned_jobs
from asdpipe.paper import published as paper
from asdpipe.paper import top_m
from asdpipe.plan import STAGE, Plan
from asdpipe.table_plan import TablePlan
from asdpipe.provenance.code import code_digest

try:
    CONFIG = load_config(config, workflow.configfiles, workflow.config_settings.config_args)
    PLAN = Plan(CONFIG)
    PLAN.check()
    TABLES = TablePlan(PLAN)
except UserError as error:
    raise WorkflowError(f"The configuration is not valid.\n{error}")


def refuse_disks():
    """Stop where a disk is full or read-only, before Snakemake ends in a traceback: it writes small files, also for -n."""
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
            if error.errno in (errno.EROFS, errno.EACCES) and not os.access(folder / ".snakemake", os.W_OK):
                raise WorkflowError(
                    f"{folder}: cannot be written, where Snakemake keeps its records, also those of a plan (-n): run in "
                    f"a folder of your own (--directory FOLDER --configfile {folder}/config/config.yaml){remedy}"
                )


def refuse_read_only_results():
    """Stop before the first job where results cannot be written; planning them is no problem."""
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


def note_planned_jobs():
    """Write down what is planned, for `asdpipe status`."""
    needed = workflow.dag.needrun_jobs()
    planned_jobs.note(Path("results"), [(job.rule.name, str(job.log[0])) for job in needed if job.log])


refuse_disks()

# Settings that do not affect results are passed as environment variables, so changing them triggers no re-run.
ENVIRONMENT = {"ASDPIPE_DEVICE": CONFIG.device}
if SOURCE.is_dir():
    ENVIRONMENT["PYTHONPATH"] = str(SOURCE)
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


# Unknown names of data sets, pools, methods and tables match, too: the plan says which there are.
wildcard_constraints:
    dataset=r"[^/]+",
    pool=r"[^/]+",
    checkpoint=r"[^/]+",
    method=r"[^/]+",
    seed=r"\d+",
    stage=r"[1-9]\d*",
    shard=r"\d+",
    split="train|test|supplemental",
    table=r"[^/.]+",
    backbone=r"[^/.]+",


def any_of(names):
    """Return a regular expression that only these names match."""
    return "|".join(map(re.escape, names)) or "(?!)"


def none_of(names):
    """Return a regular expression that folder names match, except these."""
    return rf"(?!(?:{any_of(names)})/)[^/]+"


def planned(function, **fixed):
    """Return a function of the wildcards: ``function`` of the plan, with those wildcards that it takes."""
    names = inspect.signature(function).parameters

    def of_wildcards(wildcards):
        given = {**fixed, **{name: wildcards[name] for name in names if name in wildcards.keys()}}
        try:
            found = function(**given)
        except (UserError, OSError) as error:
            raise WorkflowError(str(error))
        # Snakemake records no other types.
        return str(found) if isinstance(found, Path) else found

    return of_wildcards


@functools.cache
def digest_of(step, settings):
    """Return the digest of a step's code as a param: the prefix tells it apart from other params."""
    return f"code:{step}:{code_digest(step, targets(json.loads(settings)))}"


def settings(step):
    """Return a params function: all settings of a step, as JSON."""
    return planned(PLAN.settings, step=step)


def code(step, rule=None):
    """Return a params function: the digest of the code that a step runs, also of what its settings name.

    Without track_code it is the digest on record for the result, so that it never changes.

    Args:
        rule: that runs the step, if it has another name.
    """

    def params(wildcards):
        digest = digest_of(step, settings(step)(wildcards))
        if CONFIG.track_code:
            return digest
        output = getattr(rules, rule or step).output[0].apply_wildcards(wildcards)
        return next((text for text in recorded_params(output) if text.startswith(f"code:{step}:")), digest)

    return params


def recorded_params(output):
    """Return the params that a result was made with, as far as they are texts."""
    recorded = workflow.persistence.params(output) or []
    return [ast.literal_eval(each) for each in recorded if each[:1] in ("'", '"')]


def pool_clips(wildcards):
    """Return the list of a pool for one of its shards; it is no reason to pack again what is packed as it should be.

    One more clip changes the list, but one shard. Snakemake does not look at the params of a job while an input of it is
    made again, so they are compared here.
    """
    file = f"results/external/{wildcards.pool}/clips.parquet"
    recorded = recorded_params(rules.pack_pool.output[0].apply_wildcards(wildcards))
    is_packed = {param(wildcards) for param in rules.pack_pool.params} <= set(recorded)
    return ancient(file) if is_packed and not wildcards.pool in PLAN.generated_pools else file


def shard_contents(wildcards):
    """Return a text that changes with the clips of a shard."""
    output = rules.pack_pool.output[0].apply_wildcards(wildcards)
    recorded = [each for each in recorded_params(output) if each.startswith("contents:")]
    before = recorded[0].removeprefix("contents:") if recorded else ""
    contents = planned(PLAN.shard_contents, recorded=before)(wildcards)
    return f"contents:{contents}"


def options(**values):
    """Return command-line options, one for every file."""
    return " ".join(
        f"--{name.replace('_', '-')} {shlex.quote(file)}"
        for name, files in values.items()
        for file in ([files] if isinstance(files, str) else files)
    )


def given(wildcards, input):
    """Return command-line options for all inputs that have a name."""
    return options(**dict(input.items()))


def growing(base, per_mb=0):
    """Return a resource function: ``base`` and so much for each MB of packed samples, times the attempt.

    Args:
        base: a number, or a function of the wildcards.
    """
    of = base if callable(base) else lambda wildcards: base
    if not per_mb:
        # Later steps of a group are asked before their input is there.
        return lambda wildcards, attempt: attempt * of(wildcards)
    return lambda wildcards, input, attempt: attempt * (
        of(wildcards) + int(per_mb * Path(input.samples).stat().st_size / 1e6)
    )


def training_mb(wildcards):
    """Return the memory of a training without its data, in MB."""
    return PLAN.method(wildcards.method).training_mb(PLAN.num_samples(wildcards.dataset))


def embedding_mb(wildcards):
    """Return the memory of embedding clips, in MB."""
    return PLAN.method(wildcards.method).embedding_mb(PLAN.num_samples(wildcards.dataset))


def training_minutes(wildcards, input, attempt):
    """Return the run time of a training, in minutes."""
    base, per_mb = PLAN.method(wildcards.method).training.minutes
    return attempt * int(base + per_mb * Path(input.samples).stat().st_size / 1e6)


def gpus(wildcards):
    """Return how many GPUs a job that runs a network asks for."""
    return 0 if CONFIG.device == "cpu" else 1
