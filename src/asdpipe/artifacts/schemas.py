"""Columns of every table: type, meaning and nullability."""

from typing import NamedTuple

import pyarrow as pa


class Column(NamedTuple):
    """A column of a table."""

    type: pa.DataType
    meaning: str
    nullable: bool = False


_CLIP = {
    "clip_id": Column(
        pa.string(), "path below the root of the data set or pool, in a union after the data set's name; unique"
    ),
    "path": Column(pa.string(), "path of the audio file"),
}
_MACHINE = {"machine": Column(pa.string(), "machine type")}
_SCORE = {"score": Column(pa.float64(), "anomaly score, -max cosine; larger is more anomalous (eq. 6)")}
_CLIP_ID = {"clip_id": _CLIP["clip_id"]}

COLUMNS: dict[str, dict[str, Column]] = {
    "clips": dict(
        **_CLIP,
        dataset=Column(pa.string(), "data set; in a union, the one that the clip comes from"),
        **_MACHINE,
        section=Column(pa.string(), "section, two digits"),
        domain=Column(pa.string(), "source or target; null when unknown", nullable=True),
        split=Column(
            pa.string(), "train, test, or supplemental (2025: clean or noise clips that nothing is trained on)"
        ),
        part=Column(pa.string(), "dev or eval"),
        is_normal=Column(pa.bool_(), "label; null when unknown", nullable=True),
        attributes=Column(pa.string(), "operating state as in the file name; null when unknown", nullable=True),
        sample_rate=Column(pa.int32(), "of the file, in Hz; null when its header cannot be read", nullable=True),
        num_frames=Column(pa.int64(), "of the file; null when its header cannot be read", nullable=True),
    ),
    "pool_clips": dict(
        **_CLIP,
        dataset=Column(pa.string(), "pool"),
        shard=Column(pa.int32(), "part of the pool that is packed and scored together"),
        mids=Column(pa.list_(pa.string()), "labels in the order of the segments csv"),
        display_names=Column(pa.list_(pa.string()), "their names"),
        row=Column(
            pa.int32(), "row within a parquet file of clips; null where the path is the clip's own file", nullable=True
        ),
    ),
    "waveforms": dict(
        **_CLIP_ID,
        offset=Column(pa.int64(), "first sample in waveforms.int16"),
        num_samples=Column(pa.int64(), "length at 16 kHz"),
    ),
    "skipped": {
        "path": Column(pa.string(), "path of the audio file"),
        "reason": Column(pa.string(), "why it was left out"),
    },
    "labels": dict(
        **_CLIP_ID,
        origin=Column(pa.string(), "original or external: the namespace of the class"),
        **_MACHINE,
        domain=Column(pa.string(), "source or target; external clips count as source"),
        class_name=Column(pa.string(), "name of the class within its namespace"),
        class_index=Column(pa.int32(), "index of the class, by namespace and name"),
    ),
    "embeddings": dict(
        **_CLIP_ID,
        embedding=Column(
            pa.list_(pa.float32()),
            "z_cat; raw_logmel: statistics of the log-mel spectrogram; autoencoder: mean squared error and squared "
            "Mahalanobis distances to source and target (NaN: no target clips)",
        ),
    ),
    "representatives": dict(
        **_MACHINE,
        domain=Column(pa.string(), "source or target"),
        representative=Column(pa.int32(), "index within the machine type"),
        clip_id=Column(
            pa.string(), "the clip that is its own representative, or the training clip nearest the centroid"
        ),
        threshold=Column(
            pa.float64(), "largest score of the machine type's training clips: external clips below it may be taken"
        ),
        vector=Column(pa.list_(pa.float32()), "the representative"),
    ),
    "scores": dict(
        **_CLIP_ID,
        **_SCORE,
        representative=Column(
            pa.int32(), "index of the machine type's nearest representative (or reference); null: none", nullable=True
        ),
        nearest_clip_id=Column(
            pa.string(), "training clip behind it; null: the score compares with none", nullable=True
        ),
    ),
    "thresholds": dict(
        **_MACHINE,
        threshold=Column(pa.float64(), "largest score of the machine type's training clips"),
        decision_threshold=Column(pa.float64(), "score above which a clip is called anomalous"),
    ),
    "calibration": dict(
        clip_id=Column(pa.string(), "of the clips that were held out; for asdpipe calibrate the path of the recording"),
        **_MACHINE,
        condition=Column(
            pa.string(),
            "domain, or other condition that limits depend on; null: all conditions together",
            nullable=True,
        ),
        **_SCORE,
    ),
    "references": dict(
        clip_id=Column(pa.string(), "path of the recording, with where its window begins if it was split"),
        **_MACHINE,
        domain=Column(pa.string(), "source or target: how a scorer that tells them apart uses it"),
        embedding=Column(pa.list_(pa.float32()), "as in the table embeddings"),
    ),
    "external_scores": dict(**_CLIP_ID, **_MACHINE, **_SCORE),
    "selected": dict(
        **_CLIP,
        mid=Column(pa.string(), "label: the first one listed"),
        display_name=Column(pa.string(), "its name"),
        **_MACHINE,
        score=Column(pa.float64(), "anomaly score for that machine type; null when drawn at random", nullable=True),
        rank=Column(pa.int32(), "1 for the machine type's most similar clip"),
        shard=Column(pa.int32(), "where the clip is packed"),
    ),
    "pseudo_labels": dict(
        **_CLIP_ID,
        **_MACHINE,
        domain=Column(pa.string(), "source or target"),
        rank=Column(pa.int32(), "1 for the clip's best candidate"),
        label=Column(pa.string(), "the candidate; of k-means the number of the cluster within machine type and domain"),
        confidence=Column(
            pa.float64(), "probability, or distance with its sign changed; null for k-means", nullable=True
        ),
    ),
}

# Meanings are stored as field metadata of the parquet files.
SCHEMAS: dict[str, pa.Schema] = {
    table: pa.schema(
        [pa.field(name, column.type, metadata={"doc": column.meaning}) for name, column in columns.items()]
    )
    for table, columns in COLUMNS.items()
}

# Allowed values by column name, in every table.
WORDS = {
    "domain": ("source", "target"),
    "split": ("train", "test", "supplemental"),
    "part": ("dev", "eval"),
    "origin": ("original", "external"),
}
# Columns that are unique together. Tables of pools are not checked: they may have millions of rows.
KEYS = {
    **dict.fromkeys(("clips", "embeddings", "scores", "calibration", "references", "selected"), ("clip_id",)),
    "pseudo_labels": ("clip_id", "rank"),
    "thresholds": ("machine",),
}
