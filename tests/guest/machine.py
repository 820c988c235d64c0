# SPDX-License-Identifier: Apache-2.0
"""A guest as the tests see it: booted, with the share on /mnt, running commands for the host.

Commands travel over a serial port of their own (the other end is init.sh), so that what the kernel
prints cannot get between; the console goes to a file that every error names. A command that does
not end in time is a `GuestTimeoutError`: the guest may be past help then, but the test is not.
"""

import base64
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

BOOT_SECONDS = 60.0
# What a guest is asked that does not answer: its programs that run or wait, and what for.
WHEREABOUTS = """
for task in /proc/[0-9]*/task/*; do
    grep -q . "$task/cmdline" || continue
    tr '\\0' ' ' <"$task/cmdline"; sed -n 's/^State://p' "$task/status"; cat "$task/stack"
done
cat /proc/interrupts
"""
MOUNT_POINT = "/mnt"


class GuestError(Exception):
    """The guest did not boot, died, or a command failed in it."""


class GuestTimeoutError(GuestError):
    """What was waited for did not happen in time."""


@dataclass(frozen=True)
class Result:
    """How a command in the guest ended: exit status, and output and errors as one text."""

    status: int
    output: str


@dataclass
class _Answers:
    """What came back over the port. Under `changed`; written by the reader thread."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    results: dict[str, Result] = field(default_factory=dict)
    strays: list[bytes] = field(default_factory=list)  # lines that were no answers
    boots: int = 0
    closed: bool = False


class Job:
    """A command that runs in the guest while the host goes on."""

    def __init__(self, guest: "Guest", key: str, command: str) -> None:
        self._guest = guest
        self._key = key
        self._command = command

    def done(self) -> bool:
        """Says whether the command has ended."""
        return self._guest.has_answer(self._key)

    def wait(self, timeout: float = 60.0) -> Result:
        """Waits for the command to end.

        Raises:
            GuestTimeoutError: it did not.
            GuestError: the guest went away.
        """
        return self._guest.answer(self._key, self._command, timeout)


class Guest(ABC):
    """A real kernel with a share of the daemon mounted on /mnt.

    Args:
        tag: the mount tag of the share.
        log_directory: where the console's log goes.
        mount_options: given to mount(8) in the guest; None leaves the share unmounted.
    """

    def __init__(
        self, tag: str, log_directory: Path, mount_options: str | None = "defaults"
    ) -> None:
        self.tag = tag
        self.console = log_directory / f"console-{id(self):x}.log"
        self.mount_options = mount_options
        self.boot_seconds = 0.0
        self._answers = _Answers()
        self._keys = itertools.count()
        self._port: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # What a kind of machine provides

    @abstractmethod
    def _spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Starts the machine; returns its process and the connected command port.

        The process leads a group of its own, which `kill` ends as a whole.
        """

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Boots the guest and mounts the share.

        Raises:
            GuestError: it did not come up, or the mount failed.
        """
        began = time.monotonic()
        self._process, self._port = self._spawn()
        threading.Thread(target=self._read_answers, args=(self._port,), daemon=True).start()
        try:
            self.wait_boot(1)
        except BaseException:
            self.kill()
            raise
        self.boot_seconds = time.monotonic() - began

    def wait_boot(self, count: int, timeout: float = BOOT_SECONDS) -> None:
        """Waits until the guest has booted so many times, then mounts the share."""
        self._wait(lambda: self._answers.boots >= count, f"boot {count}", timeout)
        self.mount()

    @property
    def boots(self) -> int:
        """How many times the guest has come up."""
        with self._answers.changed:
            return self._answers.boots

    def mount(self) -> None:
        """Mounts the share, unless the guest was made without."""
        if self.mount_options is not None:
            self.check(
                f"mount -t virtiofs -o {self.mount_options} {self.tag} {MOUNT_POINT}", timeout=30
            )

    def kill(self) -> None:
        """Ends the machine at once, as a crash of the VMM would."""
        if self._process is not None:
            # User-mode Linux is several processes, and its first one's end does not end the rest.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._port is not None:
            # The reader thread sits in recv on it, which closing alone does not end.
            with contextlib.suppress(OSError):
                self._port.shutdown(socket.SHUT_RDWR)
            self._port.close()
            self._port = None

    # Commands

    def begin(self, command: str) -> Job:
        """Starts a command in the guest's shell and returns at once."""
        key = str(next(self._keys))
        if self._port is None:
            raise GuestError("the guest is not running")
        script = base64.b64encode(command.encode()).decode()
        self._port.sendall(f"{key} {script}\n".encode())
        return Job(self, key, command)

    def run(self, command: str, timeout: float = 60.0) -> Result:
        """Runs a command in the guest's shell and waits for it."""
        return self.begin(command).wait(timeout)

    def check(self, command: str, timeout: float = 60.0) -> str:
        """Runs a command that must succeed; returns its output.

        Raises:
            GuestError: its status was not 0.
        """
        result = self.run(command, timeout)
        if result.status != 0:
            raise GuestError(f"status {result.status} of {command!r}:\n{result.output}")
        return result.output

    def has_answer(self, key: str) -> bool:
        """Says whether a command has ended (for Job)."""
        with self._answers.changed:
            return key in self._answers.results

    def answer(self, key: str, command: str, timeout: float) -> Result:
        """Waits for a command's end (for Job)."""
        try:
            self._wait(lambda: key in self._answers.results, repr(command), timeout)
        except GuestTimeoutError as error:
            if command != WHEREABOUTS:
                error.add_note(self._whereabouts())
            raise
        with self._answers.changed:
            return self._answers.results.pop(key)

    def console_tail(self, lines: int = 40) -> str:
        """The last lines that the kernel printed."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _whereabouts(self) -> str:
        """What a guest does that does not answer, so that its error says where it is stuck."""
        try:
            found = self.run(WHEREABOUTS, timeout=20).output
        except GuestError as error:
            found = f"it does not even tell: {error}"
        return f"what its programs do:\n{found}\nno answers: {self._answers.strays}"

    # The port

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        answers = self._answers
        with answers.changed:
            met = answers.changed.wait_for(lambda: condition() or answers.closed, timeout)
            if met and condition():
                return
        reason = "the guest went away" if met else f"not within {timeout:.0f} s"
        kind = GuestError if met else GuestTimeoutError
        raise kind(f"waiting for {what}: {reason}; {self.console} ends:\n{self.console_tail()}")

    def _read_answers(self, port: socket.socket) -> None:
        try:
            with port.makefile("rb") as lines:
                for line in lines:
                    self._take(line)
        except OSError as error:
            log.debug("command port: %s", error)
        with self._answers.changed:
            self._answers.closed = True
            self._answers.changed.notify_all()

    def _take(self, line: bytes) -> None:
        words = line.split()
        with self._answers.changed:
            if words == [b"READY"]:
                self._answers.boots += 1
            elif len(words) in (2, 3) and words[0].isdigit() and words[1].isdigit():
                output = base64.b64decode(words[2]) if len(words) == 3 else b""
                result = Result(int(words[1]), output.decode(errors="replace"))
                self._answers.results[words[0].decode()] = result
            else:
                log.debug("not an answer on the command port: %r", line[:80])
                self._answers.strays.append(line[:80])
            self._answers.changed.notify_all()
