"""What turns a waveform into an embedding, and trained models on disk."""
