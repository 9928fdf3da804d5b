"""``python -m asdpipe``."""

from asdpipe.cli import main

main()
