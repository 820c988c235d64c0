# SPDX-License-Identifier: Apache-2.0
"""The daemon under test, as a process.

OVFS_COMMAND replaces it by any other vhost-user-fs daemon, with {socket} and {dir} filled in, which
is how a test that fails is tried against another implementation. Options that a test asks for are
added to the default command only.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

_START_SECONDS = 20.0


class DaemonError(Exception):
    """The daemon did not start, or did not end well."""


class Daemon:
    """A daemon that serves a directory on a socket.

    Args:
        directory: what it serves.
        scratch: a directory for its socket and log.
        options: options of `ovfs`.

    Attributes:
        living: those that run.
    """

    living: ClassVar[set["Daemon"]] = set()

    def __init__(self, directory: Path, scratch: Path, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.socket = scratch / "share.sock"
        self.log = scratch / "daemon.log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def command_line(self) -> list[str]:
        """The command that starts it."""
        template = os.environ.get("OVFS_COMMAND")
        if template is not None:
            return shlex.split(template.format(socket=self.socket, dir=self.directory))
        url = f"fs://?root={self.directory}"
        return [sys.executable, "-m", "ovfs", str(self.socket), url, *self._options]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def start(self) -> None:
        """Starts it and waits until it listens.

        Raises:
            DaemonError: it ended, or took too long.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command_line(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.living.add(self)
        deadline = time.monotonic() + _START_SECONDS
        while not self.socket.is_socket():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise DaemonError(f"the daemon does not listen; its log: {self.log_tail()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise DaemonError("the daemon is not running")
        return self._process.pid

    def running(self) -> bool:
        """Says whether it is still there."""
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout: float = 15.0) -> None:
        """Ends it with SIGTERM.

        Raises:
            DaemonError: it had ended before, or did not end in time and with status 0.
        """
        process, self._process = self._process, None
        self.living.discard(self)
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        elif "OVFS_COMMAND" not in os.environ:  # others leave with their first VMM
            raise DaemonError(f"the daemon was gone: {process.returncode}; {self.log_tail()}")
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise DaemonError(f"SIGTERM did not end the daemon; {self.log_tail()}") from error
        if status != 0 and "OVFS_COMMAND" not in os.environ:
            raise DaemonError(f"the daemon ended with {status}; {self.log_tail()}")

    def kill(self) -> None:
        """Ends it at once."""
        self.living.discard(self)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None

    def log_tail(self, lines: int = 30) -> str:
        """The last lines it logged."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def probe(self) -> None:
        """Connects and hangs up, as a VMM's management does to see whether somebody listens."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))
