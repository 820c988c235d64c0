# SPDX-License-Identifier: Apache-2.0
"""The cache directory: what was read of objects, kept on disk, and what is being written.

    segment(key, version, n)   opens or makes a clean segment (segment.py), and marks it as used
    new_write(file_id, n)      makes a write segment (writes.py)
    adopt(file_id, ...)        what was written and is stored now becomes clean segments

A housekeeping thread removes what dead daemons left, adds up the segments, and evicts
(eviction.py) when what was added asks for it; nothing at start waits for it. Who adds faster than
it evicts waits in ``Segment.add``. An evicted segment has lost its name only: its descriptors, the
data plane's too, go on. Hooks then tell those who hold it, on the loop thread, to let go, so that
the disk gets its blocks back; segments that another daemon evicted are found by their link count.

The disk's last bytes are left alone (``reserve``), so that journal entries can still be written
when data cannot; clean segments go before a write fails with ENOSPC.

Everything but ``close`` and where it says otherwise: the loop thread, where one runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
from array import array
from itertools import count
from typing import TYPE_CHECKING, Self, TypeVar

from ovfs.errors import UsageError
from ovfs.remote.eviction import Evictor
from ovfs.remote.layout import Layout, hash_key, segment_length
from ovfs.remote.presence import Presence
from ovfs.remote.segment import Segment, SegmentId
from ovfs.remote.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ovfs.uring import AsyncRing

_PERIOD = 5.0  # seconds between looks at segments that others may have evicted
_AGAIN = 0.1  # seconds until eviction is tried again where all was in use
_LONGEST_WAIT = 5.0  # seconds; better a cache that is too large than a read that hangs
_POLL = 0.01
_LITTLE = 1 << 20  # bytes to have free for what is not the data itself
_TOUCH = 10**9  # nanoseconds; a segment used more often than that is marked once

T = TypeVar("T")

log = logging.getLogger(__name__)


class Cache:
    """A cache directory as one daemon sees it.

    Args:
        directory: The cache directory; made if missing.
        size: Bytes that clean segments may take.
        identity: Names the service and what of it is served; no secrets.
        ring: What writes to segments go through; None: plain system calls.
        reserve: Bytes of the disk to leave free; None: a 20th of it, at most 256 MiB.

    Raises:
        UsageError: the directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        size: int,
        identity: str,
        ring: AsyncRing | None,
        *,
        reserve: int | None = None,
    ) -> None:
        self.layout = Layout(directory)
        self.layout.make()
        self.identity = identity
        self.ring = ring
        self.on_evict: list[Callable[[str, int], None]] = []
        try:
            self.presence = Presence(self.layout, identity, size)
        except OSError as error:
            raise UsageError(
                f"cannot write to the cache directory {directory}: {error.strerror}"
            ) from error
        self._writes = Writes(self.layout, self.presence)
        self.tells_holes = self._writes.tells_holes()
        self._evictor = Evictor(self.layout, size, reserve, self._gone)
        self._loop = _running_loop()
        self._numbers = count()
        self._lock = threading.Lock()  # guards _open, and descriptors being closed
        self._open: dict[tuple[str, int], Segment] = {}
        self._closing = False
        self._poke = threading.Event()
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._keep_house, name="ovfs-cache", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop housekeeping and give up the daemon's token. Segments are their users' to close."""
        self._closing = True
        self._evictor.stop()
        self._poke.set()
        self._thread.join()
        self.presence.close()

    # -- clean segments

    def segment(self, key: str, version: str, index: int, object_size: int) -> Segment:
        """Open a segment, or make it; the caller closes it.

        The same segment is opened once in a process, however many use it. Keep it open for as long
        as the data plane has it, so that its eviction by another daemon is noticed.

        Raises:
            OSError: ENOSPC, EMFILE, or what the disk says.
            ValueError: the object has no such segment.
        """
        length = segment_length(object_size, index)
        if not length:
            raise ValueError(f"an object of {object_size} bytes has no segment {index}")
        name = SegmentId(hash_key(self.identity, key, version), index, length)
        opened = self._open.get(name.key)
        if opened is not None:
            if opened.name == name:
                opened.users += 1
                return opened
            self.discard(opened, "the object's length is another now")
        segment = self._load(name) or self._make(name) or self._load(name)
        if segment is None:  # it was evicted between the two, at the speed of a machine gone mad
            raise OSError(errno.EIO, f"cannot keep segment {name.hash}.{name.index}")
        with self._lock:
            self._open[name.key] = segment
        return segment

    def _load(self, name: SegmentId) -> Segment | None:
        """Open a segment that is there; remove what only looks like it."""
        path = self.layout.segment(name.hash, name.index)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.EISDIR}:
                raise
            log.warning("cache: removed segment %s: it is no regular file", path.name)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        try:
            table, wrong = name.read_table(fd)
            if not wrong:
                status = os.fstat(fd)
                if time.time_ns() - max(status.st_atime_ns, status.st_mtime_ns) > _TOUCH:
                    os.utime(fd)
                return Segment(self, fd, name, table)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        log.warning("cache: removed segment %s: %s", path.name, wrong)
        path.unlink(missing_ok=True)
        return None

    def _make(self, name: SegmentId) -> Segment | None:
        """Make a segment without blocks; None if another daemon did so just now."""
        path = self.layout.segment(name.hash, name.index)
        temporary = path.with_name(f".{self.presence.token}-{next(self._numbers)}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(temporary, flags, 0o600)
        try:
            trailer = name.trailer([0] * name.blocks)
            self._retry_if_full(lambda: _write_all(fd, trailer, name.table_at))
            os.link(temporary, path)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, FileExistsError):
                return None
            raise
        finally:
            temporary.unlink(missing_ok=True)
        self.grew(os.fstat(fd).st_blocks * 512)
        return Segment(self, fd, name, array("I", bytes(4 * name.blocks)))

    def used(self) -> int:
        """Bytes that clean segments take; an estimate, 0 until they were first added up."""
        return self._evictor.used

    def wait_settled(self, timeout: float = 10.0) -> bool:
        """Wait for what housekeeping does at start; False when the time is over. Any thread."""
        return self._settled.wait(timeout)

    def evict(self) -> int:
        """Bring the total below the size; return the bytes freed. Any thread; may take long."""
        return self._evictor.evict()

    # -- what segments need (the Keeper protocol)

    async def room(self) -> None:
        """Wait while the cache is far beyond its size, but not for ever."""
        if not self._evictor.crowded:
            return
        deadline = time.monotonic() + _LONGEST_WAIT
        while self._evictor.crowded and time.monotonic() < deadline:
            self._poke.set()
            await asyncio.sleep(_POLL)

    async def make_room(self, size: int) -> None:
        """Evict until so much is free, as far as that can be had; for who meets ENOSPC."""
        await asyncio.to_thread(self._evictor.evict, size)

    def grew(self, size: int) -> None:
        """Count new bytes of clean segments; wake the housekeeper when it is time."""
        self._evictor.grew(size)
        if self._evictor.due:
            self._poke.set()

    def discard(self, segment: Segment, why: str) -> None:
        """Remove a file that is not what it should be, and tell its users. Any thread."""
        log.warning("cache: removed segment %s.%d: %s", segment.hash, segment.index, why)
        path = self.layout.segment(segment.hash, segment.index)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(segment.fd)):
                path.unlink()
        self._gone([(segment.hash, segment.index)])

    def forget(self, segment: Segment) -> None:
        """Close a segment that nobody uses any more."""
        with self._lock:
            if self._open.get(segment.name.key) is segment:
                del self._open[segment.name.key]
            os.close(segment.fd)
            segment.fd = -1

    # -- write segments

    def new_file_id(self) -> str:
        """Return an id for a file about to be written, that no other had."""
        return self._writes.new_file_id()

    def new_write(self, file_id: str, index: int) -> int:
        """Return a descriptor (O_RDWR, 64 MiB, sparse) of a write segment; it may exist already.

        Raises:
            OSError: ENOSPC: the disk is full but for its reserve; or what the disk says.
        """
        free = self._evictor.free()
        if free < self._evictor.reserve:
            self._poke.set()
            if free <= 0:
                self._evictor.make_room(_LITTLE)
                if self._evictor.free() <= 0:
                    raise OSError(errno.ENOSPC, "the cache directory's disk is full")
        return self._retry_if_full(lambda: self._writes.create(file_id, index))

    def write_path(self, file_id: str, index: int) -> Path:
        """Return where a write segment lies."""
        return self.layout.write(file_id, index)

    def writes_of(self, file_id: str) -> dict[int, Path]:
        """Return the write segments of a file by number; those never written to are missing."""
        return self._writes.of(file_id)

    async def copy_writes(self, file_id: str, target: str, size: int) -> None:
        """Make a second file of a file's write segments, as they are now, up to a size.

        Raises:
            OSError: ENOSPC...; there is none then.
        """
        await asyncio.to_thread(self._writes.copy, file_id, target, size)

    def drop_writes(self, file_id: str) -> None:
        """Remove a file's write segments. Its journal entry must be gone already."""
        self._writes.drop(file_id)

    async def adopt(
        self, file_id: str, key: str, version: str, size: int, crcs: Sequence[int] | None
    ) -> None:
        """Make clean segments of a file that was stored. Nobody may write to it any more.

        Remove the journal entry first: an entry whose segments are gone looks like lost data.

        Args:
            file_id: The file; it is no more afterwards.
            key: Where it is stored.
            version: As what.
            size: Its bytes; the segments must hold all of them.
            crcs: CRC-32 of each 64 KiB block of the file; None: they are read and summed up here.

        Raises:
            OSError: as the disk says. The segments are removed all the same.
        """
        name = hash_key(self.identity, key, version)
        try:
            taken = await asyncio.to_thread(self._writes.adopt, file_id, name, size, crcs)
            self.grew(taken)
        finally:
            self._writes.drop(file_id)
            self._find_evicted()  # those whose place ours took

    async def keep_conflict(self, file_id: str, name: str, size: int | None = None) -> Path:
        """Make one file in ``conflicts`` of a file's write segments; return its path.

        Remove the journal entry afterwards: the data is in one of the two places at any time.

        Args:
            file_id: The file; it is no more afterwards.
            name: What to call it, a key perhaps; the time is added, and a number where needed.
            size: Its bytes; None: whole segments.

        Raises:
            OSError: ENOSPC...; the write segments are as they were.
        """
        return await asyncio.to_thread(self._writes.keep, file_id, name, size)

    # -- housekeeping

    def _keep_house(self) -> None:
        pause = 0.0
        first = True
        while not self._closing:
            try:
                if first:
                    self.presence.remove_dead()
                    self._writes.remove_stale()
                    first = False
                if self._evictor.due:
                    self._evictor.evict()
                self._find_evicted()
                self._settled.set()
                pause = _AGAIN if self._evictor.crowded else _PERIOD
            except OSError:
                log.exception("cache: housekeeping in %s failed", self.layout.root)
                pause = _PERIOD
            self._poke.wait(pause)
            self._poke.clear()

    def _find_evicted(self) -> None:
        """Find the segments of ours that other daemons evicted."""
        with self._lock:
            names = [
                name
                for name, segment in self._open.items()
                if segment.fd >= 0 and os.fstat(segment.fd).st_nlink == 0
            ]
        if names:
            self._gone(names)

    def _gone(self, names: Sequence[tuple[str, int]]) -> None:
        """Tell of evictions; in whatever thread they were found."""
        with self._lock:
            for name in names:
                segment = self._open.pop(name, None)
                if segment is not None:
                    segment.evicted = True
        if self._loop is None:
            self._tell(names)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._tell, names)

    def _tell(self, names: Sequence[tuple[str, int]]) -> None:
        for hook in self.on_evict:
            for key_hash, index in names:
                hook(key_hash, index)

    def _retry_if_full(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._evictor.make_room(_LITTLE):
                raise
        return action()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
