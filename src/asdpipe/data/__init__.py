"""Recordings: manifests, decoding, packed waveforms, data sets and pools."""
