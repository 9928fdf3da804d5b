"""The one exception whose message is written for the person who runs the program."""


class UserError(Exception):
    """Bad input or settings; the message names the file or key, the reason and what to do. Shown without traceback."""
