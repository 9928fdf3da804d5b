"""The paper's published numbers, our results, and tables with both."""
