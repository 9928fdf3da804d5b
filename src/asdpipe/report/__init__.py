"""The report of a run: one HTML file that shows results, plays clips and needs no network."""
