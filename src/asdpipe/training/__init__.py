"""Training loops, batches, checkpoints and the embedding pass."""
