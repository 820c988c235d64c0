# SPDX-License-Identifier: Apache-2.0
"""A server as a process: started until it answers, paused, killed, started again on its data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTEMPTS: Final = 3


class ServiceError(Exception):
    """A server did not start; the message has the end of its log."""


def program(name: str) -> str:
    """Finds a program that came with the virtual environment, else one of the host's.

    Raises:
        ServiceError: There is neither.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServiceError(f"there is no program {name}: it comes with make build")
    return found


class Server(ABC):
    """A server with a scratch directory of its own. A context manager.

    Start it on a thread that outlives it: the kernel kills it when that thread ends, so that
    nothing stays behind when a test run is killed.

    Args:
        parent: Where its scratch directory is made; None: where temporary files go.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        self.scratch = Path(
            tempfile.mkdtemp(prefix=f"ovfs-{type(self).__name__.lower()}-", dir=parent)
        )
        self._process: subprocess.Popen[bytes] | None = None

    # What a kind of server provides

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line, with the ports of `_choose_ports`."""

    @abstractmethod
    def _choose_ports(self) -> None:
        """Takes free ports; called before the first start, and again when one was snatched."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether it answers requests as it should."""

    def _environment(self) -> Mapping[str, str]:
        return {}

    # Life

    def __enter__(self) -> Self:
        try:
            self.create()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def create(self) -> None:
        """Starts it for the first time.

        Raises:
            ServiceError: It does not come up.
        """
        for attempt in range(ATTEMPTS):
            self._choose_ports()
            try:
                self.start()
            except ServiceError:
                if attempt == ATTEMPTS - 1 or self.running:
                    raise
            else:
                break

    def start(self, timeout: float = 60.0) -> None:
        """Starts it on the data and the ports it has, and waits until it answers.

        Raises:
            ServiceError: It ended, or does not answer in time.
        """
        self.spawn()
        self.wait_ready(timeout)

    def spawn(self) -> None:
        """Starts it and does not wait."""
        assert self._process is None, "it is running"
        with (self.scratch / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.scratch,
                env={**os.environ, "HOME": str(self.scratch), **self._environment()},
            )

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Waits until it answers.

        Raises:
            ServiceError: It ended, or does not answer in time.
        """
        deadline = time.monotonic() + timeout
        while not self._ready():
            if not self.running:
                self.kill()
                raise ServiceError(f"{type(self).__name__} ended; its log: {self.log()}")
            if time.monotonic() > deadline:
                raise ServiceError(f"no answer after {timeout} s; its log: {self.log()}")
            time.sleep(0.02)

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def kill(self) -> None:
        """Ends it at once; its data stays for the next `start`."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self, timeout: float = 30.0) -> None:
        """Asks it to end and waits; its data stays for the next `start`."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def pause(self) -> None:
        """Stops it in its tracks: connections are accepted by the kernel, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        # Another thread may go on and answer until it sees the signal: reported once all have.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Ends a `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends it for good and removes its data."""
        self.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def log(self, size: int = 4000) -> str:
        """The end of what it wrote."""
        path = self.scratch / "log"
        return path.read_text(errors="replace")[-size:] if path.exists() else ""
