# SPDX-License-Identifier: Apache-2.0
"""Which clean segments go when there are too many: the least recently used, by unlink only.

There is no index: the directory is the truth, shared with other daemons, and may hold a hundred
thousand files. A scan (in a thread) adds up what is there and keeps the oldest as candidates, a
bounded number of them; each is looked at again before it goes, and stays if it was used since.
Between scans the total is an estimate: this process knows what it added itself, and scans anew when
that is a sixteenth of the size. Two daemons that evict at once take the same files in the same
order, so that together they free what one would have.

The time of a segment is the later of its access and modification times. The kernel sets the first
by itself when the data plane reads, but (relatime) only once after the inode was changed: so a
scan that meets a file read since its last change sets its times to what they are: such a change.

Sizes are allocated blocks, since segments are sparse.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ovfs.remote.layout import parse_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ovfs.remote.layout import Layout

GRACE = 0.2  # seconds; what was used just now is being read: evicting it would only fetch it again
_SLACK = 16  # evicts to a 16th below the size, and lets it grow a 16th between scans
_MAX_CANDIDATES = 1 << 16
_MAX_RESERVE = 256 << 20
_OLD_TEMPORARY = 3600.0  # seconds; a temporary file lives for microseconds
_BATCH = 64  # evictions told at once

log = logging.getLogger(__name__)


class _Candidate(NamedTuple):
    time_ns: int
    name: str
    size: int


class Evictor:
    """Keeps the segments of a cache directory within a size. Any thread.

    Args:
        layout: The cache directory.
        size: Bytes that clean segments may take.
        reserve: Bytes of the disk to leave free; None: a 20th of it, at most 256 MiB.
        gone: Called with the hashes and indexes of segments that this process evicted.
    """

    def __init__(
        self,
        layout: Layout,
        size: int,
        reserve: int | None,
        gone: Callable[[Sequence[tuple[str, int]]], None],
    ) -> None:
        self.size = size
        self._layout = layout
        self._gone = gone
        if reserve is None:
            disk = os.statvfs(layout.root)
            reserve = min(_MAX_RESERVE, disk.f_blocks * disk.f_frsize // 20)
        self.reserve = reserve
        self._working = threading.Lock()  # one scan or eviction at a time; guards _candidates
        self._candidates: list[_Candidate] = []  # a heap, the oldest first
        self._counting = threading.Lock()  # guards the counters below
        self._used = 0
        self._grown = 0  # of it, since the last scan
        self._scanned = False
        self._stopped = False

    @property
    def used(self) -> int:
        """Bytes that clean segments take; an estimate between scans."""
        return self._used

    def grew(self, size: int) -> None:
        """Count what this process added, or removed."""
        with self._counting:
            self._used += size
            self._grown += max(size, 0)

    def free(self) -> int:
        """Bytes that the disk has left for us beyond the reserve; negative within it."""
        disk = os.statvfs(self._layout.root)
        return disk.f_bavail * disk.f_frsize - self.reserve

    @property
    def due(self) -> bool:
        """Whether there is something to do."""
        return (
            not self._scanned
            or self._used > self.size
            or self._grown > self.size // _SLACK
            or self.free() < self.reserve
        )

    @property
    def crowded(self) -> bool:
        """Whether eviction lags so far behind that who adds more should wait."""
        return self._used > self.size + self.size // _SLACK

    def stop(self) -> None:
        """End a scan that is under way: the daemon does."""
        self._stopped = True

    def evict(self, room: int = 0) -> int:
        """Bring the total below the size, and the disk's free space above twice the reserve.

        Args:
            room: Bytes that must be free beyond the reserve.

        Returns:
            Bytes that were freed.
        """
        with self._working:
            if not self._scanned or self._grown > self.size // _SLACK:
                self._scan()
            low = self.size - self.size // _SLACK if self._used > self.size else self.size
            return self._evict(low, max(room, self.reserve), rescan=True)

    def make_room(self, room: int) -> int:
        """Evict at once what is known to be old, without a scan: for who meets a full disk."""
        if not self._working.acquire(blocking=False):
            return 0  # somebody is at it
        try:
            return self._evict(self.size, max(room, self.reserve), rescan=False)
        finally:
            self._working.release()

    def _evict(self, low: int, room: int, *, rescan: bool) -> int:
        freed = 0
        fresh = False  # the candidates are of a scan that was made here
        told: list[tuple[str, int]] = []
        while not self._stopped and (self._used > low or self.free() < room):
            if self._candidates:
                size = self._remove(heapq.heappop(self._candidates), told)
                freed += size
                fresh = fresh and not size
            elif rescan and not fresh and self._used > 0:
                self._scan()
                fresh = True
            else:
                break  # what is left is in use, or another file system's user filled the disk
            if len(told) >= _BATCH:
                self._gone(told)
                told = []
        if told:
            self._gone(told)
        return freed

    def _remove(self, candidate: _Candidate, told: list[tuple[str, int]]) -> int:
        """Unlink a candidate unless it was used since; return the bytes that this freed."""
        name = parse_segment(candidate.name)
        if name is None:
            return 0
        path = self._layout.segment(*name)
        try:
            status = path.stat()
            used = max(status.st_atime_ns, status.st_mtime_ns)
            if used > candidate.time_ns or used > time.time_ns() - GRACE * 1e9:
                return 0
            path.unlink()
        except FileNotFoundError:  # another daemon was quicker
            size = candidate.size
        else:
            size = status.st_blocks * 512
        told.append(name)
        self.grew(-size)
        return size

    def _scan(self) -> None:
        """Add up what is there and find the oldest."""
        with self._counting:
            before = self._grown
        total = kept = 0
        heap: list[tuple[int, str, int]] = []  # the youngest candidate first: times are negated
        for entry, status in self._files():
            if self._stopped:
                return
            size = status.st_blocks * 512
            total += size
            heapq.heappush(heap, (-_time_of(entry, status), entry.name, size))
            kept += size
            while len(heap) > _MAX_CANDIDATES or kept - heap[0][2] > self.size // 4:
                kept -= heapq.heappop(heap)[2]
        oldest = [_Candidate(-age, name, size) for age, name, size in heap]
        heapq.heapify(oldest)  # sorting so many would hold the other threads up for 50 ms
        self._candidates = oldest
        with self._counting:
            # What was added during the scan may have been counted or not: better twice than never.
            self._grown -= before
            self._used = total + self._grown
            self._scanned = True

    def _files(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        with os.scandir(self._layout.segments) as folders:
            names = [folder.path for folder in folders if folder.is_dir(follow_symlinks=False)]
        foreign = 0
        for name in names:
            with os.scandir(name) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if parse_segment(entry.name):
                        yield entry, status
                    elif not entry.name.startswith("."):
                        foreign += 1
                    elif time.time() - status.st_mtime > _OLD_TEMPORARY:
                        _unlink(entry.path)
        if foreign and not self._scanned:
            log.warning("cache: %d files in %s are not ours", foreign, self._layout.segments)


def _time_of(entry: os.DirEntry[str], status: os.stat_result) -> int:
    """Return when a segment was used last; see that the next read of it shows in its times."""
    used = max(status.st_atime_ns, status.st_mtime_ns)
    now = time.time_ns()
    if used > now + 60 * 10**9:  # the clock was put back: without this it would stay for ever
        used = now
        _set_times(entry.path, now, now)
    elif status.st_atime_ns > status.st_ctime_ns:
        _set_times(entry.path, status.st_atime_ns, status.st_mtime_ns)
    return used


def _set_times(path: str, atime_ns: int, mtime_ns: int) -> None:
    try:
        os.utime(path, ns=(atime_ns, mtime_ns), follow_symlinks=False)
    except OSError:  # gone meanwhile, or another user's
        return


def _unlink(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108  a path of scandir, many times over
    except FileNotFoundError:
        return
