# SPDX-License-Identifier: Apache-2.0
"""A file's bytes on this host: what is here, what is fetched, what is newer than the object.

    base layer     blocks of the stored version, in clean segments of the cache, shared, immutable
    write layer    pages that the guest has written, in private write segments
    content        the data plane's map of both, by which it reads and writes without asking

The data plane asks when a block is missing, when a write needs the rest of its page, a segment, or
leave to change what is being uploaded. Fetches of one block are made once, however many ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import uuid
from typing import TYPE_CHECKING

from ovfs.native.content import NEVER, Content, Source
from ovfs.remote.errors import FsError
from ovfs.remote.slots import Lane
from ovfs.remote.window import STRIDE, ReadWindow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ovfs.remote.node import Node
    from ovfs.remote.segment import Segment
    from ovfs.remote.share import Share

log = logging.getLogger(__name__)

SEGMENT = 1 << 26
BLOCK = 1 << 16
PAGE = 1 << 12
CHUNK = STRIDE  # requests end where it does: beyond it, parallel ones gain more
STEP = 8 * CHUNK  # what is asked for at a time of a range of any length
SMALL = 1 << 20  # files up to here are fetched whole

BASE, WRITE = 0, 1
_LOAD_TRIES = 4  # until what is fetched is also there to be read
_DISTRUST_MAX = 8  # reads of one open file that met a bad cache file, before its disk is to blame
UNSEALED = 0
SEALED = (1 << 64) - 1
UNSTORED = (1 << 64) - 1  # no generation: something has to be stored, whatever was


class File:
    """The bytes of one node, from its opening until nobody needs them here.

    Attributes:
        node: whose bytes these are.
        content: the data plane's map; Python's reference to it is this object's.
        writers: handles open for writing.
        write_id: names the write segments; None before the first write.
        stored_generation: what of the writing is stored on the service.
        error: what storing it after the last close met; told at the next opening or fsync.
        commit: held while the object is being replaced.
        journalled: what of the writing is in the journal.
        confirming: learns which version our own upload became.
        upload_id: of the last upload that is known to be stored.
        mark: what the ids of all its uploads begin with; the journal has it too.
    """

    def __init__(self, share: Share, node: Node, *, new: bool) -> None:
        self.node = node
        self.writers = 0
        self.write_id: str | None = None
        self.stored_generation = 0
        self.error: FsError | None = None
        self.commit = asyncio.Lock()
        self.confirming: asyncio.Task[None] | None = None
        self.upload_id: str | None = None
        self.journalled = -1  # the generation that the journal speaks of
        self.crcs: list[int] = []
        self.time_set = -1  # the time of the last write as the guest has set it, nanoseconds
        self.scattered = False  # written elsewhere than at its end: no upload while it is written
        self.queued = False  # its upload waits in the queue of pending ones
        self.window = ReadWindow()
        self._share = share
        self._version = node.version or f"unversioned-{uuid.uuid4().hex}"
        size = 0 if new else node.size
        self.content = Content(size, size, 0 if new else _serial(node))
        self._object_size = size
        self.mark = uuid.uuid4().hex
        self._segments: dict[int, Segment] = {}
        self._claimed: dict[int, set[int]] = {}  # blocks in a segment, not yet verified
        self._fetching: dict[int, asyncio.Task[None]] = {}
        self._lane = Lane()
        self._write_segments: set[int] = set()
        self._whole: asyncio.Task[None] | None = None
        self._closed = False
        self._distrusted = 0

    # ---- what is here ----

    @property
    def size(self) -> int:
        """The size that the guest sees."""
        return self.content.state().size

    @property
    def has_new_data(self) -> bool:
        """Whether it was written since it was last stored."""
        return self.content.state().generation != self.stored_generation

    @property
    def is_changing(self) -> bool:
        """Whether somebody has it open who has written to it, and not flushed that yet."""
        generation = self.content.state().generation
        return self.writers > 0 and generation not in {self.stored_generation, self.journalled}

    @property
    def is_local(self) -> bool:
        """Whether what is here is newer than anything that the service tells."""
        if self.writers > 0 or self.queued or self.confirming is not None or self.commit.locked():
            return True
        return self.has_new_data and not self.node.removed

    @property
    def is_idle(self) -> bool:
        """Whether nobody has it open and nothing of it is on its way."""
        return not self.is_local and self.content.state().handles == 0

    def missing(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of what of a range has to be fetched."""
        for run in self.content.extents(offset, length):
            if run.kind is Source.MISSING:
                yield run.offset, run.length

    # ---- reading ----

    async def read(self, offset: int, length: int) -> None:
        """A read missed: fetch what it needs, and what the window says besides."""
        ahead = self.window.on_miss(offset, length)
        fits = self._object_size <= self._share.settings.cache_size // 4
        if self.window.is_random and fits and self._whole is None:
            self._whole = self._share.spawn(self.ensure(0, self._object_size), "rest of a file")
        needed = self._start(offset, length)
        self._fetch_ahead(ahead)
        await _all(needed)

    def read_on(self) -> None:
        """A reader has used up half of what was fetched ahead of it."""
        if not self._closed:
            self._fetch_ahead(self.window.on_mark())

    def _fetch_ahead(self, ahead: range) -> None:
        end = min(ahead.stop, self._object_size)
        if end > ahead.start:
            self._start(ahead.start, end - ahead.start)
            self.content.read_mark(self.window.mark if end < self._object_size else NEVER)

    async def ensure(self, offset: int, length: int) -> None:
        """Make sure that a range is here."""
        end = offset + length
        tasks = self._start(offset, min(length, STEP))
        for at in range(offset + STEP, end, STEP):
            following = self._start(at, min(STEP, end - at))
            await _all(tasks)
            tasks = following
        await _all(tasks)

    async def load(self, offset: int, length: int) -> bytes:
        """Return a range of the file as it is now, fetching what of it is not here.

        Raises:
            FsError: it cannot be had.
        """
        for _ in range(_LOAD_TRIES):
            await self.ensure(offset, length)
            try:
                if length > BLOCK:
                    data = await asyncio.to_thread(self.content.read, offset, length)
                else:
                    data = self.content.read(offset, length)
            except OSError:  # somebody cut a cache file
                self.distrust(offset, length)
                continue
            if len(data) == length:  # else some of it was evicted between the two
                return data
        raise FsError(errno.EIO, f"{self.node.key} cannot be read from the cache directory")

    def fetch_whole(self) -> None:
        """Begin to fetch a small file whole."""
        if self._object_size <= SMALL:
            self._start(0, self._object_size)

    def distrust(self, offset: int, length: int) -> None:
        """A cache file cannot be read any more: fetch these segments anew.

        Raises:
            FsError: EIO, this does not help.
        """
        self._distrusted += 1
        if self._distrusted > _DISTRUST_MAX:
            raise FsError(errno.EIO, f"{self.node.key} cannot be read from the cache directory")
        for index in range(offset // SEGMENT, (offset + length - 1) // SEGMENT + 1):
            self.evicted(index)

    def evicted(self, index: int) -> None:
        """A clean segment was taken out of the cache."""
        self.content.drop_segment(index)
        segment = self._segments.pop(index, None)
        self._claimed.pop(index, None)
        if segment is not None:
            self._let_go(index, segment)

    def _let_go(self, index: int, segment: Segment) -> None:
        holders = self._share.holders.get((segment.hash, index))
        if holders is not None:
            holders.discard(self)
            if not holders:
                del self._share.holders[segment.hash, index]
        segment.close()

    def _start(self, offset: int, length: int) -> set[asyncio.Task[None]]:
        """Begin to fetch what is missing of a range; returns whom to wait for."""
        tasks: set[asyncio.Task[None]] = set()
        for at, size in self.missing(offset, length):
            block, end = at // BLOCK, -(-(at + size) // BLOCK)
            while block < end:
                task = self._fetching.get(block)
                if task is None:
                    task = self._start_chunk(block, end)
                tasks.add(task)
                block += 1
        return tasks

    def _start_chunk(self, block: int, end: int) -> asyncio.Task[None]:
        """One request, from a block that nobody fetches up to one that is fetched or not wanted."""
        per_chunk = CHUNK // BLOCK
        last = min(end, (block // per_chunk + 1) * per_chunk)
        stop = block + 1
        claimed = self._claims(block)
        while stop < last and stop not in self._fetching and self._claims(stop) == claimed:
            stop += 1
        work = self._verify(block, stop) if claimed else self._fetch(block, stop)
        task = self._share.spawn(work, f"bytes of {self.node.key}")
        for each in range(block, stop):
            self._fetching[each] = task
        task.add_done_callback(lambda _: self._fetched(block, stop))
        return task

    def _fetched(self, block: int, stop: int) -> None:
        for each in range(block, stop):
            self._fetching.pop(each, None)

    async def _fetch(self, block: int, stop: int) -> None:
        offset = block * BLOCK
        size = min(stop * BLOCK, self._object_size) - offset
        async with self._share.transfers(size, self._lane):
            data = await self._share.service.read(self.node.key, offset, size, etag=self.node.etag)
            await self._share.writing.acquire()
        try:
            if self._closed:
                return
            segment = self._segment(offset // SEGMENT)
            await segment.add(offset % SEGMENT, data)
        finally:
            self._share.writing.release()
        self._mark_present(segment, offset, size)

    def _mark_present(self, segment: Segment, offset: int, size: int) -> None:
        """Bytes are in a segment, if that is the one still: another has none of them."""
        if self._closed or self._segments.get(offset // SEGMENT) is not segment:
            return
        self.content.mark_present(offset, size)

    async def _verify(self, block: int, stop: int) -> None:
        """Blocks that an earlier run or another daemon left in the cache, checked before use."""
        per_segment = SEGMENT // BLOCK
        index, first = divmod(block, per_segment)
        segment = self._segment(index)
        good = await segment.check(first, first + stop - block - 1)
        if self._closed:
            return
        self._claimed.get(index, set()).difference_update(range(first, first + stop - block))
        if good:
            offset = block * BLOCK
            self._mark_present(segment, offset, min(stop * BLOCK, self._object_size) - offset)
        else:
            await self._fetch(block, stop)

    def _claims(self, block: int) -> bool:
        index, inside = divmod(block, SEGMENT // BLOCK)
        self._segment(index)
        return inside in self._claimed.get(index, ())

    def _segment(self, index: int) -> Segment:
        segment = self._segments.get(index)
        if segment is None:
            segment = self._share.cache.segment(
                self.node.key, self._version, index, self._object_size
            )
            self._segments[index] = segment
            self._claimed[index] = {block for run in segment.blocks() for block in run}
            self._share.holders.setdefault((segment.hash, index), set()).add(self)
            self.content.add_segment(BASE, index, os.dup(segment.fd))
        return segment

    def stored_as(self, version: str) -> None:
        """What is fetched from now on is of this version, which what is here became."""
        self._version = version or f"unversioned-{uuid.uuid4().hex}"

    # ---- writing ----

    def open_for_writing(self) -> None:
        """One more handle may write."""
        self.writers += 1
        self.content.set_writable(True)
        if self.write_id is None:
            self.write_id = self._share.cache.new_file_id()

    async def make_way(self, offset: int, length: int) -> None:
        """A write cannot go on by itself: provide segments, and the rest of its pages."""
        end = offset + length
        self.add_write_segments(offset, end)
        base_size = self.content.state().base_size
        pages = {at // PAGE for at in (offset, end) if at % PAGE}
        if base_size % PAGE and end > base_size:
            pages.add(base_size // PAGE)
        for page in pages:
            await self.fill(page * PAGE, PAGE)

    def add_write_segments(self, offset: int, end: int) -> None:
        """Make sure that there are write segments for a range."""
        if self.write_id is None:
            self.write_id = self._share.cache.new_file_id()
        for index in range(offset // SEGMENT, max(end - 1, offset) // SEGMENT + 1):
            if index not in self._write_segments:
                fd = self._share.cache.new_write(self.write_id, index)
                self._write_segments.add(index)
                self.content.add_segment(WRITE, index, fd)

    async def fill(self, offset: int, length: int) -> None:
        """Copy what the base has of a range of whole pages into the write layer."""
        base_size = self.content.state().base_size
        end = min(offset + length, base_size)
        if offset >= end:
            return
        await self.ensure(offset, end - offset)
        self.add_write_segments(offset, end)
        for at in range(offset, end, SMALL):
            self.content.fill(at, await self.load(at, min(SMALL, end - at)))
            await asyncio.sleep(0)

    def truncate(self, size: int) -> None:
        """Change the size; what is added reads as zeros."""
        if size > self.size:
            self.scattered = True
        if size == 0:
            self.scattered = False
        self.content.truncate(size)

    async def make_whole(self) -> None:
        """Bring all bytes into the write layer, so that it stands for itself."""
        step = CHUNK
        base_size = self.content.state().base_size
        for offset in range(0, base_size, step):
            runs = self.content.extents(offset, min(step, base_size - offset))
            if any(run.kind in {Source.BASE, Source.MISSING} for run in runs):
                await self.fill(offset, min(step, base_size - offset))
        if self.size > 0:
            self.add_write_segments(0, self.size)

    # ---- storing ----

    def new_upload_id(self) -> str:
        """Return an id for an upload of these bytes, by which ``uploaded`` knows it again."""
        return f"{self.mark}.{uuid.uuid4().hex[:8]}"

    def uploaded(self, upload_id: str) -> bool:
        """Whether an id is of an upload of these bytes, one of a daemon before this one included.

        One that failed may have arrived all the same: the answer got lost, or came too late.
        """
        return upload_id.rpartition(".")[0] == self.mark

    # ---- the end ----

    def lose(self) -> None:
        """The object is not what it was: nobody opens these bytes any more."""
        if self.node.file is self:
            self.node.file = None
            self._share.mailbox.set_content(self.node.ino, None)
        if self.write_id is not None:
            self._share.cache.drop_writes(self.write_id)
        self.close()

    def close(self) -> None:
        """Give up what is held here; open handles of the guest keep what they have."""
        if self._closed:
            return
        self._closed = True
        for task in set(self._fetching.values()):
            task.cancel()
        for index, segment in self._segments.items():
            self._let_go(index, segment)
        self._segments.clear()
        self.content.close()

    @property
    def closed(self) -> bool:
        """Whether it was given up."""
        return self._closed


@contextlib.asynccontextmanager
async def held(node: Node) -> AsyncIterator[File | None]:
    """Hold the ``commit`` of a node's file: nobody stores it or gives it up meanwhile.

    Yields the file, or None: it has none. One that was given up while we waited for it is not the
    node's any more, and its successor is held in its place.
    """
    while (file := node.file) is not None:
        async with file.commit:
            if node.file is file:
                yield file
                return
    yield None


def _serial(node: Node) -> int:
    """A number for this version of the object, the same whenever it is opened; 0: none."""
    if not node.version:
        return 0
    digest = hashlib.blake2b(node.version.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for all, then meet the first error; a cancelled waiter cancels none of them."""
    if not tasks:
        return
    if len(tasks) == 1:
        await asyncio.shield(next(iter(tasks)))
        return
    await asyncio.wait(tasks)
    for task in tasks:
        task.result()
