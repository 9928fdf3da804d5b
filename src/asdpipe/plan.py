"""Which file feeds which: the inputs and settings of every rule, and who owns what methods share.

A result that several methods have in common is made once, in the folder of its owner; the others read it there.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from asdpipe.config.base import as_json
from asdpipe.config.data import Dataset, DemoDataset
from asdpipe.config.method import Method
from asdpipe.config.pools import DemoPool
from asdpipe.config.schema import Config
from asdpipe.config.steps import POOL_STEPS, step_settings
from asdpipe.errors import UserError

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
        name, method = self.config.dataset, self.config.method
        for split in ("train", "test"):
            self.sources(name, split)
        self._check_classes(name, method)
        pool = self.pool(name, method)
        if pool is not None:
            self._check_pool(pool)

    def _check_classes(self, dataset: str, method: str) -> None:
        """Refuse a stage 1 that would have one class only.

        Raises:
            UserError: names the ways out.
        """
        known, settings = self.dataset(dataset), self.method(method)
        machines = known.machine_types(self.dataset_root(dataset))
        has_external = self.pool(dataset, method) is not None and settings.draws_first
        if len(machines) > 1 or not settings.training.uses_classes or not settings.labels.by_machine or has_external:
            return
        message = (
            f"datasets.{dataset}: has one machine type only ({machines[0]}), so method {method} has nothing to tell "
            f"apart. Record other machine types, too; or name a pool (datasets.{dataset}.pool) and set "
            "external.first_stage: random; or take a method that trains on no classes (method: raw_logmel or "
            "autoencoder)"
        )
        raise UserError(message)

    def _check_pool(self, pool: str) -> None:
        """Look for the folder of the pool that the configured method takes external clips from.

        Raises:
            UserError: it is not there, or holds no pool; names the ways out.
        """
        try:
            self.pool_sources(pool)
        except UserError as error:
            message = (
                f"{error}\nMethod {self.config.method} takes external clips from there. Give another folder "
                f"(pools.{pool}.root), take a method without external clips (method: ba_trp_ps), or do without them "
                f"(datasets.{self.config.dataset}.pool: null)"
            )
            raise UserError(message) from None

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
        lists = [f"results/data/{dataset}/{split}/clips.parquet" for split in self.splits(dataset)]
        if known.fetched:
            return {"lists": lists, "truth": []}
        folder = Path(truth) if truth else None
        return {"lists": lists, "truth": known.listing.truth_files(self.dataset_root(dataset), folder)}

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

    def shard_contents(self, pool: str, shard: str, recorded: str) -> str:
        """Return what tells whether a packed shard must be packed again: other clips, another text.

        One more file changes the manifest of the whole pool, but one shard.

        Args:
            recorded: what this function returned when the shard was packed.
        """
        # Most plans ask for no shard, and start faster without this.
        from asdpipe.artifacts.tables import read_facts

        index = Path(f"results/external/{pool}/{shard}/waveforms.parquet")
        if pool in self.generated_pools or not index.exists():
            return recorded
        listed = self._shards(pool)[int(shard)]
        try:
            facts = read_facts(index)
        except UserError:
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
        from asdpipe.data.pools.files import shard_digests

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

    @cache  # noqa: B019 (there is one plan)
    def model_owner(self, method: str, stage: int) -> str:
        """Return the method that trains the model of a stage: its stage 1, or all stages, may be another method's."""
        return self.config.owner_of_first_model(method) if stage == 1 else self.config.owner_of_models(method)

    @cache  # noqa: B019 (there is one plan)
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
        return self.folder(dataset, self.model_owner(method, int(stage)), seed, stage)

    def folder(self, dataset: str, method: str, seed: str, stage: str | int) -> str:
        """Return the folder of what is a method's own in a stage."""
        return STAGE.format(dataset=dataset, method=method, seed=seed, stage=stage)

    def _check_stage(self, method: str, stage: str) -> None:
        """Refuse a stage that a method does not have.

        Raises:
            UserError: says what the method lacks.
        """
        if int(stage) < 1:
            raise UserError("There is no stage 0: stages begin with 1, e.g. results/stage1/auc.csv")
        if int(stage) > 1 and not self.method(method).iterates:
            raise UserError(
                f"{method} has no stage {stage}, only stage 1: without pseudo-labels and external clips "
                "(pseudo_labels.enabled, external.enabled with n_max above 0 and a pool) every stage is the same"
            )

    def _own(self, what: str, owner: str, dataset: str, method: str, seed: str, stage: str) -> None:
        """Refuse to make once more what another method owns.

        Raises:
            UserError: names the folder of the owner.
        """
        self._check_stage(method, stage)
        if owner != method:
            folder = self.folder(dataset, owner, seed, stage)
            raise UserError(f"stage {stage} of {method} has the {what} of {owner}; ask for the files in {folder}")

    # ---------------------------------------------------------------- settings

    def settings(self, step: str, *, dataset: str = "", pool: str = "", method: str = "") -> str:
        """Return all settings that the results of a step depend on, as JSON that does not depend on the order of keys.

        Args:
            dataset, pool, method: those that the step's rule is about.
        """
        known = self.dataset(dataset) if dataset else None
        from_pool = self.config.resolve_pool(pool or self.required_pool(dataset)) if step in POOL_STEPS else None
        return as_json(step_settings(step, known, from_pool, self.method(method) if method else None))

    # ---------------------------------------------------------------- stages

    def train(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what a training takes: training clips, and from the stage before pseudo-labels and external clips.

        Stage 1 takes at most external clips drawn at random.
        """
        self._own("model", self.model_owner(method, int(stage)), dataset, method, seed, stage)
        settings, first = self.method(method), int(stage) == 1
        if first:
            self._check_classes(dataset, method)
        files: Inputs = self.split_files(dataset, "train")
        before = self.folder(dataset, method, seed, int(stage) - 1)
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
            folder = self.folder(dataset, method, seed, stage)
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
        return f"{self.folder(dataset, owner, seed, stage)}/representatives.parquet"

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
        self._check_stage(method, stage)
        return self.folder(dataset, self.scores_owner(method, int(stage)), str(seed), stage)

    def score_external(self, dataset: str, method: str, seed: str, stage: str, shard: str) -> Inputs:
        """Return what scores of a shard are made from: model, representatives, packed clips or their list."""
        owner = self.representatives_owner(method, int(stage))
        self._own("scores of external clips", owner, dataset, method, seed, stage)
        model, pool = self.model(dataset, method, seed, stage), self.required_pool(dataset)
        files: Inputs = {
            "weights": f"{model}/model.safetensors",
            "description": f"{model}/model.json",
            "representatives": f"{self.folder(dataset, method, seed, stage)}/representatives.parquet",
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
            folder = self.folder(dataset, self.representatives_owner(method, int(stage)), seed, stage)
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
        auc = [f"{self.folder(config.dataset, config.method, str(seed), stage)}/auc.csv" for seed in config.seeds]
        folders = [self.scores(config.dataset, config.method, seed, stage) for seed in config.seeds]
        others = [f"results/stage{earlier}/auc.csv" for earlier in range(1, number)]
        if config.yardstick is not None:
            others.insert(0, f"{self.folder(config.dataset, config.yardstick, str(config.seeds[0]), 1)}/auc.csv")
        return {
            "clips": f"results/data/{config.dataset}/clips.parquet",
            "aucs": auc,
            "scores": [f"{folder}/scores.parquet" for folder in folders],
            "thresholds": [f"{folder}/thresholds.parquet" for folder in folders],
            "others": others,
        }
