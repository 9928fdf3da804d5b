"""The configuration of pre-trained checkpoints: where official files come from, and what they hold."""

from typing import Annotated, Any, Literal

from pydantic import Field

from asdpipe.config.base import Section

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CheckpointSettings(Section):
    """Settings of the import of a checkpoint."""

    layout: Literal["beats", "audio_mae", "ced"] = Field(description="Whose official layout the file has.")
    fine_tuned: bool = Field(
        False, description="Whether it was trained further, with a classifier; the other kind is refused."
    )
    url: str | None = Field(
        None, description="Address of the file; may contain {huggingface}, see download.huggingface."
    )
    sha256: Sha256 | None = Field(
        None, description="SHA-256 that the file must have; none: that of the first download."
    )


class Checkpoint(CheckpointSettings):
    """A checkpoint in an official layout."""

    file: str | None = Field(
        None, description="The file on disk, used instead of url; may contain {data_root}. None: it is fetched."
    )


_CED_TINY = "{huggingface}/mispeech/ced-tiny/resolve/main/model.safetensors"
# No lasting public address is known of the files of BEATs and AudioMAE.
KNOWN_CHECKPOINTS: dict[str, Any] = {
    "beats_iter3_plus_as2m": {"layout": "beats"},
    "beats_iter3_plus_as2m_finetuned": {"layout": "beats", "fine_tuned": True},
    "audio_mae_as2m": {"layout": "audio_mae"},
    "audio_mae_as2m_finetuned": {"layout": "audio_mae", "fine_tuned": True},
    "ced_tiny": {"layout": "ced", "fine_tuned": True, "url": _CED_TINY},
}
