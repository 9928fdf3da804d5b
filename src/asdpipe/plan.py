"""Which file feeds which: the inputs and settings of every rule, and who owns what methods share.

A result that several methods have in common is made once, in the folder of its owner; the others read it there.
"""

import json
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from asdpipe.config.base import Section, canonical_json
from asdpipe.config.data import Dataset, DcaseDataset, DemoDataset, DemoPool, DownloadSettings, LabelSettings
from asdpipe.config.method import ExternalScoreSettings, Method, NetworkSettings, PseudoLabelSettings, SelectSettings
from asdpipe.config.schema import Config
from asdpipe.data.pools.files import shard_digests
from asdpipe.errors import UserError
from asdpipe.paper import published as paper

STAGE = "results/{dataset}/{method}/seed{seed}/stage{stage}"
Inputs = dict[str, str | list[str]]


class Plan:
    """The plan of a configuration.

    Args:
        config: validated; names are those of the data sets, pools and methods that it has.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.methods = {name: config.resolve_method(name) for name in config.methods}
        self.last_stage = config.stages if self.methods[config.method].iterates else 1

    def check(self) -> None:
        """Find missing folders and impossible runs before the first job starts.

        Raises:
            UserError: a folder is missing, or the data set cannot be trained on.
        """
        dataset, method = self.config.resolve_dataset(self.config.dataset), self.methods[self.config.method]
        root = self.dataset_root(self.config.dataset)
        if not dataset.fetched:
            machines = dataset.machine_types(root)
            pool = self.pool(self.config.dataset, self.config.method)
            if len(machines) == 1 and method.training.uses_classes and not (pool and method.draws_first):
                message = (
                    f"datasets.{self.config.dataset}: has one machine type only ({machines[0]}), so method "
                    f"{self.config.method} has nothing to tell apart. Record other machine types, too; or name a pool "
                    f"(datasets.{self.config.dataset}.pool) and set external.first_stage: random; or take a method "
                    "that trains on no classes (method: raw_logmel or autoencoder)"
                )
                raise UserError(message)
        pool = self.pool(self.config.dataset, self.config.method)
        if pool is not None:
            self.pool_sources(pool)

    # ---------------------------------------------------------------- data sets

    def dataset(self, dataset: str) -> Dataset:
        """Return a data set.

        Raises:
            UserError: there is none of this name.
        """
        return self.config.resolve_dataset(dataset)

    def dataset_root(self, dataset: str) -> Path:
        """Return the folder of the recordings."""
        return Path(self.dataset(dataset).root or f"results/data/{dataset}/recordings")

    def truth(self, dataset: str) -> str:
        """Return the folder with the labels of the evaluation test clips; empty: below the root, if there."""
        return self.dataset(dataset).ground_truth or ""

    def splits(self, dataset: str) -> list[str]:
        """Return the splits that are listed."""
        return ["train", "test", "supplemental"] if self.sources(dataset, "supplemental") else ["train", "test"]

    def sources(self, dataset: str, split: str) -> list[str]:
        """Return what tells of other clips of a split: the index of a download, or folders."""
        known = self.dataset(dataset)
        if known.fetched:
            has_split = split != "supplemental" or known.has_supplemental
            return [f"results/data/{dataset}/download.json"] if has_split else []
        return known.listing.watched(self.dataset_root(dataset), split)

    def facts(self, dataset: str, split: str) -> str:
        """Return a digest of what csv files say of the clips of a split; those of a download never change."""
        known = self.dataset(dataset)
        if known.fetched:
            return ""
        truth = self.truth(dataset)
        return known.listing.facts(self.dataset_root(dataset), split, Path(truth) if truth else None)

    def labelled_from(self, dataset: str) -> Inputs:
        """Return what the labelled manifest is made from: the lists of all splits, and the ground truth."""
        known, truth = self.dataset(dataset), self.truth(dataset)
        files = (
            []
            if known.fetched
            else known.listing.truth_files(self.dataset_root(dataset), Path(truth) if truth else None)
        )
        return {
            "lists": [f"results/data/{dataset}/{split}/clips.parquet" for split in self.splits(dataset)],
            "truth": files,
        }

    @property
    def generated_datasets(self) -> list[str]:
        """The data sets whose recordings the workflow makes."""
        return [name for name, dataset in self.config.datasets.items() if isinstance(dataset, DemoDataset)]

    @property
    def generated_pools(self) -> list[str]:
        """The pools whose recordings the workflow makes."""
        return [name for name, pool in self.config.pools.items() if isinstance(pool, DemoPool)]

    @property
    def fetched_datasets(self) -> list[str]:
        """The data sets that are downloaded."""
        return [name for name, dataset in self.config.datasets.items() if dataset.fetched]

    def num_samples(self, dataset: str) -> int:
        """Return the length that clips are tiled or cut to, in samples."""
        return self.dataset(dataset).num_samples

    # ---------------------------------------------------------------- external pools

    def pool_root(self, pool: str) -> Path:
        """Return the folder of a pool."""
        return Path(self.config.resolve_pool(pool).root or f"results/external/{pool}/recordings")

    def pool_sources(self, pool: str) -> list[str]:
        """Return what tells of other clips of a pool."""
        return self.config.resolve_pool(pool).listing.watched(self.pool_root(pool))

    def pool(self, dataset: str, method: str) -> str | None:
        """Return the pool that a method takes external clips from, or None."""
        return self.dataset(dataset).pool if self.method(method).takes_external else None

    def is_generated(self, pool: str) -> bool:
        """Tell whether the workflow makes the recordings of a pool."""
        return pool in self.generated_pools

    def shard_contents(self, pool: str, shard: str, recorded: str) -> str:
        """Return what tells whether a packed shard must be packed again: other clips, another text.

        One more file changes the manifest of the whole pool, but one shard.

        Args:
            recorded: what this function returned when the shard was packed.
        """
        index = Path(f"results/external/{pool}/{shard}/waveforms.parquet")
        if self.is_generated(pool) or not index.exists():
            return recorded
        listed = self._shards(pool)[int(shard)]
        try:
            facts = json.loads((pq.read_schema(index).metadata or {}).get(b"facts", b"{}"))
        except (OSError, pa.ArrowException):
            # Damaged: pack it again.
            return listed
        return recorded if facts.get("contents") == listed else listed

    @cache  # noqa: B019 (there is one plan)
    def _shards(self, pool: str) -> Sequence[str]:
        """Return the digests of a pool's shards, of its last listing; listed now where that is out of date."""
        file = Path(f"results/external/{pool}/shards.json")
        known = self.config.resolve_pool(pool)
        sources = [Path(source).stat().st_mtime_ns for source in self.pool_sources(pool)]
        if file.exists() and file.stat().st_mtime_ns >= max(sources, default=0):
            try:
                digests = list(json.loads(file.read_text()))
            except (ValueError, TypeError):
                # Damaged.
                digests = []
            if len(digests) == known.shards:
                return digests
        return shard_digests(known.listing.list_clips(self.pool_root(pool), pool)[0], known.shards)

    def packed_shards(self, pool: str, file: str) -> list[str]:
        """Return a file of every shard of a pool that is packed as a whole."""
        known = self.config.resolve_pool(pool)
        return [f"results/external/{pool}/{shard}/{file}" for shard in range(known.shards)] if known.packed else []

    # ---------------------------------------------------------------- methods and their owners

    def method(self, method: str) -> Method:
        """Return a method with all its settings.

        Raises:
            UserError: there is none of this name.
        """
        return self.config.resolve_method(method)

    def model_owner(self, method: str, stage: int) -> str:
        """Return the method that trains the model of a stage: its stage 1, or all stages, may be another method's."""
        return self.config.owner_of_first_model(method) if stage == 1 else self.config.owner_of_models(method)

    def representatives_owner(self, method: str, stage: int) -> str:
        """Return the method that makes the representatives, and with them the scores of external clips."""
        owner = self.model_owner(method, stage)
        same = self.method(owner).represent_settings() == self.method(method).represent_settings()
        return owner if same else method

    def scores_owner(self, method: str, stage: int) -> str:
        """Return the method that makes the scores."""
        owner = self.representatives_owner(method, stage)
        same = self.method(owner).score_settings() == self.method(method).score_settings()
        return owner if same else method

    def model(self, dataset: str, method: str, seed: str, stage: str) -> str:
        """Return the folder with model and embeddings of a stage."""
        return self._folder(dataset, self.model_owner(method, int(stage)), seed, stage)

    def _folder(self, dataset: str, method: str, seed: str, stage: str | int) -> str:
        return STAGE.format(dataset=dataset, method=method, seed=seed, stage=stage)

    def _own(self, what: str, owner: str, dataset: str, method: str, seed: str, stage: str) -> None:
        """Refuse to make once more what another method owns.

        Raises:
            UserError: names the folder of the owner.
        """
        if int(stage) > 1 and not self.method(method).iterates:
            raise UserError(
                f"{method} has no stage {stage}, only stage 1: without pseudo-labels and external clips "
                "(pseudo_labels.enabled, external.enabled with n_max above 0 and a pool) every stage is the same"
            )
        if owner != method:
            folder = self._folder(dataset, owner, seed, stage)
            raise UserError(f"stage {stage} of {method} has the {what} of {owner}; ask for the files in {folder}")

    # ---------------------------------------------------------------- settings of the steps, as JSON

    def recordings_settings(self, dataset: str) -> str:
        """Return what generated recordings depend on."""
        known = self.dataset(dataset)
        assert isinstance(known, DemoDataset)
        return as_json(known.recordings)

    def pool_recordings_settings(self, pool: str) -> str:
        """Return what the recordings of a generated pool depend on."""
        known = self.config.resolve_pool(pool)
        assert isinstance(known, DemoPool)
        return as_json(known.recordings)

    def download_settings(self, dataset: str) -> str:
        """Return what a download depends on."""
        known = self.dataset(dataset)
        assert isinstance(known, DcaseDataset)
        return as_json(DownloadSettings(**known.model_dump(include=set(DownloadSettings.model_fields))))

    def listing_settings(self, dataset: str) -> str:
        """Return what the list of clips depends on."""
        return as_json(self.dataset(dataset).listing)

    def label_settings(self, dataset: str) -> str:
        """Return what the labelled manifest depends on."""
        return as_json(LabelSettings(listing=self.dataset(dataset).listing))

    def decoding_settings(self, dataset: str) -> str:
        """Return how files are decoded."""
        return as_json(self.dataset(dataset).decoding)

    def pool_listing_settings(self, pool: str) -> str:
        """Return what the list of external clips depends on."""
        return as_json(self.config.resolve_pool(pool).listing)

    def pool_decoding_settings(self, pool: str) -> str:
        """Return how the files of a pool are decoded."""
        return as_json(self.config.resolve_pool(pool).decoding)

    def training_settings(self, method: str) -> str:
        """Return what trainings depend on."""
        return as_json(self.method(method).training_settings())

    def network_settings(self, method: str) -> str:
        """Return what is trained, or embeds without training."""
        return as_json(NetworkSettings(network=self.method(method).network))

    def represent_settings(self, method: str) -> str:
        """Return what representatives depend on."""
        return as_json(self.method(method).represent_settings())

    def score_settings(self, method: str) -> str:
        """Return what scores depend on."""
        return as_json(self.method(method).score_settings())

    def select_settings(self, method: str) -> str:
        """Return what selections depend on."""
        return as_json(SelectSettings(external=self.method(method).external))

    def pseudo_label_settings(self, method: str) -> str:
        """Return what pseudo-labels depend on."""
        return as_json(PseudoLabelSettings(pseudo_labels=self.method(method).pseudo_labels))

    # ---------------------------------------------------------------- stages

    def train(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what a training takes: training clips, and from the stage before pseudo-labels and external clips.

        Stage 1 takes at most external clips drawn at random.
        """
        self._own("model", self.model_owner(method, int(stage)), dataset, method, seed, stage)
        settings, first = self.method(method), int(stage) == 1
        files: Inputs = self.split_files(dataset, "train")
        before = self._folder(dataset, method, seed, int(stage) - 1)
        if settings.pseudo_labels.enabled and not first:
            files["pseudo_labels"] = f"{before}/pseudo_labels.parquet"
        pool = self.pool(dataset, method)
        if pool and (not first or settings.draws_first):
            files["selected"] = f"{before}/selected.parquet"
            packed = self.config.resolve_pool(pool).packed
            for name, file in (("pool_index", "waveforms.parquet"), ("pool_samples", "waveforms.int16")):
                files[name] = self.packed_shards(pool, file) if packed else f"{before}/selected_{file}"
        if not first and not files.keys() & {"pseudo_labels", "selected"}:
            raise UserError(
                f"{method} has no stage {stage} on {dataset}: it takes external clips only, and the data set has no "
                f"pool (datasets.{dataset}.pool), so every stage is the same"
            )
        return files

    def split_files(self, dataset: str, split: str) -> Inputs:
        """Return list and packed clips of a split."""
        folder = f"results/data/{dataset}/{split}"
        return {
            "clips": f"{folder}/clips.parquet",
            "index": f"{folder}/waveforms.parquet",
            "samples": f"{folder}/waveforms.int16",
        }

    def embed(self, dataset: str, method: str, seed: str, stage: str, split: str) -> Inputs:
        """Return what embeddings are made from: the clips of a split, and the model if there is one."""
        self._own("embeddings", self.model_owner(method, int(stage)), dataset, method, seed, stage)
        files = self.split_files(dataset, split)
        if self.method(method).training.trains:
            folder = self._folder(dataset, method, seed, stage)
            files |= {"weights": f"{folder}/model.safetensors", "description": f"{folder}/model.json"}
        return files

    def train_embeddings(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return the training clips and their embeddings."""
        clips = f"results/data/{dataset}/train/clips.parquet"
        return {"clips": clips, "embeddings": f"{self.model(dataset, method, seed, stage)}/embeddings/train.parquet"}

    def represent(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what representatives are made from."""
        owner = self.representatives_owner(method, int(stage))
        self._own("representatives", owner, dataset, method, seed, stage)
        return self.train_embeddings(dataset, method, seed, stage)

    def representatives(self, dataset: str, method: str, seed: str, stage: str) -> str:
        """Return the representatives of a stage."""
        owner = self.representatives_owner(method, int(stage))
        return f"{self._folder(dataset, owner, seed, stage)}/representatives.parquet"

    def score(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what scores are made from: clips and embeddings of both splits, and representatives if they count."""
        self._own("scores", self.scores_owner(method, int(stage)), dataset, method, seed, stage)
        model = self.model(dataset, method, seed, stage)
        files: Inputs = {}
        for split in ("train", "test"):
            files[f"{split}_clips"] = f"results/data/{dataset}/{split}/clips.parquet"
            files[f"{split}_embeddings"] = f"{model}/embeddings/{split}.parquet"
        if self.method(method).inference.backend.by_representatives:
            files["representatives"] = self.representatives(dataset, method, seed, stage)
        return files

    def scores(self, dataset: str, method: str, seed: str | int, stage: str) -> str:
        """Return the folder with scores and thresholds of a stage.

        Raises:
            UserError: there is no such stage.
        """
        if int(stage) < 1:
            raise UserError("There is no stage 0: stages begin with 1, e.g. results/stage1/auc.csv")
        return self._folder(dataset, self.scores_owner(method, int(stage)), str(seed), stage)

    def score_external(self, dataset: str, method: str, seed: str, stage: str, shard: str) -> Inputs:
        """Return what scores of a shard are made from: model, representatives, packed clips or their list."""
        owner = self.representatives_owner(method, int(stage))
        self._own("scores of external clips", owner, dataset, method, seed, stage)
        model, pool = self.model(dataset, method, seed, stage), self.required_pool(dataset)
        files: Inputs = {
            "weights": f"{model}/model.safetensors",
            "description": f"{model}/model.json",
            "representatives": f"{self._folder(dataset, method, seed, stage)}/representatives.parquet",
        }
        if not self.config.resolve_pool(pool).packed:
            return files | {"pool_clips": f"results/external/{pool}/clips.parquet"}
        folder = f"results/external/{pool}/{shard}"
        return files | {"index": f"{folder}/waveforms.parquet", "samples": f"{folder}/waveforms.int16"}

    def selected_from(self, dataset: str) -> str:
        """Return the list of the clips that a selection names."""
        return f"results/external/{self.required_pool(dataset)}/clips.parquet"

    def required_pool(self, dataset: str) -> str:
        """Return the pool of a data set.

        Raises:
            UserError: it has none.
        """
        pool = self.dataset(dataset).pool
        if pool is None:
            raise UserError(f"datasets.{dataset}.pool is not set: name the pool that external clips come from")
        return pool

    def external_score_settings(self, dataset: str, method: str) -> str:
        """Return what scores of external clips depend on."""
        pool = self.config.resolve_pool(self.required_pool(dataset))
        similarity = self.method(method).inference.similarity
        return as_json(ExternalScoreSettings(decoding=pool.decoding, similarity=similarity))

    def selected_settings(self, dataset: str) -> str:
        """Return how the files of a data set's pool are decoded."""
        return self.pool_decoding_settings(self.required_pool(dataset))

    def select(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what external clips are selected from; stage 0 draws those of stage 1 at random."""
        pool, settings = self.required_pool(dataset), self.method(method)
        files: Inputs = {
            "pool_clips": f"results/external/{pool}/clips.parquet",
            "pool_index": self.packed_shards(pool, "waveforms.parquet"),
        }
        if int(stage) == 0:
            return files | {"clips": f"results/data/{dataset}/train/clips.parquet"}
        files["representatives"] = self.representatives(dataset, method, seed, stage)
        if settings.external.selection == "score":
            folder = self._folder(dataset, self.representatives_owner(method, int(stage)), seed, stage)
            shards = range(self.config.resolve_pool(pool).shards)
            files["scores"] = [f"{folder}/external/{shard}.parquet" for shard in shards]
        return files

    # ---------------------------------------------------------------- results

    def evaluate(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what a seed's auc.csv is made from."""
        folder = self.scores(dataset, method, seed, stage)
        return {"clips": f"results/data/{dataset}/clips.parquet", "scores": f"{folder}/scores.parquet"}

    def scoring(self, dataset: str) -> str:
        """Return the formula of the official score."""
        return self.dataset(dataset).official

    def submission(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what a submission is made from."""
        folder = self.scores(dataset, method, seed, stage)
        return self.evaluate(dataset, method, seed, stage) | {"thresholds": f"{folder}/thresholds.parquet"}

    def summarize(self, stage: str) -> Inputs:
        """Return what results/stage{stage} is made from: all seeds; to compare with, the baseline and earlier stages.

        Raises:
            UserError: the configuration has no such stage.
        """
        config, number = self.config, int(stage)
        if number > config.stages:
            raise UserError(
                f"results/stage{stage}: the configuration has {config.stages} stages (stages: {config.stages}), "
                f"results/stage1 to results/stage{config.stages}; add --config stages={stage}"
            )
        auc = [f"{self._folder(config.dataset, config.method, str(seed), stage)}/auc.csv" for seed in config.seeds]
        folders = [self.scores(config.dataset, config.method, seed, stage) for seed in config.seeds]
        others = [f"results/stage{earlier}/auc.csv" for earlier in range(1, number)]
        if config.yardstick is not None:
            others.insert(0, f"{self._folder(config.dataset, config.yardstick, str(config.seeds[0]), 1)}/auc.csv")
        return {
            "clips": f"results/data/{config.dataset}/clips.parquet",
            "aucs": auc,
            "scores": [f"{folder}/scores.parquet" for folder in folders],
            "thresholds": [f"{folder}/thresholds.parquet" for folder in folders],
            "others": others,
        }

    # ---------------------------------------------------------------- the paper's tables

    @cached_property
    def table_datasets(self) -> Sequence[str]:
        """The data sets of the tables."""
        return self.config.tables.datasets or [self.config.dataset]

    def table_runs(self, table: str, dataset: str) -> list[paper.Run]:
        """Return the runs of a table that are asked for; without a pool, not those that take external clips.

        Raises:
            UserError: no such table.
        """
        asked_for, pool = self.config.tables.methods, self.dataset(dataset).pool
        runs = [run for run in paper.runs(table) if asked_for is None or run.method in asked_for]
        return [run for run in runs if pool or not self.method(run.method).takes_external]

    def table(self, table: str) -> Inputs:
        """Return the results of every run and seed of a table, and the selections that make Table 4's groups."""
        aucs = [
            f"{self._folder(dataset, run.method, str(seed), run.stage)}/auc.csv"
            for dataset in self.table_datasets
            for run in self.table_runs(table, dataset)
            # What is not trained is the same for every seed.
            for seed in self.config.seeds[: None if self.method(run.method).training.trains else 1]
        ]
        folders = [self._folder(dataset, "ba_ex", str(seed), 1) for dataset, seed in self._groups(table)]
        return {"aucs": aucs, "selected": [f"{folder}/selected.parquet" for folder in folders]}

    def _groups(self, table: str) -> list[tuple[str, int]]:
        """Return data set and seed of each selection whose N_out makes the groups of Table 4."""
        datasets = [name for name in self.table_datasets if self.dataset(name).pool and self.table_runs(table, name)]
        return [(dataset, seed) for dataset in datasets for seed in self.config.seeds] if table == "4" else []

    def selected_of(self, table: str) -> list[str]:
        """Return the data set of each selection of ``table``."""
        return [dataset for dataset, _ in self._groups(table)]

    def table_years(self) -> str:
        """Return the year of every data set as JSON, in the order of the columns."""
        return json.dumps({name: self.dataset(name).year for name in self.table_datasets})

    def table_n_max(self, table: str) -> str:
        """Return N_max of the methods of Table 4 as JSON; the others do not print it."""
        methods = [run.method for run in paper.runs("4")] if table == "4" else []
        limits = {name: self.method(name).external.n_max for name in methods if self.method(name).takes_external}
        return canonical_json(limits)


def as_json(settings: Section) -> str:
    """Return the settings of a step as JSON, the same whatever the order of keys."""
    return canonical_json(settings.model_dump(mode="json"))
