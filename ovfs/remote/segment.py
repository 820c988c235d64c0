# SPDX-License-Identifier: Apache-2.0
"""A clean segment: up to 64 MiB of one version of one object, as a file that daemons share.

    0            data, fetched block by block (64 KiB), in any order; holes where nothing came yet
    up to 4096   zeros
    table        one CRC-32 a block; 0: not here (a checksum that is 0 is kept as 1)
    footer       which object, version and segment this is, and how long

The data goes in before its checksum, so what the table claims was written, whatever kills a daemon.
What the table claims is read and compared once by each process before it is served: a disk that
lost power, or somebody with an editor, may have changed either. A block that does not match is
fetched again; a file that does not fit its name or length is removed.

Several processes may fill one file: they write the same bytes to the same places, and a table entry
that one clears while another sets it costs a fetch at most. Nothing is ever truncated or punched,
so a descriptor goes on showing the same bytes after the name was evicted.

All of it belongs to the loop thread, but for ``verify``, which any one other thread may run.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import struct
from array import array
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from isal.isal_zlib import crc32  # ten times as quick as zlib's, and the same sum

from ovfs.remote.layout import BLOCK, PAGE, round_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovfs.uring import AsyncRing

_FOOTER = struct.Struct("=8sII32sQII")  # magic, format, index, hash, length, 0, CRC of the others
_MAGIC = b"ovfs-seg"
_FORMAT = 1
_RUN = 16  # blocks that are read at once to be checked
_INLINE = 8  # blocks that the loop thread checks by itself: about 0.2 ms

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SegmentId:
    """Which segment: the hash of service, key and version; its number; its bytes of data."""

    hash: str
    index: int
    length: int

    @property
    def key(self) -> tuple[str, int]:
        """What it is known by."""
        return self.hash, self.index

    @property
    def blocks(self) -> int:
        """How many blocks there are; the last may be shorter."""
        return -(-self.length // BLOCK)

    @property
    def table_at(self) -> int:
        """Where the table begins: where the data ends."""
        return round_up(self.length, PAGE)

    @property
    def file_size(self) -> int:
        """How long the file is."""
        return self.table_at + 4 * self.blocks + _FOOTER.size

    def trailer(self, crcs: Sequence[int]) -> bytes:
        """Return table and footer."""
        fields = (_MAGIC, _FORMAT, self.index, bytes.fromhex(self.hash), self.length, 0)
        crc = crc32(_FOOTER.pack(*fields, 0)[:-4])
        return array("I", crcs).tobytes() + _FOOTER.pack(*fields, crc)

    def read_table(self, fd: int) -> tuple[array[int], str]:
        """Return the table, or why this file is not that segment."""
        table: array[int] = array("I")
        if os.fstat(fd).st_size != self.file_size:
            return table, "its length is wrong"
        size = 4 * self.blocks
        data = os.pread(fd, size + _FOOTER.size, self.table_at)
        if data[size:] != self.trailer(())[-_FOOTER.size :]:
            return table, "its footer is another file's or damaged"
        table.frombytes(data[:size])
        return table, ""


class Keeper(Protocol):
    """What a segment needs of its cache."""

    ring: AsyncRing | None

    async def room(self) -> None:
        """Wait while the cache is far beyond its size."""

    async def make_room(self, size: int) -> None:
        """Evict until so much is free, since the disk is full."""

    def grew(self, size: int) -> None:
        """Count new bytes."""

    def discard(self, segment: Segment, why: str) -> None:
        """Remove a file that is not what it should be."""

    def forget(self, segment: Segment) -> None:
        """Close the descriptor: nobody uses the segment any more."""


class Segment:
    """An open segment; made by ``Cache.segment``, shared by its users, ended by their ``close``."""

    def __init__(self, keeper: Keeper, fd: int, name: SegmentId, table: array[int]) -> None:
        self.fd = fd  # the data plane gets a duplicate of its own
        self.name = name
        self.evicted = False  # has no name any more: what is added is lost with the descriptor
        self.users = 1
        self._keeper = keeper
        self._table = table
        self._checked = bytearray(name.blocks)

    @property
    def hash(self) -> str:
        """Names service, key and version."""
        return self.name.hash

    @property
    def index(self) -> int:
        """The segment's number in the object."""
        return self.name.index

    @property
    def length(self) -> int:
        """How many bytes of the object it holds when all are there."""
        return self.name.length

    def close(self) -> None:
        """End one use."""
        self.users -= 1
        if self.users == 0:
            self._keeper.forget(self)

    def blocks(self) -> list[range]:
        """Return the runs of blocks that the table claims now, whoever put them there."""
        self._refresh()
        runs = groupby(range(self.name.blocks), key=lambda block: self._table[block] != 0)
        found: list[range] = []
        for present, run in runs:
            if present:
                members = list(run)
                found.append(range(members[0], members[-1] + 1))
        return found

    def checked(self, first: int, last: int) -> bool:
        """Whether ``first`` to ``last``, both included, need no ``verify``: known to be right."""
        return self._checked.find(0, first, last + 1) < 0

    def verify(self, first: int, last: int) -> bool:
        """Read what is not checked yet of ``first`` to ``last``, both included, and compare.

        Returns:
            Whether all of them are there and right. Those that are wrong are no longer claimed.
        """
        if any(not self._table[block] for block in range(first, last + 1)):
            self._refresh()
        bad: list[int] = []
        block = first
        while block <= last:
            if self._checked[block] or not self._table[block]:
                block += 1
                continue
            stop = block + 1
            while stop <= last and stop - block < _RUN and self._unchecked(stop):
                stop += 1
            bad += self._check(block, stop)
            block = stop
        if bad:
            self._report(bad)
        return self.checked(first, last)

    async def check(self, first: int, last: int) -> bool:
        """Do as ``verify``, in a thread where it would take long."""
        if self.checked(first, last):
            return True
        self.users += 1
        try:
            if last - first < _INLINE:
                return self.verify(first, last)
            return await asyncio.to_thread(self.verify, first, last)
        finally:
            self.close()

    async def add(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put whole blocks in; the last may end with the segment. ``offset`` is the segment's.

        Raises:
            OSError: ENOSPC: the disk is full though what can be evicted was; or what the disk says.
        """
        first, stop = offset // BLOCK, -(-(offset + len(data)) // BLOCK)
        if offset % BLOCK or offset + len(data) != min(stop * BLOCK, self.length):
            raise ValueError(f"{len(data)} bytes at {offset} are no whole blocks of {self.name}")
        self.users += 1
        try:
            await self._keeper.room()
            crcs = checksums(data)
            fresh = sum(1 for block in range(first, stop) if not self._table[block])
            await self._write(data, offset)
            await self._write(crcs, self.name.table_at + 4 * first)
            self._table[first:stop] = crcs
            self._checked[first:stop] = b"\1" * (stop - first)
            self._keeper.grew(min(fresh * BLOCK, round_up(len(data), PAGE)))
        finally:
            self.close()

    async def _write(self, data: bytes | bytearray | memoryview | array[int], offset: int) -> None:
        view = memoryview(data).cast("B")
        retry = True
        while view:
            try:
                count = await self._write_some(view, offset)
            except OSError as error:
                if error.errno != errno.ENOSPC or not retry:
                    raise
                retry = False
                await self._keeper.make_room(len(view) + BLOCK)
                continue
            view = view[count:]
            offset += count

    async def _write_some(self, view: memoryview, offset: int) -> int:
        ring = self._keeper.ring
        if ring is None:
            return os.pwrite(self.fd, view, offset)
        return await ring.write(self.fd, view, offset)

    def _unchecked(self, block: int) -> bool:
        return not self._checked[block] and self._table[block] != 0

    def _refresh(self) -> None:
        """Learn what other processes added."""
        data = os.pread(self.fd, 4 * self.name.blocks, self.name.table_at)
        if len(data) == 4 * self.name.blocks:
            for block, crc in enumerate(array("I", data)):
                if not self._table[block]:
                    self._table[block] = crc

    def _check(self, first: int, stop: int) -> list[int]:
        """Read a run, compare, and return the blocks that are wrong."""
        wanted = self._table[first:stop]
        data = os.pread(self.fd, (stop - first) * BLOCK, first * BLOCK)
        data = data[: self.length - first * BLOCK]  # a partial last block ends before the padding
        bad: list[int] = []
        for number, crc in enumerate(checksums(data, stop - first)):
            block = first + number
            if crc == wanted[number]:
                self._checked[block] = 1
            elif self._table[block] == wanted[number]:  # not added anew meanwhile
                bad.append(block)
        return bad

    def _report(self, bad: list[int]) -> None:
        for block in bad:
            self._table[block] = 0
        if os.fstat(self.fd).st_size != self.name.file_size:
            self._keeper.discard(self, "it was cut short")
            return
        for block in bad:
            os.pwrite(self.fd, bytes(4), self.name.table_at + 4 * block)
        log.warning(
            "cache: %d blocks of segment %s.%d do not match their checksums and are fetched again",
            len(bad),
            self.hash,
            self.index,
        )


def checksum(data: bytes | bytearray | memoryview) -> int:
    """Return a block's checksum as the table has it."""
    return crc32(data) or 1


def checksums(data: bytes | bytearray | memoryview, count: int | None = None) -> array[int]:
    """Return the checksums of data that begins at a block; 0 where a block is wholly missing."""
    view = memoryview(data)
    crcs = array("I", (checksum(view[at : at + BLOCK]) for at in range(0, len(view), BLOCK)))
    if count is not None:
        crcs.extend([0] * (count - len(crcs)))
    return crcs
