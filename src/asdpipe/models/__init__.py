"""Feature extractors (waveform to embedding), and saved models."""
