"""The paper, one section per file; tensors and arrays only."""
