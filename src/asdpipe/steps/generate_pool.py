"""Generate the demo's external pool."""

from asdpipe.artifacts.files import whole_folder
from asdpipe.config.base import read_settings
from asdpipe.config.pools import DemoPoolRecordings
from asdpipe.data.demo.pool import write_pool
from asdpipe.steps.options import OutFolder, Settings


def generate_pool(settings: Settings, folder: OutFolder) -> None:
    """Generate the demo's external pool."""
    demo = read_settings(DemoPoolRecordings, settings)
    with whole_folder(folder) as temporary:
        write_pool(
            temporary,
            seed=demo.demo.seed,
            clip_seconds=demo.clip_seconds,
            clips_per_class=demo.demo.clips_per_class,
        )
