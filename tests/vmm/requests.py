# SPDX-License-Identifier: Apache-2.0
"""FUSE requests on virtqueues, before they mean anything: numbered, sent, their replies checked."""

from __future__ import annotations

import itertools
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import Init, Opcode
from tests.vmm.queue import LINUX, Layout, Queue, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vmm.memory import GuestMemory

HEADER = wire.InHeader.wire_size()
REPLY = wire.OutHeader.wire_size()


class WireError(Exception):
    """The daemon's reply breaks the protocol."""


class How(TypedDict, total=False):
    """What every request may be told.

    Attributes:
        uid: Who calls; 0 without.
        gid: The caller's group; 0 without.
        pid: The caller's process; 1 without.
        queue: The virtqueue; 1 without (0 for FORGET and INTERRUPT).
        layout: How it lies in descriptors; as Linux does it, without.
        timeout: Seconds to wait; 10 without.
        extension: Packed extensions that follow the arguments.
        kick: Publish and kick at once; True without.
    """

    uid: int
    gid: int
    pid: int
    queue: int
    layout: Layout
    timeout: float
    extension: bytes
    kick: bool


@dataclass(frozen=True)
class Pending:
    """A FUSE request in flight."""

    opcode: int
    unique: int
    queue: Queue
    token: Token
    timeout: float


class Requests:
    """Numbers requests, sends them and takes their replies; what the operations stand on.

    Args:
        memory: The guest's.
        queues: The device's queues, the high-priority one first.
    """

    def __init__(self, memory: GuestMemory, queues: Sequence[Queue]) -> None:
        self.memory = memory
        self.queues = queues
        self.init_flags = Init(0)
        self.max_write = 1 << 20
        # Even, as Linux numbers them: the odd ones are for INTERRUPT.
        self._unique = itertools.count(2, 2)

    def submit(
        self,
        opcode: int,
        nodeid: int,
        args: bytes = b"",
        reply_size: int = 0,
        **how: Unpack[How],
    ) -> Pending:
        """Sends a request.

        Args:
            opcode: Any number.
            nodeid: What it is about.
            args: All bytes behind the header.
            reply_size: Bytes that the reply may have behind its header; -1: no reply at all.
            **how: See How.
        """
        unique = next(self._unique)
        extension = how.get("extension", b"")
        header = wire.InHeader(
            len=HEADER + len(args) + len(extension),
            opcode=opcode,
            unique=unique,
            nodeid=nodeid,
            uid=how.get("uid", 0),
            gid=how.get("gid", 0),
            pid=how.get("pid", 1),
            total_extlen=len(extension) // 8,
        )
        request = header.pack() + args + extension
        return self.submit_raw(request, REPLY + reply_size if reply_size >= 0 else 0, **how)

    def submit_raw(self, request: bytes, room: int, **how: Unpack[How]) -> Pending:
        """Sends any bytes with so much writable room; `wait` takes the number that is in them."""
        queue = self.queues[how.get("queue", 1)]
        opcode, unique = 0, 0
        if len(request) >= 16:
            opcode, unique = struct.unpack_from("<IQ", request, 4)
        token = queue.submit(request, room, how.get("layout", LINUX), kick=how.get("kick", True))
        return Pending(opcode, unique, queue, token, how.get("timeout", 10.0))

    def wait_reply(self, pending: Pending) -> tuple[wire.OutHeader, bytes]:
        """Waits for a request; returns the reply's header and what is behind it.

        Raises:
            WireError: The lengths or the number do not agree, or the error is no errno.
            TimeoutError: No reply came.
        """
        data = pending.queue.wait(pending.token, pending.timeout)
        name = pending.opcode
        if len(data) < REPLY:
            raise WireError(f"opcode {name}: a reply of {len(data)} bytes")
        header = wire.OutHeader.unpack(data)
        if header.unique != pending.unique:
            raise WireError(f"opcode {name}: request {pending.unique} got reply {header.unique}")
        assert pending.token.used is not None
        used = pending.token.used.length
        if header.len != used or header.len != len(data):
            raise WireError(f"opcode {name}: length {header.len}, {used} used, {len(data)} there")
        if not -4096 < header.error <= 0 or (header.error != 0 and header.len != REPLY):
            raise WireError(f"opcode {name}: error {header.error} with {header.len} bytes")
        return header, data[REPLY:]

    def wait(self, pending: Pending) -> bytes:
        """Waits for a request and returns the reply behind its header.

        Raises:
            OSError: The reply is an error.
        """
        header, data = self.wait_reply(pending)
        if header.error != 0:
            error = -header.error
            raise OSError(error, f"opcode {pending.opcode}: {os.strerror(error)}")
        return data

    def request(
        self,
        opcode: int,
        nodeid: int,
        args: bytes = b"",
        reply_size: int = 0,
        **how: Unpack[How],
    ) -> bytes:
        """Sends a request and waits for its reply."""
        return self.wait(self.submit(opcode, nodeid, args, reply_size, **how))

    def exact(
        self, opcode: Opcode, nodeid: int, args: bytes, size: int, **how: Unpack[How]
    ) -> bytes:
        """A request whose reply has one size only.

        Raises:
            WireError: It has another.
            OSError: The reply is an error.
        """
        data = self.request(opcode, nodeid, args, size, **how)
        if len(data) != size:
            raise WireError(f"{opcode.name}: {len(data)} bytes of reply where {size} are due")
        return data

    def one_way(self, opcode: Opcode, nodeid: int, args: bytes, how: How) -> None:
        """Sends what is never answered; returns when the daemon has taken it off the ring."""
        on_hiprio: How = {"queue": 0, **how}
        pending = self.submit(opcode, nodeid, args, -1, **on_hiprio)
        data = pending.queue.wait(pending.token, pending.timeout)
        if data:
            raise WireError(f"{opcode.name} was answered")
