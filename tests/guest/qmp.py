# SPDX-License-Identifier: Apache-2.0
"""QEMU's control socket (QMP): a JSON command a line, a JSON answer a line, events in between."""

import json
import socket
import time
from pathlib import Path


class QmpError(Exception):
    """QEMU refused a command, or closed the socket."""


class Qmp:
    """A connection to QEMU's control socket.

    Args:
        path: the socket, which QEMU may still be about to create.
        timeout: how long to wait for it, and for each answer, in seconds.

    Raises:
        QmpError: nobody listened in time.
    """

    def __init__(self, path: Path, timeout: float = 20.0) -> None:
        self._socket = connect(path, timeout)
        self._socket.settimeout(timeout)
        self._lines = self._socket.makefile("rb")
        self._receive()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> object:
        """Runs a command; returns what QEMU answers.

        Raises:
            QmpError: QEMU answered with an error, or not at all.
        """
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._receive()
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """Hangs up; QEMU goes on."""
        self._lines.close()
        self._socket.close()

    def _receive(self) -> dict[str, object]:
        line = self._lines.readline()
        if not line:
            raise QmpError("QEMU closed its control socket")
        answer: dict[str, object] = json.loads(line)
        return answer


def connect(path: Path, timeout: float) -> socket.socket:
    """Connects to a Unix socket that another process may still be about to create."""
    deadline = time.monotonic() + timeout
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            client.close()
            if time.monotonic() > deadline:
                raise QmpError(f"nobody listens on {path}") from error
            time.sleep(0.02)
        else:
            return client
