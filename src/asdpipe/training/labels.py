"""The labels of a stage: the class of every training clip, including external clips."""

import logging
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from asdpipe.errors import UserError
from asdpipe.method.classes import Clip, ClipClass, Labeller, PseudoLabels, class_indices

logger = logging.getLogger(__name__)


def assemble_labels(
    clips: pd.DataFrame,
    labeller: Labeller,
    pseudo_labels: pd.DataFrame | None = None,
    selected: pd.DataFrame | None = None,
    candidates: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[ClipClass]]:
    """Return the labels of a stage, one row per clip, and its classes in the order of their indices.

    Args:
        clips: rows of the training clips in clips.parquet.
        labeller: gives the classes, before pseudo-labels are added.
        pseudo_labels, selected: tables of the previous stage; None if there is none.
        candidates: ranked labels of the clips, a table pseudo_labels; None if the labeller uses none.

    Raises:
        UserError: a training clip lacks the attributes, the pseudo-label or the candidates that its class needs.
    """
    if labeller.needs_attributes and clips.attributes.isna().any():
        machines = ", ".join(sorted(set(clips.machine[clips.attributes.isna()])))
        message = (
            f"labels: attribute needs attributes for every training clip; {machines} lacks some; use labels: machine"
        )
        raise UserError(message)
    described = described_clips(clips)
    if labeller.num_candidates:
        described = with_candidates(described, candidates)
        log_fewer(described, labeller.num_candidates)
        warn_of_one_label(described, labeller)
    if pseudo_labels is not None:
        best = pseudo_labels[pseudo_labels["rank"] == 1]
        by_clip = dict(zip(best.clip_id, best.label, strict=True))
        check_complete(clips.clip_id, by_clip, "pseudo-labels of the previous stage")
        labeller = PseudoLabels(labeller, by_clip)
    classes = [labeller(clip) for clip in described]
    table = clips[["clip_id", "machine", "domain"]].assign(origin="original")
    if selected is not None and len(selected):
        external = selected[["clip_id", "machine"]].assign(domain="source", origin="external")
        table = pd.concat([table, external], ignore_index=True)
        pairs = zip(selected.machine, selected.mid, strict=True)
        classes += [ClipClass("external", machine, label=mid) for machine, mid in pairs]
    index, ordered = class_indices(classes)
    return table.assign(class_name=[clip_class.name for clip_class in classes], class_index=index), ordered


def described_clips(clips: pd.DataFrame) -> list[Clip]:
    """Return what the class of each clip may depend on; its section only where the machine type has several.

    Args:
        clips: rows of clips.parquet.
    """
    several_sections = clips.groupby("machine").section.nunique() > 1
    return [
        Clip(
            clip.clip_id,
            clip.machine,
            clip.section if several_sections[clip.machine] else None,
            clip.domain,
            None if pd.isna(clip.attributes) else clip.attributes,
        )
        for clip in clips.itertuples()
    ]


def with_candidates(clips: list[Clip], candidates: pd.DataFrame | None) -> list[Clip]:
    """Return clips with their candidates, the best first.

    Raises:
        UserError: there are no candidates, not those of every clip, or their ranks are not 1, 2, and so on.
    """
    if candidates is None:
        raise UserError("labels: top_m needs candidates: give --candidates, a table that rank_labels writes")
    ordered = candidates.sort_values(["clip_id", "rank"])
    if (ordered["rank"] != ordered.groupby("clip_id").cumcount() + 1).any():
        raise UserError("the ranks of the candidates of a clip are not 1, 2, and so on; delete them and run again")
    by_clip = {str(clip_id): tuple(labels) for clip_id, labels in ordered.groupby("clip_id").label}
    check_complete([clip.clip_id for clip in clips], by_clip, "candidates")
    return [clip._replace(candidates=by_clip[clip.clip_id]) for clip in clips]


def check_complete(clip_ids: Iterable[str], known: Iterable[str], what: str) -> None:
    """Check that every clip is known.

    Raises:
        UserError: names a missing clip.
    """
    if missing := sorted(set(clip_ids) - set(known)):
        message = f"the {what} lack {len(missing)} training clips, e.g. {missing[0]}"
        raise UserError(f"{message}; delete them and run again")


def log_fewer(clips: Iterable[Clip], m: int) -> None:
    """Log how many clips of each machine type have fewer than ``m`` candidates."""
    for machine, count in sorted(Counter(clip.machine for clip in clips if len(clip.candidates) < m).items()):
        logger.info("%s: %d clips have fewer than M = %d candidates; all of theirs are used", machine, count, m)


def warn_of_one_label(clips: Iterable[Clip], labeller: Labeller) -> None:
    """Warn of machine types whose clips have the same composite label."""
    found = sorted({labeller(clip) for clip in clips})
    for machine, count in Counter(each.machine for each in found).items():
        if count == 1:
            m = labeller.num_candidates
            logger.warning("%s: all clips have one composite label with M = %d: nothing to tell apart", machine, m)
