"""The one exception whose message is written for the person who runs the program."""


class UserError(Exception):
    """Bad input or settings; the message names the file or key, the reason and what to do. Shown without traceback."""


def short(text: str, most: int = 100) -> str:
    """Return text that others wrote as a message can hold it: on one line, not too long."""
    line = "".join(each if each.isprintable() else " " for each in text)
    return line if len(line) <= most else f"{line[:most]}..."
