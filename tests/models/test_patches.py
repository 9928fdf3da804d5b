"""Patches of the spectrogram: their number, and embeddings as means of tokens."""

import pytest
import torch

from asdpipe.models.patches import embedding_shape, num_patches, pooled


def test_ten_seconds_have_62_times_8_patches():
    assert (num_patches(160_000), num_patches(2800)) == (496, 8)


def test_shorter_clips_than_a_patch_are_refused_in_seconds():
    with pytest.raises(ValueError, match=r"clips of 0\.1 s are too short: .* needs 0\.175 s"):
        num_patches(1600)
    with pytest.raises(ValueError, match="too short"):
        num_patches(2799)


def test_embeddings_are_means_over_the_grid_of_tokens():
    grid = torch.randn(2, 5, 8, 3, generator=torch.Generator().manual_seed(0))
    tokens = grid.flatten(1, 2)
    torch.testing.assert_close(pooled(tokens, "band_mean"), torch.einsum("btfw,t->bfw", grid, torch.full((5,), 1 / 5)))
    torch.testing.assert_close(pooled(tokens, "mean")[:, 0], torch.einsum("btfw->bw", grid) / 40)
    for pooling in ("mean", "band_mean"):
        assert pooled(tokens, pooling).shape == (2, *embedding_shape(pooling, 3))
