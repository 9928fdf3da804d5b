"""What the rules of each file take: functions of the wildcards."""

from asdpipe.paper import published as paper

# manifest.smk


def demo_names(definitions):
    return any_of(name for name, each in definitions.items() if each.format == "demo")


def fetched_names():
    return any_of(name for name, each in CONFIG.datasets.items() if each.fetched)


@asked
def dataset_root(wildcards):
    generated = f"results/data/{wildcards.dataset}/recordings"
    return getattr(CONFIG.resolve_dataset(wildcards.dataset), "root", generated)


@asked
def ground_truth(wildcards):
    """Return the folder with the labels of the evaluation test clips; empty: below the root, if there."""
    return getattr(CONFIG.resolve_dataset(wildcards.dataset), "ground_truth", None) or ""


@asked
def dataset_sources(wildcards):
    """Return what tells of other clips: the index of a download, or the folders of clips and labels."""
    dataset = CONFIG.resolve_dataset(wildcards.dataset)
    if dataset.fetched:
        return f"results/data/{wildcards.dataset}/download.json"
    if dataset.format == "demo":
        return dataset_root(wildcards)
    return folders_of_dataset(dataset)


@asked
def pool_root(wildcards):
    return getattr(CONFIG.resolve_pool(wildcards.pool), "root", f"results/external/{wildcards.pool}/recordings")


@asked
def pool_folders(wildcards):
    """Return what tells of other clips: generated as a whole, or the folders of audio and metadata."""
    pool = CONFIG.resolve_pool(wildcards.pool)
    return pool_root(wildcards) if pool.format == "demo" else folders_of_pool(pool)


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
    return json.dumps({name: getattr(CONFIG.datasets[name], "year", None) for name in TABLE_DATASETS})


def table_n_max(wildcards):
    """Return N_max of the methods of Table 4 as JSON; the others do not print it."""
    methods = [run.method for run in paper.runs("4")] if wildcards.table == "4" else []
    limits = {name: METHODS[name].external.n_max for name in methods if METHODS[name].takes_external}
    return canonical_json(limits)
