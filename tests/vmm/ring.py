# SPDX-License-Identifier: Apache-2.0
"""One virtqueue as its driver sees it: memory, eventfds, chains in and used entries out."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.vmm.native import check, check_pointer, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vmm.memory import GuestMemory

DESC_F_NEXT: Final = 1
DESC_F_WRITE: Final = 2
DESC_F_INDIRECT: Final = 4
DESC_SIZE: Final = 16


@dataclass(frozen=True)
class Segment:
    """One descriptor of a chain: guest memory, and whether the device writes it."""

    addr: int
    length: int
    writable: bool = False


@dataclass(frozen=True)
class Used:
    """One used entry: the chain's head and how many bytes the device says it wrote."""

    head: int
    length: int


@dataclass(frozen=True)
class RingStats:
    """What a ring has done so far."""

    kicks: int
    kicks_suppressed: int
    interrupts: int
    submitted: int
    completed: int
    free_desc: int
    avail_idx: int
    last_used: int


class Ring:
    """A split ring in guest memory. One thread at a time.

    Args:
        memory: Where its three parts are allocated.
        size: Descriptors, a power of two.
        base: The index that both sides start from.
        event_idx: Whether VIRTIO_RING_F_EVENT_IDX is negotiated.
        indirect: Whether `add` uses indirect tables unless told otherwise.
        regions: The memory regions of the descriptor table, the avail and the used ring.
        kick: Whether there is a kick eventfd (else the device has to poll).
        call: Whether there is a call eventfd (else `wait` polls).
        blocking: Make both without O_NONBLOCK, as some VMMs do.
    """

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        *,
        base: int = 0,
        event_idx: bool = True,
        indirect: bool = True,
        regions: tuple[int, int, int] = (0, 0, 0),
        kick: bool = True,
        call: bool = True,
        blocking: bool = False,
    ) -> None:
        self.memory = memory
        self.size = size
        self.event_idx = event_idx
        self.indirect = indirect
        self.desc_addr = memory.alloc(DESC_SIZE * size, align=16, region=regions[0])
        self.avail_addr = memory.alloc(6 + 2 * size, align=2, region=regions[1])
        self.used_addr = memory.alloc(6 + 8 * size, align=4, region=regions[2])
        flags = os.EFD_CLOEXEC | (0 if blocking else os.EFD_NONBLOCK)
        self.kick_fd = os.eventfd(0, flags) if kick else -1
        self.call_fd = os.eventfd(0, flags) if call else -1
        self._tables: dict[int, int] = {}
        self._out: Any = ffi.new("struct vmm_used[]", 64)
        self.handle: Any = None
        try:
            self.handle = check_pointer(
                lib.vmm_ring_new(
                    memory.handle,
                    size,
                    self.desc_addr,
                    self.avail_addr,
                    self.used_addr,
                    base,
                    event_idx,
                    self.kick_fd,
                    self.call_fd,
                ),
                "ring",
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees the ring and its eventfds; its guest memory stays as it is."""
        if self.handle is not None:
            lib.vmm_ring_free(self.handle)
            self.handle = None
        for fd in (self.kick_fd, self.call_fd):
            if fd >= 0:
                os.close(fd)
        self.kick_fd = self.call_fd = -1

    def add(self, segments: Sequence[Segment], *, indirect: bool | None = None) -> int:
        """Puts a chain in the avail ring, unpublished, and returns its head.

        Raises:
            OSError: ENOSPC if there are too few free descriptors.
        """
        array = ffi.new("struct vmm_seg[]", [(s.addr, s.length, s.writable) for s in segments])
        table = 0
        if self.indirect if indirect is None else indirect:
            table = self.memory.alloc(DESC_SIZE * len(segments))
        head = int(lib.vmm_ring_add(self.handle, array, len(segments), table))
        if table != 0:
            if head < 0:
                self.memory.free(table)
            else:
                self._tables[head] = table
        return check(head, "ring add")

    def kick(self) -> bool:
        """Publishes what was added; kicks where the device wants it. Returns whether it did."""
        return check(lib.vmm_ring_kick(self.handle), "kick") == 1

    def kick_force(self) -> None:
        """Kicks whether the device wants it or not."""
        check(lib.vmm_ring_kick_force(self.handle), "kick")

    def get(self) -> list[Used]:
        """Takes what is in the used ring, up to 64 entries, without waiting."""
        count = lib.vmm_ring_get(self.handle, self._out, 64)
        used = [Used(self._out[i].id, self._out[i].len) for i in range(count)]
        for entry in used:
            table = self._tables.pop(entry.head, None)
            if table is not None:
                self.memory.free(table)
        return used

    def wait(self, timeout: float) -> bool:
        """Sleeps on the call eventfd until a used entry is there. Returns whether one is."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return self.used_idx != self.stats().last_used
            # In slices, so that a signal's handler gets its turn.
            if lib.vmm_ring_wait(self.handle, max(1, min(200, int(left * 1000)))) > 0:
                return True

    def interrupts(self) -> int:
        """Empties the call eventfd; returns the calls it had counted since it was last emptied."""
        return int(lib.vmm_ring_interrupts(self.handle))

    def stats(self) -> RingStats:
        """The counters so far."""
        s = ffi.new("struct vmm_ring_stats *")
        lib.vmm_ring_stats(self.handle, s)
        return RingStats(
            kicks=s.kicks,
            kicks_suppressed=s.kicks_suppressed,
            interrupts=s.interrupts,
            submitted=s.submitted,
            completed=s.completed,
            free_desc=s.free_desc,
            avail_idx=s.avail_idx,
            last_used=s.last_used,
        )

    # What no honest driver does.

    @property
    def used_idx(self) -> int:
        """The device's index, as it stands in memory."""
        return int(lib.vmm_ring_raw_used_idx(self.handle))

    def reserve(self, count: int) -> int:
        """Takes the highest `count` descriptors for raw use; returns the first of them.

        Raises:
            OSError: ENOSPC if something was sent already.
        """
        return check(lib.vmm_ring_raw_reserve(self.handle, count), "reserve")

    def raw_desc(self, index: int, addr: int, length: int, flags: int = 0, link: int = 0) -> None:
        """Writes a descriptor of the ring as it is given."""
        lib.vmm_ring_raw_desc(self.handle, index, addr, length, flags, link)

    def raw_offer(self, head: int) -> None:
        """Puts any number in the avail ring; `kick` publishes it."""
        lib.vmm_ring_raw_offer(self.handle, head)

    def raw_set_avail(self, index: int) -> None:
        """Stores the avail index itself."""
        lib.vmm_ring_raw_set_avail(self.handle, index & 0xFFFF)

    def raw_set_avail_flags(self, flags: int) -> None:
        """Stores avail->flags."""
        lib.vmm_ring_raw_set_avail_flags(self.handle, flags)

    def raw_set_used_event(self, index: int) -> None:
        """Stores used_event."""
        lib.vmm_ring_raw_set_used_event(self.handle, index & 0xFFFF)
