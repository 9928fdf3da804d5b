"""Step 1, manifest: which clips there are."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asdpipe.artifacts import write_table
from asdpipe.config import Dataset, Pool
from asdpipe.data import audioset, dcase
from asdpipe.steps.options import OutFile, OutFolder, Settings, Text

logger = logging.getLogger(__name__)


def demo_dataset(settings: Settings, folder: OutFolder) -> None:
    """Generate the demo data set."""
    # Only the demo needs the generator and what it imports.
    from asdpipe.data.demo import write_dataset

    dataset = Dataset.model_validate_json(settings)
    with _whole_folder(folder) as temporary:
        write_dataset(
            temporary,
            seed=dataset.demo.seed,
            clip_seconds=dataset.clip_seconds,
            source_clips=dataset.demo.source_clips,
            target_clips=dataset.demo.target_clips,
            test_clips=dataset.demo.test_clips,
        )


def demo_pool(settings: Settings, folder: OutFolder) -> None:
    """Generate the demo's external pool."""
    from asdpipe.data.demo_pool import write_pool

    pool = Pool.model_validate_json(settings)
    with _whole_folder(folder) as temporary:
        write_pool(
            temporary,
            seed=pool.demo.seed,
            clip_seconds=pool.clip_seconds,
            clips_per_class=pool.demo.clips_per_class,
        )


def manifest(name: Text, root: Text, settings: Settings, clips: OutFile) -> None:
    """List the clips of a data set.

    Args:
        name: of the data set; root: its folder; settings: uses machines.
    """
    dataset = Dataset.model_validate_json(settings)
    frame = dcase.list_clips(Path(root), name, dataset.machines)
    counts = frame.groupby(["part", "machine", "split", "domain", "is_normal"]).size()
    logger.info("%d clips of %d machine types\n%s", len(frame), frame.machine.nunique(), counts.to_string())
    write_table("clips", frame, clips)


def manifest_pool(name: Text, root: Text, settings: Settings, clips: OutFile) -> None:
    """List the clips of an external pool.

    Args:
        name: of the pool; root: its folder; settings: uses shards.
    """
    frame, remarks = audioset.list_clips(Path(root), name, Pool.model_validate_json(settings).shards)
    logger.info("%d external clips with %d labels", len(frame), frame.mids.str[0].nunique())
    for remark in remarks:
        logger.warning("%s: %s", root, remark)
    write_table("pool_clips", frame, clips)


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder and rename it to ``folder`` when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
