"""Does the jobs of the tests' workflows in forks of one process that has imported what they need.

Most of a small job is its imports, seconds of them where it needs PyTorch. Run with the path of a Unix socket, to which
each tests/start_job.py sends its streams, arguments, environment and folder; it gets the job's pid and its exit code.
Ends with its standard input.
"""

import array
import importlib
import json
import os
import select
import signal
import socket
import sys

import scipy.stats  # noqa: F401
import sklearn.cluster  # noqa: F401

import asdpipe.cli
import asdpipe.config.targets
import asdpipe.models.build
from asdpipe.steps import STEPS
from tests.forks import become

for step in STEPS:
    importlib.import_module(f"asdpipe.steps.{step}")


def serve(connection: socket.socket) -> None:
    """Do one job, and answer."""
    size = array.array("i").itemsize
    head, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_LEN(3 * size))
    streams = array.array("i", ancillary[0][2])
    request = connection.makefile("rb").read(int.from_bytes(head, "big"))
    job = os.fork()
    if job == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        arguments, environment, folder = json.loads(request)
        become(asdpipe.cli.main, ["asdpipe", *arguments], environment, folder)
    connection.sendall(f"{job}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
    connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(16)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        # Forks that served are not waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                serve(connection)
                os._exit(0)
            connection.close()
