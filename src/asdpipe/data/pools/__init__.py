"""External pools: AudioSet's layouts, and folders of audio files with a csv of labels."""
