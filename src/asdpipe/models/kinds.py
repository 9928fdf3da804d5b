"""The kinds of extractors. Apart from ``build``, so that the configuration knows them without importing PyTorch."""

# By kind. Given by name: a step imports only the extractor that it uses.
EXTRACTORS = {
    "multi_resolution": "asdpipe.models.multi_resolution.MultiResolutionNetwork",
    "log_mel": "asdpipe.models.log_mel.LogMelStatistics",
    "autoencoder": "asdpipe.models.autoencoder.Autoencoders",
}
