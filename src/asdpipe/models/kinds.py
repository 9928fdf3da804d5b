"""The kinds of extractors, in a module of their own so that the configuration can use them without PyTorch."""

# Named, not imported, so that a step imports only the extractor that it uses.
EXTRACTORS = {
    "multi_resolution": "asdpipe.models.multi_resolution.MultiResolutionNetwork",
    "log_mel": "asdpipe.models.log_mel.LogMelStatistics",
    "autoencoder": "asdpipe.models.autoencoder.Autoencoders",
    "beats": "asdpipe.models.beats.Beats",
}
