"""The methods of the papers, on tensors and arrays only."""
