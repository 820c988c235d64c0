# SPDX-License-Identifier: Apache-2.0
"""A vhost-user-fs daemon as a process: started, watched, stopped.

The command is a template with {socket} and {dir}; `OVFS_COMMAND` in the environment replaces the
default one, so that every test can be tried with another daemon.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.vmm import procstat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent.parent
OVFS: Final = (sys.executable, "-m", "ovfs", "{socket}", "fs://?root={dir}")
# Its way to lock itself in has no part in how it serves; this one works in a chroot as well.
VIRTIOFSD: Final = (
    *("/usr/lib/qemu/virtiofsd", "--socket-path={socket}"),
    *("-o", "source={dir}", "-o", "sandbox=chroot"),
)
SO_ACCEPTCON: Final = 0x10000


class DaemonError(Exception):
    """The daemon did not start, or did not end; the message has the end of its log."""


def default_command() -> tuple[str, ...]:
    """The template that `Daemon.start` uses without one of its own."""
    replaced = os.environ.get("OVFS_COMMAND")
    return tuple(shlex.split(replaced)) if replaced else OVFS


def is_listening(path: str) -> bool:
    """Whether somebody listens on a Unix socket.

    Asked of the kernel and not by connecting: a daemon may take a probe for its VMM.
    """
    for line in Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()[1:]:
        words = line.split(maxsplit=7)
        if len(words) == 8 and words[7] == path and int(words[3], 16) & SO_ACCEPTCON:
            return True
    return False


class Daemon:
    """A running daemon. Use `start`.

    Attributes:
        socket: The path it listens on.
        process: The process; its child may be the one that serves.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        socket: str,
        scratch: tempfile.TemporaryDirectory[str],
    ) -> None:
        self.process = process
        self.socket = socket
        self._scratch = scratch

    @classmethod
    def start(
        cls,
        directory: str | os.PathLike[str],
        *,
        command: Sequence[str] | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        timeout: float = 15.0,
    ) -> Self:
        """Starts a daemon on a directory and waits until it listens.

        Args:
            directory: What it serves; takes {dir}'s place.
            command: The template; without, `default_command`.
            options: Arguments behind it.
            env: Added to the environment.
            prefix: A command that starts the command: strace, setpriv, taskset.
            timeout: Seconds until it has to listen.

        Raises:
            DaemonError: It ended, or does not listen.
        """
        scratch = tempfile.TemporaryDirectory(prefix="ovfs-test-")
        socket = f"{scratch.name}/vhost.sock"
        words = {"socket": socket, "dir": os.fspath(directory)}
        argv = [
            *prefix,
            *(word.format(**words) for word in command or default_command()),
            *options,
        ]
        with Path(scratch.name, "log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        daemon = cls(process, socket, scratch)
        try:
            daemon.wait_listening(timeout)
        except BaseException:
            daemon.close()
            raise
        return daemon

    def wait_listening(self, timeout: float = 15.0) -> None:
        """Waits until the daemon listens.

        Raises:
            DaemonError: It ended, or takes too long.
        """
        deadline = time.monotonic() + timeout
        while not is_listening(self.socket):
            if self.process.poll() is not None:
                raise DaemonError(f"the daemon ended with {self.process.returncode}: {self.log()}")
            if time.monotonic() > deadline:
                raise DaemonError(f"no socket after {timeout} s: {self.log()}")
            time.sleep(0.005)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills what is still running and removes the scratch directory."""
        if self.process.poll() is None:
            for pid in reversed(procstat.tree(self.process.pid)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.process.wait()
        self._scratch.cleanup()

    def stop(self, timeout: float = 15.0) -> int:
        """Sends SIGTERM and returns the exit code.

        Raises:
            DaemonError: It is still there after the time-out.
        """
        self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 15.0) -> int:
        """Waits until the daemon ends by itself and returns the exit code.

        Raises:
            DaemonError: It does not.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise DaemonError(f"still running after {timeout} s: {self.log()}") from error

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def log(self, size: int = 4000) -> str:
        """The end of what it wrote."""
        return Path(self._scratch.name, "log").read_text(errors="replace")[-size:]

    def cpu_ns(self) -> int:
        """CPU time used so far."""
        return procstat.daemon_cpu_ns(self.pid)

    def rss(self) -> int:
        """Resident bytes without guest memory."""
        return procstat.daemon_rss(self.pid)

    def fds(self) -> int:
        """Open file descriptors."""
        return procstat.daemon_fds(self.pid)

    def threads(self) -> list[str]:
        """The names of its threads."""
        return procstat.daemon_threads(self.pid)
