"""The paper's published numbers, and its tables made of ours beside them."""
