"""Errors that the user can fix."""


class UserError(Exception):
    """Invalid input or settings, shown without traceback. The message names the file or key, the reason and the fix."""


def short(text: str, most: int = 100) -> str:
    """Return external text on one line, cut to ``most`` characters, for use in a message."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= most else f"{line[:most]}..."
