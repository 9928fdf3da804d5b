"""Download: recordings and ground truth of a DCASE data set."""

import json
import logging
from pathlib import Path

from asdpipe.artifacts.files import written
from asdpipe.config.base import read_settings
from asdpipe.config.data import Download, DownloadSettings
from asdpipe.data.dcase.archives import archives, ground_truth_files
from asdpipe.data.dcase.years import YEARS
from asdpipe.data.download.dcase import DcaseFolder, Mirrors
from asdpipe.errors import UserError
from asdpipe.steps.options import MirrorsJson, OutFile, Settings, Text

logger = logging.getLogger(__name__)


def download(name: Text, root: Text, settings: Settings, index: OutFile, mirrors: MirrorsJson = "{}") -> None:
    """Download and unpack what is missing of a DCASE data set.

    Args:
        name: of the data set, for messages; root: its folder; settings: DownloadSettings.
        index: JSON with year, archives and ground truth of the folder.

    Raises:
        UserError: no such year, or files that cannot be downloaded or unpacked; the others are kept.
    """
    wanted = read_settings(DownloadSettings, settings)
    if wanted.year not in YEARS:
        raise UserError(f"datasets.{name}: download needs the year of the challenge, {min(YEARS)} to {max(YEARS)}")
    year = wanted.year
    zips = archives(year, wanted.parts, wanted.machines)
    truth = ground_truth_files(year, wanted.machines, wanted.parts, wanted.revealed_attributes)
    folder = DcaseFolder(
        Path(root), Mirrors(**Download.model_validate_json(mirrors).model_dump(include=set(Mirrors._fields)))
    )
    with folder.locked():
        folder.check_year(year, {archive.record for archive in archives(year, ("dev", "eval"))})
        missing = [archive for archive in zips if folder.entry(archive) is None]
        logger.info("%s: %d of %d archives are there already", name, len(zips) - len(missing), len(zips))
        folder.fetch(truth, missing)
        folder.unpack(missing)
        entries = [folder.entry(archive) for archive in zips]
    listing = {"year": year, "archives": entries, "ground_truth": sorted(file.path for file in truth)}
    with written(index) as temporary:
        temporary.write_text(json.dumps(listing, indent=1, sort_keys=True) + "\n")
