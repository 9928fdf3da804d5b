"""The kinds of extractors, in a module of their own so that the configuration can use them without PyTorch."""

# Named, not imported, so that a step imports only the extractor that it uses.
EXTRACTORS = {
    "multi_resolution": "asdpipe.models.multi_resolution.MultiResolutionNetwork",
    "log_mel": "asdpipe.models.log_mel.LogMelStatistics",
    "autoencoder": "asdpipe.models.autoencoder.Autoencoders",
    "mfcc": "asdpipe.models.mfcc.MfccStatistics",
    "beats": "asdpipe.models.beats.Beats",
    "audio_mae": "asdpipe.models.audio_mae.AudioMae",
    "masked_audio_mae": "asdpipe.models.masked_audio_mae.MaskedAudioMae",
    "ced": "asdpipe.models.ced.Ced",
}
# Arguments in which a network may differ from the one that its pre-trained weights come from.
FREE = {"kind", "layer", "pooling", "lora", "frames"}
