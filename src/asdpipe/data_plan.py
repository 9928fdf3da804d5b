"""Which files data sets, external pools and pre-trained weights are made of."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from asdpipe.config.data import Dataset, DemoDataset, Recorded, UnionDataset
from asdpipe.config.pools import DemoPool
from asdpipe.config.schema import Config
from asdpipe.data.unions import machine_name
from asdpipe.errors import UserError

Inputs = dict[str, str | list[str]]


class DataPlan:
    """The part of a plan that does not depend on methods.

    Args:
        config: validated; names are those of the data sets, pools and methods that it has.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    # ---------------------------------------------------------------- data sets

    def dataset(self, dataset: str) -> Dataset:
        """Return a data set.

        Raises:
            UserError: there is none of this name.
        """
        return self.config.resolve_dataset(dataset)

    def _recorded(self, dataset: str) -> Recorded:
        """Return a data set that has recordings of its own.

        Raises:
            UserError: it is united from others.
        """
        known = self.dataset(dataset)
        if isinstance(known, UnionDataset):
            raise UserError(f"datasets.{dataset}: has no recordings, but those of {', '.join(known.datasets)}")
        return known

    def dataset_root(self, dataset: str) -> Path:
        """Return the folder of the recordings."""
        return Path(self._recorded(dataset).root or f"results/data/{dataset}/recordings")

    def truth(self, dataset: str) -> str:
        """Return the folder with the labels of the evaluation test clips; empty: below the root, if there."""
        return self._recorded(dataset).ground_truth or ""

    def splits(self, dataset: str) -> list[str]:
        """Return the splits that are listed."""
        has_more = any(self.sources(member, "supplemental") for member in self.members(dataset, "supplemental"))
        return ["train", "test", "supplemental"] if has_more else ["train", "test"]

    def sources(self, dataset: str, split: str) -> list[str]:
        """Return the inputs that change when clips of a split are added or removed: a download's index, or folders."""
        known = self._recorded(dataset)
        if known.fetched:
            has_split = split != "supplemental" or known.has_supplemental
            return [f"results/data/{dataset}/download.json"] if has_split else []
        return known.listing.watched(self.dataset_root(dataset), split)

    def facts(self, dataset: str, split: str) -> str:
        """Return a digest of the csv rows about the clips of a split; "" for a download, which never changes."""
        known = self._recorded(dataset)
        if known.fetched:
            return ""
        truth = self.truth(dataset)
        return known.listing.facts(self.dataset_root(dataset), split, Path(truth) if truth else None)

    def labelled_from(self, dataset: str) -> Inputs:
        """Return what the labelled manifest is made from: the lists of all splits, and the ground truth."""
        known, truth = self._recorded(dataset), self.truth(dataset)
        lists = [f"results/data/{dataset}/{split}/clips.parquet" for split in self.splits(dataset)]
        if known.fetched:
            return {"lists": lists, "truth": []}
        folder = Path(truth) if truth else None
        return {"lists": lists, "truth": known.listing.truth_files(self.dataset_root(dataset), folder)}

    def machine_types(self, dataset: str) -> list[str]:
        """Return the machine types of a data set."""
        names = [
            self.machine_name(dataset, member, machine)
            for member in self.members(dataset, "train")
            for machine in self._recorded(member).machine_types(self.dataset_root(member))
        ]
        return list(dict.fromkeys(names))

    def members(self, dataset: str, split: str) -> Sequence[str]:
        """Return the data sets that the clips of a split are of: itself, unless it is united from others."""
        known = self.dataset(dataset)
        return known.members(split) if isinstance(known, UnionDataset) else [dataset]

    def machine_name(self, dataset: str, member: str, machine: str) -> str:
        """Return what a data set calls a machine type of one of its members."""
        known = self.dataset(dataset)
        return machine_name(member, machine, joined=known.joined) if isinstance(known, UnionDataset) else machine

    def united_from(self, dataset: str, part: str) -> list[str]:
        """Return the lists of its members that a list of a united data set is joined from.

        Args:
            part: a split followed by a slash; empty: all splits, with the labels of the test clips.
        """
        tested, files = self.members(dataset, "test"), []
        for member in self.members(dataset, "train"):
            if not part and member in tested:
                files.append(f"results/data/{member}/clips.parquet")
                continue
            splits = [split for split in self.splits(member) if split != "test" or member in tested]
            files += [f"results/data/{member}/{split}/clips.parquet" for split in splits if part in ("", f"{split}/")]
        return files

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
        return [
            name for name, dataset in self.config.datasets.items() if isinstance(dataset, Recorded) and dataset.fetched
        ]

    @property
    def united_datasets(self) -> list[str]:
        """The data sets that are united from others."""
        return [name for name, dataset in self.config.datasets.items() if isinstance(dataset, UnionDataset)]

    def num_samples(self, dataset: str) -> int:
        """Return the length that clips are tiled or cut to, in samples."""
        return self.dataset(dataset).num_samples

    def clips(self, dataset: str, split: str) -> str:
        """Return the list of the clips of a split: train, test, supplemental, or calibration (held-out training clips).

        Raises:
            UserError: no clips are held out.
        """
        holdout = self.config.monitor.holdout
        if split == "calibration" and not holdout:
            raise UserError(
                "there are no calibration clips, as monitor.holdout is 0: set it to a share of the training clips, or "
                "calibrate with other recordings (asdpipe calibrate)"
            )
        if holdout and split in ("train", "calibration"):
            return f"results/data/{dataset}/holdout/{split}.parquet"
        return f"results/data/{dataset}/{split}/clips.parquet"

    def split_files(self, dataset: str, split: str) -> Inputs:
        """Return list and packed clips of a split; held-out clips are packed with the training clips."""
        folder = f"results/data/{dataset}/{'train' if split == 'calibration' else split}"
        return {
            "clips": self.clips(dataset, split),
            "index": f"{folder}/waveforms.parquet",
            "samples": f"{folder}/waveforms.int16",
        }

    # ---------------------------------------------------------------- external pools

    def pool_root(self, pool: str) -> Path:
        """Return the folder of a pool."""
        return Path(self.config.resolve_pool(pool).root or f"results/external/{pool}/recordings")

    def pool_sources(self, pool: str) -> list[str]:
        """Return the folders and tables that change when clips or labels of a pool change."""
        return self.config.resolve_pool(pool).listing.watched(self.pool_root(pool))

    def shard_contents(self, pool: str, shard: str, recorded: str) -> str:
        """Return a text that changes with the clips of a shard, for the params of the rule that packs it.

        Adding a file changes the manifest of the whole pool, but the clips of one shard only.

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

    def required_pool(self, dataset: str) -> str:
        """Return the pool of a data set.

        Raises:
            UserError: it has none.
        """
        pool = self.dataset(dataset).pool
        if pool is None:
            raise UserError(f"datasets.{dataset}.pool is not set: name the pool that external clips come from")
        return pool

    # ---------------------------------------------------------------- pre-trained weights

    def import_checkpoint(self, checkpoint: str) -> Inputs:
        """Return the local file of a checkpoint; nothing if it is fetched.

        Raises:
            UserError: no such checkpoint, its file is not there, or neither file nor address is known.
        """
        file = self.config.resolve_checkpoint(checkpoint).file
        if file is not None and not Path(file).is_file():
            key = f"checkpoints.{checkpoint}.file"
            raise UserError(f"{file}: there is no such file ({key}); give the path of the checkpoint")
        return {} if file is None else {"file": file}
