"""The labels of a stage: the class of every training clip, including external clips."""

import pandas as pd

from asdpipe.errors import UserError
from asdpipe.method.classes import Clip, ClipClass, Labeller, PseudoLabels, class_indices


def assemble_labels(
    clips: pd.DataFrame,
    labeller: Labeller,
    pseudo_labels: pd.DataFrame | None = None,
    selected: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[ClipClass]]:
    """Return the labels of a stage, one row per clip, and its classes in the order of their indices.

    Args:
        clips: rows of the training clips in clips.parquet.
        labeller: gives the classes, before pseudo-labels are added.
        pseudo_labels, selected: tables of the previous stage; None if there is none.

    Raises:
        UserError: a training clip lacks the attributes or the pseudo-label that its class needs.
    """
    if labeller.needs_attributes and clips.attributes.isna().any():
        machines = ", ".join(sorted(set(clips.machine[clips.attributes.isna()])))
        message = (
            f"labels: attribute needs attributes for every training clip; {machines} lacks some; use labels: machine"
        )
        raise UserError(message)
    if pseudo_labels is not None:
        by_clip = dict(zip(pseudo_labels.clip_id, pseudo_labels.cluster.astype(str), strict=True))
        if missing := sorted(set(clips.clip_id) - set(by_clip)):
            message = f"the pseudo-labels of the previous stage lack {len(missing)} training clips, e.g. {missing[0]}"
            raise UserError(f"{message}; delete them and run again")
        labeller = PseudoLabels(labeller, by_clip)
    several_sections = clips.groupby("machine").section.nunique() > 1
    classes = [
        labeller(
            Clip(
                clip.clip_id,
                clip.machine,
                clip.section if several_sections[clip.machine] else None,
                clip.domain,
                None if pd.isna(clip.attributes) else clip.attributes,
            )
        )
        for clip in clips.itertuples()
    ]
    table = clips[["clip_id", "machine", "domain"]].assign(origin="original")
    if selected is not None and len(selected):
        external = selected[["clip_id", "machine"]].assign(domain="source", origin="external")
        table = pd.concat([table, external], ignore_index=True)
        pairs = zip(selected.machine, selected.mid, strict=True)
        classes += [ClipClass("external", machine, label=mid) for machine, mid in pairs]
    index, ordered = class_indices(classes)
    return table.assign(class_name=[clip_class.name for clip_class in classes], class_index=index), ordered
