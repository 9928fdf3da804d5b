"""Batches, training loop, checkpoints and the embedding pass."""
