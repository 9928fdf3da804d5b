"""Stands for ``python`` in a job of the tests: ``python -m asdpipe`` is done in a fork of tests/start_jobs.py."""

import array
import json
import os
import signal
import socket
import sys

if __name__ == "__main__":
    if sys.argv[1:3] != ["-m", "asdpipe"]:
        os.execv(os.environ["TEST_PYTHON"], [os.environ["TEST_PYTHON"], *sys.argv[1:]])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["TEST_JOBS"])
        request = json.dumps([sys.argv[3:], dict(os.environ), os.getcwd()]).encode()  # noqa: PTH109
        streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
        connection.sendmsg([len(request).to_bytes(8, "big")], streams)
        connection.sendall(request)
        answers = connection.makefile()
        pid = int(answers.readline())
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda number, _: os.kill(pid, number))
        sys.exit(int(answers.readline()))
