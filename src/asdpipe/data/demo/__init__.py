"""Generated recordings: the demo's machine types and its external pool."""
