# SPDX-License-Identifier: Apache-2.0
"""The log: lines on standard error, from Python and, through a pipe, from the data plane.

The pipe is in packet mode, one event a packet, and neither end ever blocks: a queue must not wait
for a log, so what does not fit is dropped and counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from typing import TYPE_CHECKING

from ovfs.native import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ovfs.native import Event

LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

_EVENT_LEVELS = {
    EventKind.ERROR: logging.ERROR,
    EventKind.WARNING: logging.WARNING,
    EventKind.INFO: logging.INFO,
    EventKind.DEBUG: logging.DEBUG,
    EventKind.DEVICE_FAILED: logging.ERROR,
}

# Each packet takes a page of the pipe whatever its size: 256 of them, the most that an ordinary
# user may ask for. The default of 16 overflows when each of a few queues has something to say.
_PIPE_SIZE = 1 << 20
_BATCH = 64  # packets per wake-up, so that a flood of events does not keep the VMM waiting

log = logging.getLogger(__name__)


def one_line(text: str) -> str:
    """Return the text with all that could break or repaint a terminal's line escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _OneLine(logging.Formatter):
    """``2026-01-31T12:00:00.123 ovfs warning: text``; what a guest names cannot break the line."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record)
        line = f"{time} ovfs {record.levelname.lower()}: {one_line(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(level: str) -> None:
    """Send the log to standard error from this level up."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # its debug lines are about itself


class EventPipe:
    """The data plane's way to the log. Control thread only; C threads write to ``write_fd``."""

    def __init__(self, decode: Callable[[bytes], Event], packet_size: int) -> None:
        self._decode = decode
        self._packet_size = packet_size
        self.read_fd, self.write_fd = os.pipe2(os.O_DIRECT | os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.suppress(OSError):  # the user's pipe quota is used up: a short one will do
            fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def close(self) -> None:
        """Close both ends; the data plane must be gone."""
        os.close(self.read_fd)
        os.close(self.write_fd)

    def drain(self) -> bool:
        """Log what has come, a batch at most; True if the data plane gave the device up."""
        failed = False
        for event in self._packets():
            log.log(_EVENT_LEVELS[event.kind], "%s", event.text)
            failed |= event.kind is EventKind.DEVICE_FAILED
        return failed

    def _packets(self) -> Iterator[Event]:
        for _ in range(_BATCH):
            try:
                packet = os.read(self.read_fd, self._packet_size)
            except BlockingIOError:
                return
            yield self._decode(packet)
