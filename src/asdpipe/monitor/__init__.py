"""Score new recordings with what the workflow has trained."""
