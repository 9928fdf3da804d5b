"""Where sound comes from: manifests and waveforms."""
