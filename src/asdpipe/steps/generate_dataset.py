"""Generate the demo data set."""

from asdpipe.artifacts.files import whole_folder
from asdpipe.config.base import read_settings
from asdpipe.config.data import DemoRecordings
from asdpipe.data.demo.machines import write_dataset
from asdpipe.steps.options import OutFolder, Settings


def generate_dataset(settings: Settings, folder: OutFolder) -> None:
    """Generate the demo data set."""
    demo = read_settings(DemoRecordings, settings)
    with whole_folder(folder) as temporary:
        write_dataset(
            temporary,
            seed=demo.demo.seed,
            clip_seconds=demo.clip_seconds,
            source_clips=demo.demo.source_clips,
            target_clips=demo.demo.target_clips,
            test_clips=demo.demo.test_clips,
        )
