"""Which file feeds which: the inputs and settings of every rule, and who owns what methods share.

A result that several methods have in common is made once, in the folder of its owner; the others read it there.
"""

from functools import cache
from pathlib import Path

from asdpipe.config.base import as_json
from asdpipe.config.checks import check_method
from asdpipe.config.method import Method
from asdpipe.config.schema import Config
from asdpipe.config.steps import POOL_STEPS, step_settings
from asdpipe.data_plan import DataPlan, Inputs
from asdpipe.errors import UserError
from asdpipe.method.data_size import AUTO
from asdpipe.report.runs import find_runs, report_files, shown_run

STAGE = "results/{dataset}/{method}/seed{seed}/stage{stage}"


class Plan(DataPlan):
    """The plan of a configuration.

    Args:
        config: validated; names are those of the data sets, pools and methods that it has.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.methods = {name: config.resolve_method(name) for name in config.methods}
        self.last_stage = config.stages if self.iterates(config.method) else 1

    def check(self) -> None:
        """Find missing folders and impossible runs before the first job starts.

        Raises:
            UserError: a folder is missing, or the data set cannot be trained on.
        """
        name, method = self.config.dataset, self.config.method
        for split in ("train", "test"):
            for member in self.members(name, split):
                self.sources(member, split)
        for fused in self.config.fused(method):
            self._check_classes(name, fused)
            pool = self.pool(name, fused)
            if pool is not None:
                self._check_pool(pool)

    def _check_classes(self, dataset: str, method: str) -> None:
        """Refuse a stage 1 that would have one class only.

        Raises:
            UserError: names the ways out.
        """
        settings, machines = self.method(method), self.machine_types(dataset)
        has_external = self.pool(dataset, method) is not None and settings.draws_first
        if len(machines) > 1 or not settings.uses_classes or not settings.labels.by_machine or has_external:
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

    # ---------------------------------------------------------------- methods and their owners

    def pool(self, dataset: str, method: str) -> str | None:
        """Return the pool that a method takes external clips from, or None."""
        return self.dataset(dataset).pool if self.method(method).takes_external else None

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
        """Return the folder with model and embeddings of a stage; without training, those of the first seed."""
        owner = self.model_owner(method, int(stage))
        return self.folder(dataset, owner, self.model_seed(method, seed), stage)

    def model_seed(self, method: str, seed: str) -> str:
        """Return the seed whose embeddings a method uses: what is not trained is the same for every seed."""
        return seed if self.method(method).training.trains else str(self.config.seeds[0])

    def pretrained(self, dataset: str, method: str) -> str | None:
        """Return the file of a network's pre-trained weights: a checkpoint, or the model of a pre-training method."""
        name = self.method(method).network.pretrained
        if name is None:
            return None
        if name in self.config.checkpoints:
            return f"results/checkpoints/{name}/weights.safetensors"
        # All seeds and methods share one pre-training.
        return f"{self.model(dataset, name, str(self.config.seeds[0]), '1')}/model.safetensors"

    @cache  # noqa: B019 (there is one plan)
    def candidates_owner(self, method: str) -> str:
        """Return the method that ranks the candidates of Top-M labels: a parent with the same, or the method itself."""
        return self.config.owner_of_candidates(method)

    def folder(self, dataset: str, method: str, seed: str, stage: str | int) -> str:
        """Return the folder of a method's own results of a stage."""
        return STAGE.format(dataset=dataset, method=method, seed=seed, stage=stage)

    def _check_stage(self, method: str, stage: str) -> None:
        """Refuse a stage that a method does not have.

        Raises:
            UserError: says what the method lacks.
        """
        if int(stage) < 1:
            raise UserError("There is no stage 0: stages begin with 1, e.g. results/stage1/auc.csv")
        if int(stage) > 1 and not self.iterates(method):
            raise UserError(
                f"{method} has no stage {stage}, only stage 1: without pseudo-labels and external clips "
                "(pseudo_labels.enabled, external.enabled with n_max above 0 and a pool) every stage is the same"
            )

    def _own(self, what: str, owner: str, dataset: str, method: str, seed: str, stage: str) -> None:
        """Refuse to make again what another method owns.

        Raises:
            UserError: names the folder of the owner.
        """
        self._check_stage(method, stage)
        if self.method(method).fusion:
            raise UserError(f"{method} fuses the scores of other methods and has no {what}")
        if owner != method:
            folder = self.folder(dataset, owner, seed, stage)
            raise UserError(f"stage {stage} of {method} has the {what} of {owner}; ask for the files in {folder}")

    # ---------------------------------------------------------------- settings

    def settings(self, step: str, *, dataset: str = "", pool: str = "", method: str = "", checkpoint: str = "") -> str:
        """Return all settings that the results of a step depend on, as JSON that does not depend on the order of keys.

        Args:
            dataset, pool, method, checkpoint: those that the step's rule is about.
        """
        known = self.dataset(dataset) if dataset else None
        from_pool = self.config.resolve_pool(pool or self.required_pool(dataset)) if step in POOL_STEPS else None
        weights = self.config.resolve_checkpoint(checkpoint) if checkpoint else None
        of_method = self.method(method) if method else None
        return as_json(step_settings(step, known, from_pool, of_method, weights, self.config.monitor))

    # ---------------------------------------------------------------- stages

    def train(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what a training takes: training clips, and from the stage before pseudo-labels and external clips.

        Stage 1 takes at most external clips drawn at random.
        """
        self._own("model", self.model_owner(method, int(stage)), dataset, method, seed, stage)
        check_method(self.config, dataset, method)
        settings, first = self.method(method), int(stage) == 1
        if first:
            self._check_classes(dataset, method)
        files: Inputs = self.split_files(dataset, "train")
        if pretrained := self.pretrained(dataset, method):
            files["pretrained"] = pretrained
        if settings.candidates is not None:
            owner = self.candidates_owner(method)
            files["candidates"] = f"{self.folder(dataset, owner, seed, 0)}/pseudo_labels.parquet"
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

    def embed(self, dataset: str, method: str, seed: str, stage: str, split: str) -> Inputs:
        """Return what embeddings are made from: the clips of a split, and the model if there is one."""
        self._own("embeddings", self.model_owner(method, int(stage)), dataset, method, seed, stage)
        check_method(self.config, dataset, method)
        if (first := self.model_seed(method, seed)) != seed:
            raise UserError(f"{method} is not trained: its embeddings are the same for all seeds; ask for seed {first}")
        files = self.split_files(dataset, split)
        return files | self.network_files(dataset, method, seed, stage)

    def network_files(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what the network of a stage is loaded from: a trained model, pre-trained weights, or both."""
        settings, files = self.method(method), Inputs()
        if settings.training.trains:
            folder = self.model(dataset, method, seed, stage)
            files |= {"weights": f"{folder}/model.safetensors", "description": f"{folder}/model.json"}
        if not settings.training.trains or settings.network.has_adapters:
            pretrained = self.pretrained(dataset, method)
            files |= {"pretrained": pretrained} if pretrained else {}
        return files

    def rank_labels(self, dataset: str, method: str, seed: str) -> Inputs:
        """Return what the candidates of Top-M labels are ranked by: training clips, and embeddings of another method.

        Raises:
            UserError: the method has no such labels, or another one owns them.
        """
        candidates = self.method(method).candidates
        if candidates is None:
            raise UserError(f"{method} has no candidate labels: its classes are not made of them (labels: top_m)")
        owner = self.candidates_owner(method)
        if owner != method:
            folder = self.folder(dataset, owner, seed, 0)
            raise UserError(f"{method} has the candidates of {owner}; ask for the files in {folder}")
        files = self.split_files(dataset, "train")
        if candidates.latent is not None:
            stage = str(candidates.latent_stage)
            self._check_stage(candidates.latent, stage)
            files["embeddings"] = f"{self.model(dataset, candidates.latent, seed, stage)}/embeddings/train.parquet"
        return files

    def train_embeddings(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return the training clips and their embeddings."""
        clips = self.clips(dataset, "train")
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
            files[f"{split}_clips"] = self.clips(dataset, split)
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

    def calibrate(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what calibration scores are made from: what scores are, with held-out instead of test clips."""
        self._own("calibration", self.scores_owner(method, int(stage)), dataset, method, seed, stage)
        scored = self.score(dataset, method, seed, stage)
        files: Inputs = {name: file for name, file in scored.items() if not name.startswith("test_")}
        files["calibration_clips"] = self.clips(dataset, "calibration")
        embeddings = f"{self.model(dataset, method, seed, stage)}/embeddings/calibration.parquet"
        return files | {"calibration_embeddings": embeddings}

    @property
    def fusions(self) -> list[str]:
        """The methods that fuse the scores of others."""
        return [name for name, method in self.methods.items() if method.fusion]

    def iterates(self, method: str) -> bool:
        """Return whether a method, or one that it fuses, has stages after the first."""
        return any(self.method(each).iterates for each in self.config.fused(method))

    def fuse_scores(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what fused scores are made from: scores of the same stage, or of stage 1 where there is no other.

        What is not trained has the scores of the first seed.
        """
        self._check_stage(method, stage)
        fusion, first = self.method(method).fusion, str(self.config.seeds[0])
        assert fusion is not None
        folders = [
            self.scores(
                dataset,
                each,
                seed if any(self.method(part).training.trains for part in self.config.fused(each)) else first,
                stage if self.iterates(each) else "1",
            )
            for each in fusion.methods
        ]
        files: Inputs = {f"{split}_clips": self.clips(dataset, split) for split in ("train", "test")}
        return files | {"scores": [f"{folder}/scores.parquet" for folder in folders]}

    def score_external(self, dataset: str, method: str, seed: str, stage: str, shard: str) -> Inputs:
        """Return what scores of a shard are made from: model, representatives, packed clips or their list."""
        owner = self.representatives_owner(method, int(stage))
        self._own("scores of external clips", owner, dataset, method, seed, stage)
        pool, files = self.required_pool(dataset), self.network_files(dataset, method, seed, stage)
        files["representatives"] = f"{self.folder(dataset, method, seed, stage)}/representatives.parquet"
        if not self.config.resolve_pool(pool).packed:
            return files | {"pool_clips": f"results/external/{pool}/clips.parquet"}
        folder = f"results/external/{pool}/{shard}"
        return files | {"index": f"{folder}/waveforms.parquet", "samples": f"{folder}/waveforms.int16"}

    def selected_from(self, dataset: str) -> str:
        """Return the list of the clips that a selection names."""
        return f"results/external/{self.required_pool(dataset)}/clips.parquet"

    def select(self, dataset: str, method: str, seed: str, stage: str) -> Inputs:
        """Return what external clips are selected from; stage 0 draws those of stage 1 at random."""
        pool, settings = self.required_pool(dataset), self.method(method)
        files: Inputs = {
            "pool_clips": f"results/external/{pool}/clips.parquet",
            "pool_index": self.packed_shards(pool, "waveforms.parquet"),
        }
        if int(stage) == 0 or settings.external.n_max == AUTO:
            files["clips"] = self.clips(dataset, "train")
        if settings.external.n_max == AUTO:
            files["index"] = self.split_files(dataset, "train")["index"]
        if int(stage) == 0:
            return files
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

    def report(self) -> list[str]:
        """Return what a report is made from: what is there of the configured data set.

        Absolute paths are nobody's output to Snakemake, so that a report makes nothing again.

        Raises:
            UserError: no run is finished.
        """
        results, dataset = Path("results").absolute(), self.config.dataset
        shown_run(find_runs(results, dataset), self.config.method)
        return [str(file) for file in report_files(results, dataset)]

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
        files: Inputs = {
            "clips": f"results/data/{config.dataset}/clips.parquet",
            "aucs": auc,
            "scores": [f"{folder}/scores.parquet" for folder in folders],
            "thresholds": [f"{folder}/thresholds.parquet" for folder in folders],
            "others": others,
        }
        # A fusion has no calibration of its own.
        if config.monitor.holdout and config.method not in self.fusions:
            files["calibrations"] = [f"{folder}/calibration.parquet" for folder in folders]
        return files
