"""Train anomalous-sound detectors without labels: the five-stage method, step by step."""
