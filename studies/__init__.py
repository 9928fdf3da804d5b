"""Studies: where training beats the nearest neighbour, on data between the toy and the paper's size."""
