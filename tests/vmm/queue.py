# SPDX-License-Identifier: Apache-2.0
"""Requests on a ring: bytes laid out over descriptors, submitted, waited for, replies gathered.

It knows nothing of FUSE but the sizes at which a Linux guest cuts a request; `requests` puts the
meaning on top.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.vmm.ring import Ring, Segment, Used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vmm.memory import GuestMemory


@dataclass(frozen=True)
class Layout:
    """How a request and its reply lie in descriptors.

    Attributes:
        request: Sizes of the request's first descriptors; what is left follows in one (or in
            chunks). A size of 0 is an empty descriptor.
        reply: The same for the reply.
        chunk: Cut what is left into descriptors of at most this many bytes.
        indirect: Use an indirect table; None: as the queue does.
        straddle: Put this side's last descriptor across two regions. One request at a time.
        region: Take all memory from this region.
    """

    request: tuple[int, ...] = (40,)
    reply: tuple[int, ...] = (16,)
    chunk: int | None = None
    indirect: bool | None = None
    straddle: Literal["request", "reply"] | None = None
    region: int | None = None


#: Header and arguments, reply header and reply: what a Linux guest does for small requests.
LINUX = Layout()


def pieces(total: int, cuts: Sequence[int], chunk: int | None) -> list[int]:
    """The descriptor sizes for so many bytes."""
    sizes: list[int] = []
    left = total
    for cut in cuts:
        if left == 0 and cut != 0:
            break
        sizes.append(min(cut, left))
        left -= sizes[-1]
    while left > 0:
        sizes.append(min(left, chunk or left))
        left -= sizes[-1]
    return sizes


@dataclass
class Token:
    """A request in flight, and its completion once it is known."""

    head: int
    reply: tuple[Segment, ...]
    owned: list[int] = field(default_factory=list)
    used: Used | None = None


class Queue:
    """A virtqueue that carries requests. Any thread; each call takes the queue's lock.

    Args:
        memory: Where buffers are allocated.
        ring: The ring, driven by this queue alone.
        index: Its number in the device.
    """

    def __init__(self, memory: GuestMemory, ring: Ring, index: int) -> None:
        self.memory = memory
        self.ring = ring
        self.index = index
        self.strays: list[Used] = []
        self._pending: dict[int, Token] = {}
        self._lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        """Requests submitted and not seen completed."""
        return len(self._pending)

    def _place(
        self, sizes: list[int], layout: Layout, owned: list[int], *, reply: bool
    ) -> list[Segment]:
        straddle = layout.straddle == ("reply" if reply else "request")
        segments: list[Segment] = []
        for at, size in enumerate(sizes):
            if straddle and at + 1 == len(sizes):
                addr = self.memory.straddle(size)
            else:
                addr = self.memory.alloc(size, region=layout.region)
                owned.append(addr)
            segments.append(Segment(addr, size, writable=reply))
        return segments

    def submit(
        self, request: bytes, reply_size: int, layout: Layout = LINUX, *, kick: bool = True
    ) -> Token:
        """Sends a request with room for so large a reply.

        Args:
            request: All of its bytes.
            reply_size: Bytes the device may write; 0: no writable descriptor.
            layout: How both lie in descriptors.
            kick: Publish and kick at once; else `kick` does, for all that was submitted before.

        Raises:
            OSError: ENOSPC if the ring is full.
        """
        owned: list[int] = []
        try:
            out = self._place(
                pieces(len(request), layout.request, layout.chunk), layout, owned, reply=False
            )
            at = 0
            for segment in out:
                self.memory.write(segment.addr, request[at : at + segment.length])
                at += segment.length
            into = self._place(
                pieces(reply_size, layout.reply, layout.chunk), layout, owned, reply=True
            )
            return self.submit_segments(
                [*out, *into], indirect=layout.indirect, kick=kick, owned=owned
            )
        except BaseException:
            for addr in owned:
                self.memory.free(addr)
            raise

    def submit_segments(
        self,
        segments: Sequence[Segment],
        *,
        indirect: bool | None = None,
        kick: bool = True,
        owned: list[int] | None = None,
    ) -> Token:
        """Sends any chain; its memory is the caller's, save for the allocations in `owned`."""
        with self._lock:
            head = self.ring.add(segments, indirect=indirect)
            token = Token(head, tuple(s for s in segments if s.writable), owned or [])
            self._pending[head] = token
            if kick:
                self.ring.kick()
        return token

    def kick(self) -> None:
        """Publishes and kicks for what was submitted without."""
        with self._lock:
            self.ring.kick()

    def _reap(self) -> None:
        for used in self.ring.get():
            token = self._pending.pop(used.head, None)
            if token is None:
                self.strays.append(used)
            else:
                token.used = used

    def poll(self, token: Token) -> bool:
        """Whether the request is complete; does not wait."""
        with self._lock:
            self._reap()
        return token.used is not None

    def wait(self, token: Token, timeout: float = 10.0) -> bytes:
        """Waits for a request, returns what the device wrote, gives the request's memory back.

        Raises:
            TimeoutError: It did not complete; it is still in flight and may be waited for again.
        """
        deadline = time.monotonic() + timeout
        while not self.poll(token):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no reply on queue {self.index} within {timeout} s")
            with self._lock:
                self.ring.wait(min(left, 0.1))
        return self._collect(token)

    def wait_idle(self, timeout: float = 10.0) -> None:
        """Waits until nothing is in flight.

        Raises:
            TimeoutError: Something still is.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                self._reap()
                if not self._pending:
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(self._pending)} in flight on queue {self.index}")
                self.ring.wait(0.1)

    def _collect(self, token: Token) -> bytes:
        assert token.used is not None
        left = token.used.length
        parts: list[bytes] = []
        for segment in token.reply:
            part = min(left, segment.length)
            if part:
                parts.append(self.memory.read(segment.addr, part))
            left -= part
        for addr in token.owned:
            self.memory.free(addr)
        token.owned.clear()
        return b"".join(parts)
