# SPDX-License-Identifier: Apache-2.0
"""What takes long by design is begun early, and a run goes on meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.semantics.remote.fake_s3 import FakeS3, Fault
from tests.semantics.remote.share import FRESH, RemoteShare
from tests.vmm import Opcode

if TYPE_CHECKING:
    from tests.vmm import Pending

#: Seconds after which none may be without an answer.
DEADLINE: Final = 80.0

BYTES: Final = b"unmistakable bytes"


class Hung:
    """A daemon whose service has stopped to answer, and requests of all kinds that wait.

    Attributes:
        pending: By what they are for.
        doomed: A daemon that was told to end while it cannot store the BYTES that it has.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._never = threading.Event()
        self._stack.callback(self._never.set)
        fake = self._stack.enter_context(FakeS3())
        failing = self._stack.enter_context(FakeS3())
        fake.put("file", bytes(4 << 20))
        fake.put("other", b"data")
        self.share = self._stack.enter_context(RemoteShare(fake.url(), fake, FRESH))
        self._stack.callback(self._never.set)
        fs = self.share.fs
        entry, opened = fs.create(1, b"new")
        fs.write(entry.nodeid, opened.fh, 0, b"data")
        reader = fs.lookup(1, b"file").nodeid
        other = fs.lookup(1, b"other").nodeid
        reader_fh = fs.open(reader).fh
        fs.read(reader, reader_fh, 0, 10)
        fake.fault = lambda _call: Fault(hold=self._never)
        self._start = time.monotonic()
        flush = opened.fh.to_bytes(8, "little") + bytes(16)
        self.pending: dict[str, Pending] = {
            "lookup": fs.submit(Opcode.LOOKUP, 1, b"unknown\0", 128),
            "flush": fs.submit(Opcode.FLUSH, entry.nodeid, flush),
            "read": fs.submit_read(reader, reader_fh, 3 << 20, 100),
            "mkdir": fs.submit(Opcode.MKDIR, 1, bytes(8) + b"dir\0", 128),
            "unlink": fs.submit(Opcode.UNLINK, 1, b"other\0"),
            "open": fs.submit(Opcode.OPEN, other, bytes(8), 16),
        }

        self.doomed = self._stack.enter_context(RemoteShare(failing.url(), failing))
        entry, opened = self.doomed.fs.create(1, b"file")
        self.doomed.fs.write(entry.nodeid, opened.fh, 0, BYTES)
        failing.fault = lambda call: Fault(status=403) if call.kind == "PUT" else None
        self.doomed.daemon.process.terminate()

    def close(self) -> None:
        """Lets go of all."""
        self._stack.close()

    def errno(self, what: str) -> int:
        """What a request ended with.

        Raises:
            TimeoutError: It has not, and should have.
        """
        left = max(0.1, self._start + DEADLINE - time.monotonic())
        header, _ = self.share.fs.wait_reply(replace(self.pending[what], timeout=left))
        return -header.error
