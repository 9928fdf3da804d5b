"""Becoming another program in a fork, without its imports."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable


def become(main: Callable[[], None], arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Run a command's ``main`` in this process, which ends with it; never returns.

    Args:
        arguments: the command's name and arguments.
        environment, folder: the process has these instead of those of its parent.
    """
    os.environ.clear()
    os.environ.update(environment)
    # Forget what was found in the other environment.
    tempfile.tempdir = None
    os.chdir(folder)
    sys.argv = arguments
    code: object = None
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
