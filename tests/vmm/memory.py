# SPDX-License-Identifier: Apache-2.0
"""Guest memory: several regions, and an allocator that hands out guest addresses in all of them.

The default map is chosen to catch a daemon that translates carelessly: two regions whose guest
addresses touch (so that a buffer may straddle them) while their frontend addresses do not, file
offsets that differ, and a region above 4 GiB. Memory that nobody has touched costs nothing, so
regions are generous.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.vmm.native import check, check_pointer, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
PAGE = 4096
#: Bytes at both ends of each region that `alloc` leaves alone, for buffers that straddle two.
EDGE = 16 * PAGE


@dataclass(frozen=True)
class Region:
    """One entry of the memory table, as vhost-user describes it."""

    guest_addr: int
    size: int
    user_addr: int
    mmap_offset: int = 0

    @property
    def guest_end(self) -> int:
        """The first guest address behind the region."""
        return self.guest_addr + self.size


DEFAULT_REGIONS = (
    Region(0x0, 64 * MIB, 0x7F10_0000_0000, 0x0),
    Region(64 * MIB, 64 * MIB, 0x7E00_4000_0000, 0x3000),
    Region(0x1_0000_0000, 256 * MIB, 0x5500_0000_0000, 0x20_0000),
)


class OutOfGuestMemoryError(Exception):
    """The allocator found no room; the test wants more memory in flight than its regions have."""


class GuestMemory:
    """Regions of guest memory with an allocator.

    Args:
        regions: The map. Rings live in regions 0 and 1 unless told otherwise.
    """

    def __init__(self, regions: Sequence[Region] = DEFAULT_REGIONS) -> None:
        self.handle: Any = check_pointer(lib.vmm_mem_new(), "guest memory")
        self.regions: dict[int, Region] = {}
        self._next: dict[int, int] = {}
        self._free: dict[tuple[int, int], list[int]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._general: list[int] = []
        self._turn = 0
        self._lock = threading.Lock()
        try:
            for region in regions:
                self.add(region)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps everything; rings on this memory must be gone."""
        if self.handle is not None:
            lib.vmm_mem_free(self.handle)
            self.handle = None
            self.regions.clear()

    def add(self, region: Region, *, general: bool = True) -> int:
        """Makes a region and returns its index.

        Args:
            region: Where it lies.
            general: Whether `alloc` may choose it unasked.
        """
        index = check(
            lib.vmm_mem_add(
                self.handle, region.guest_addr, region.size, region.user_addr, region.mmap_offset
            ),
            "memory region",
        )
        self.regions[index] = region
        self._next[index] = region.guest_addr + EDGE
        if general:
            self._general.append(index)
        return index

    def remove(self, index: int) -> Region:
        """Unmaps a region and returns what it was; allocations in it are gone."""
        check(lib.vmm_mem_remove(self.handle, index), "memory region")
        with self._lock:
            if index in self._general:
                self._general.remove(index)
            self._free = {key: free for key, free in self._free.items() if key[0] != index}
        return self.regions.pop(index)

    def exclude(self, index: int) -> None:
        """Keeps `alloc` from choosing this region unasked from now on."""
        with self._lock:
            if index in self._general:
                self._general.remove(index)

    def fd(self, index: int) -> int:
        """The region's memfd, borrowed."""
        return check(lib.vmm_mem_fd(self.handle, index), "memory region")

    def user_addr(self, addr: int) -> int:
        """The frontend's address of a guest address.

        Raises:
            ValueError: No region holds it.
        """
        user = int(lib.vmm_mem_user_addr(self.handle, addr))
        if user == 0:
            raise ValueError(f"no guest memory at {addr:#x}")
        return user

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Copies bytes into guest memory, across touching regions where need be."""
        check(lib.vmm_mem_write(self.handle, addr, ffi.from_buffer(data), len(data)), "guest write")

    def read(self, addr: int, size: int) -> bytes:
        """Copies bytes out of guest memory."""
        out = bytearray(size)
        check(lib.vmm_mem_read(self.handle, addr, ffi.from_buffer(out), size), "guest read")
        return bytes(out)

    def alloc(self, size: int, *, align: int = 16, region: int | None = None) -> int:
        """Finds room and returns its guest address.

        Args:
            size: Bytes; rounded up to a power of two of at least 64.
            align: A power of two up to 4096.
            region: Take it from this region; without, from the general ones in turn.

        Raises:
            OutOfGuestMemoryError: There is no room.
        """
        room = max(64, align, 1 << max(0, size - 1).bit_length())
        with self._lock:
            if region is None:
                choice = [
                    self._general[(self._turn + i) % len(self._general)]
                    for i in range(len(self._general))
                ]
                self._turn += 1
            else:
                choice = [region]
            for index in choice:
                addr = self._take(index, room, max(align, min(room, PAGE)))
                if addr is not None:
                    self._sizes[addr] = (index, room)
                    return addr
        raise OutOfGuestMemoryError(f"{size} bytes")

    def _take(self, index: int, room: int, align: int) -> int | None:
        free = self._free.get((index, room))
        if free:
            return free.pop()
        addr = -(-self._next[index] // align) * align
        if addr + room > self.regions[index].guest_end - EDGE:
            return None
        self._next[index] = addr + room
        return addr

    def free(self, addr: int) -> None:
        """Gives back what `alloc` returned."""
        with self._lock:
            index, room = self._sizes.pop(addr)
            if index in self.regions:
                self._free.setdefault((index, room), []).append(addr)

    def boundary(self) -> int:
        """A guest address at which one region ends and another begins.

        Raises:
            ValueError: No two regions touch.
        """
        ends = {region.guest_end for region in self.regions.values()}
        for region in self.regions.values():
            if region.guest_addr in ends:
                return region.guest_addr
        raise ValueError("no two regions touch")

    def straddle(self, size: int) -> int:
        """The address of `size` bytes half of which lie in one region and half in the next.

        There is one such place; whoever uses it does so alone.

        Raises:
            ValueError: No two regions touch, or the buffer is larger than what is kept free there.
        """
        if size > 2 * EDGE:
            raise ValueError(f"{size} bytes do not fit the edges")
        return self.boundary() - size // 2
