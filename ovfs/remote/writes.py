# SPDX-License-Identifier: Apache-2.0
"""Write segments: the bytes of files that a guest is writing, in no one else's hands.

Each is a sparse file of 64 MiB. They are never evicted: they are the only copy. What they end as:

    stored      ``adopt``: they become clean segments of the new version, so that it is warm at once
    lost race   ``keep_conflict``: one readable file in ``conflicts``
    given up    ``drop``

A file's owner is the daemon whose token its id begins with, or the one that took it over from a
dead one (FILEID.owner). At start, what has neither a living owner nor a journal entry is removed:
its guest was never told that it is safe.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from array import array
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import quote

from ovfs.remote.layout import (
    BLOCK,
    FILE_ID,
    PAGE,
    SEGMENT,
    parse_write,
    segment_length,
    token_of,
)
from ovfs.remote.segment import SegmentId, checksum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ovfs.remote.layout import Layout
    from ovfs.remote.presence import Presence

_NAME_MAX = 255

log = logging.getLogger(__name__)


class Writes:
    """The write segments of this daemon. Loop thread, but for what says otherwise."""

    def __init__(self, layout: Layout, presence: Presence) -> None:
        self._layout = layout
        self._presence = presence
        self._numbers = count(1)
        self._known: dict[str, set[int]] = {}  # file id to the segments that there are

    def tells_holes(self) -> bool:
        """Whether the file system tells to the page what of a sparse file was written.

        Some tell larger pieces, or take all of it for data; then the zeros of a hole are not told
        from written ones.
        """
        path = self._layout.writes / f".holes-{self._presence.token}"
        at = SEGMENT // 2 + PAGE
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            path.unlink()
            os.ftruncate(fd, SEGMENT)
            os.pwrite(fd, b"1", at)
            found = (os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, at, os.SEEK_HOLE))
        except OSError:
            return False
        finally:
            os.close(fd)
        return found == (at, at + PAGE)

    def new_file_id(self) -> str:
        """Return an id that no file had."""
        return f"{self._presence.token}-{next(self._numbers):x}"

    def create(self, file_id: str, index: int) -> int:
        """Return a descriptor of a write segment, made if there is none.

        Raises:
            OSError: as the disk says.
        """
        _check(file_id)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self._layout.write_at(file_id, index), flags, 0o600)
        try:
            os.ftruncate(fd, SEGMENT)
        except BaseException:
            os.close(fd)
            raise
        self._known.setdefault(file_id, self._segments(file_id)).add(index)
        return fd

    def of(self, file_id: str) -> dict[int, Path]:
        """Return the segments of a file by number; those never written to are missing."""
        return {n: self._layout.write(file_id, n) for n in sorted(self._segments(file_id))}

    def drop(self, file_id: str) -> None:
        """Remove a file's segments. Its journal entry must be gone."""
        for index in self._segments(file_id):
            self._layout.write(file_id, index).unlink(missing_ok=True)
        self._known.pop(file_id, None)
        self._layout.write(file_id, "owner").unlink(missing_ok=True)  # last: it guards the others

    def copy(self, file_id: str, target: str, size: int) -> None:
        """Make a second file of the segments' data, up to a size. Any thread; may take long.

        Raises:
            OSError: it could not be made; nothing of it is left.
        """
        _check(target)
        made = self._known.setdefault(target, set())
        try:
            for index, path in self.of(file_id).items():
                length = segment_length(size, index)
                if length:
                    made.add(index)
                    _join({0: path}, self._layout.write(target, index), length)
        except BaseException:
            self.drop(target)
            raise

    def keep(self, file_id: str, name: str, size: int | None) -> Path:
        """Make one readable file of the segments, then drop them. Any thread; may take long.

        Raises:
            OSError: it could not be made; the segments are as they were.
        """
        segments = self.of(file_id)
        if size is None:
            size = (max(segments, default=-1) + 1) * SEGMENT
        temporary = self._layout.conflicts / f".{file_id}"
        temporary.unlink(missing_ok=True)
        try:
            if size <= SEGMENT and 0 in segments:
                os.link(segments[0], temporary)
                os.truncate(temporary, size)
            else:
                _join(segments, temporary, size)
            kept = self._publish(temporary, name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self.drop(file_id)
        return kept

    def _publish(self, temporary: Path, name: str) -> Path:
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
        base = quote(name.strip("/"), safe=" ,;=+@#()[]{}!", errors="surrogateescape")
        base = base[-(_NAME_MAX - len(stamp) - 8) :] or "unnamed"
        for number in count():
            suffix = f".{number}" if number else ""
            kept = self._layout.conflicts / f"{base}.{stamp}{suffix}"
            with contextlib.suppress(FileExistsError):
                os.link(temporary, kept)
                break
        temporary.unlink()
        return kept

    def adopt(self, file_id: str, key_hash: str, size: int, crcs: Sequence[int] | None) -> int:
        """Make clean segments of the segments, as far as they are wanted. Any thread.

        Returns:
            Bytes that the clean segments take on the disk.
        """
        taken = 0
        for index, path in self.of(file_id).items():
            length = segment_length(size, index)
            name = SegmentId(key_hash, index, length)
            if length and not self._is_whole(name):
                first = index * SEGMENT // BLOCK
                known = None if crcs is None else crcs[first : first + name.blocks]
                taken += self._adopt_one(path, name, known)
        return taken

    def _adopt_one(self, path: Path, name: SegmentId, crcs: Sequence[int] | None) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if crcs is None:
                crcs = _read_checksums(fd, name)
            if len(crcs) != name.blocks:
                raise ValueError(f"{len(crcs)} checksums for {name.blocks} blocks")
            os.ftruncate(fd, name.length)  # what is behind the data becomes zeros
            os.pwrite(fd, name.trailer([crc or 1 for crc in crcs]), name.table_at)
            target = self._layout.segment(name.hash, name.index)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            path.rename(target)
            return os.fstat(fd).st_blocks * 512
        finally:
            os.close(fd)

    def _is_whole(self, name: SegmentId) -> bool:
        """Whether there is a clean segment already that has all its blocks."""
        try:
            fd = os.open(self._layout.segment(name.hash, name.index), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            table, wrong = name.read_table(fd)
        finally:
            os.close(fd)
        return not wrong and all(table)

    def remove_stale(self) -> None:
        """Remove what dead daemons left and no journal entry names. Any thread."""
        removed = size = 0
        living: dict[str, bool] = {}
        for entry in list(os.scandir(self._layout.writes)):
            parsed = parse_write(entry.name)
            if parsed is None or parsed[1] == "json" or self._is_wanted(parsed[0], living):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                os.unlink(entry.path)  # noqa: PTH108  a path of scandir
                removed += parsed[1] != "owner"
                size += status.st_blocks * 512
        if removed:
            log.info(
                "cache: removed %d files (%d bytes) of writes that were never finished",
                removed,
                size,
            )

    def _is_wanted(self, file_id: str, living: dict[str, bool]) -> bool:
        """Whether a journal entry names the file, or a living daemon works on it.

        In this order: who takes a file over becomes its owner before the entry goes.
        """
        if os.path.lexists(self._layout.write(file_id, "json")):
            return True
        token = owner_of(self._layout, file_id)
        if token not in living:
            living[token] = self._presence.alive(token)
        return living[token]

    def _segments(self, file_id: str) -> set[int]:
        """Return the numbers of a file's segments; of one taken over, from the directory."""
        if file_id not in self._known:
            if token_of(file_id) == self._presence.token:
                return self._known.setdefault(file_id, set())
            self._learn()
        return self._known.get(file_id, set())

    def _learn(self) -> None:
        """Find the segments of all files that were taken over, since they come in numbers."""
        found: dict[str, set[int]] = {}
        for name in os.listdir(self._layout.writes):  # noqa: PTH208  names are what is wanted
            parsed = parse_write(name)
            if parsed is not None:
                numbers = found.setdefault(parsed[0], set())
                if parsed[1].isdecimal():
                    numbers.add(int(parsed[1]))
        for file_id, numbers in found.items():
            if owner_of(self._layout, file_id) == self._presence.token:
                self._known.setdefault(file_id, numbers)


def owner_of(layout: Layout, file_id: str) -> str:
    """Return the token of the daemon that a file is in the hands of, dead or alive."""
    try:
        return os.readlink(layout.write(file_id, "owner"))  # noqa: PTH115  a token, not a path
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.EINVAL}:
            raise
        return token_of(file_id)


def _check(file_id: str) -> None:
    if not FILE_ID.fullmatch(file_id):
        raise ValueError(f"{file_id!r} is no file id")


def _join(segments: dict[int, Path], target: Path, size: int) -> None:
    """Copy the data of segments, and not their holes, to where it belongs in one file."""
    into = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(into, size)
        for index, path in segments.items():
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for start, stop in _data(source, segment_length(size, index)):
                    _copy(source, into, start, stop, index * SEGMENT)
            finally:
                os.close(source)
    finally:
        os.close(into)


def _data(fd: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the data of a sparse file begins and ends."""
    at = 0
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        at = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        if start < at:
            yield start, at


def _copy(source: int, into: int, start: int, stop: int, base: int) -> None:
    while start < stop:
        copied = os.copy_file_range(source, into, stop - start, start, base + start)
        if not copied:
            raise OSError(errno.EIO, "a write segment was cut short")
        start += copied


def _read_checksums(fd: int, name: SegmentId) -> array[int]:
    crcs: array[int] = array("I")
    for at in range(0, name.length, BLOCK):
        data = os.pread(fd, min(BLOCK, name.length - at), at)
        crcs.append(checksum(data))
    return crcs
