# SPDX-License-Identifier: Apache-2.0
"""The bytes of one remote file, as the data plane has them: which are in which cache file.

Thin, as ``plane``: one C call a method. What each promises is said in ``c/ovfs_api.h``. Any thread
may call any of them; those that say so block on the disk, without the GIL.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum
from errno import ENODATA, ENOENT
from typing import Any, NamedTuple

from ovfs.native._plane import ffi, lib

SEGMENT: int = lib.OVFS_SEGMENT
BLOCK: int = lib.OVFS_BLOCK
PAGE: int = lib.OVFS_PAGE
NEVER = 2**64 - 1  # for `notify_at`; for `seal`: all of it

_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class Layer(IntEnum):
    """Which files a segment belongs to (``enum ovfs_layer``)."""

    BASE = lib.OVFS_LAYER_BASE
    WRITE = lib.OVFS_LAYER_WRITE


class Source(IntEnum):
    """Where a byte comes from (``enum ovfs_source``)."""

    ZERO = lib.OVFS_SOURCE_ZERO
    WRITE = lib.OVFS_SOURCE_WRITE
    BASE = lib.OVFS_SOURCE_BASE
    MISSING = lib.OVFS_SOURCE_MISSING


@dataclass(frozen=True, slots=True)
class Extent:
    """Neighbouring bytes of one source."""

    offset: int
    length: int
    kind: Source


class ContentState(NamedTuple):
    """A snapshot (``struct ovfs_content_state``)."""

    size: int
    base_size: int
    version: int
    generation: int
    stored: int
    sealed: int
    mtime_ns: int
    handles: int
    writable: bool


def _check(result: int, action: str) -> int:
    """Turn a negative errno into the exception that names it; return anything else."""
    if result < 0:
        raise OSError(-result, f"{os.strerror(-result)} ({action})")
    return result


class Content:
    """The bytes of one file: `size` of them, of which the stored object gives `base_size`.

    Nodes and handles of the guest hold references of their own. Ours goes with the object, or with
    `close`.
    """

    def __init__(self, size: int, base_size: int, version: int) -> None:
        raw = lib.ovfs_content_new(size, base_size, version)
        if not raw:
            raise MemoryError
        # Counted by Python from here on: a read in another thread outlives a close.
        self._raw: Any = ffi.gc(raw, lib.ovfs_content_unref)

    @property
    def handle(self) -> Any:
        """What the calls of the mailbox take; good for as long as this object is referenced."""
        return self._raw

    def close(self) -> None:
        """Drop our reference. No use after, except `close`."""
        self._raw = None

    def add_segment(self, layer: int, index: int, fd: int) -> None:
        """Give a cache file of a `Layer` to the content, which closes it, at once on failure."""
        result = lib.ovfs_content_segment(self._raw, layer, index, fd)
        _check(result, f"adding segment {index}")

    def drop_segment(self, index: int) -> bool:
        """Forget a base segment, which was evicted; False: there was none."""
        return bool(lib.ovfs_content_drop(self._raw, index) == 0)

    def mark_present(self, offset: int, length: int) -> bool:
        """Say that bytes of the base are in their segment; False: one was dropped meanwhile."""
        result = lib.ovfs_content_present(self._raw, offset, length)
        return result != -ENOENT and _check(result, "marking blocks present") == 0

    def fill(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put bytes of the base into absent pages of the write layer. Blocks on the disk."""
        view = ffi.from_buffer(data)
        _check(lib.ovfs_content_fill(self._raw, offset, view, len(view)), "filling pages")

    def read(self, offset: int, length: int) -> bytes:
        """Return what is there: fewer bytes, or none, before what is missing. Blocks on the disk.

        Raises:
            OSError: a cache file cannot be read, or is shorter than it should be (EIO).
        """
        length = max(0, min(length, self.state().size - offset))
        buffer = _uncleared("char[]", length)
        count = lib.ovfs_content_read(self._raw, offset, buffer, length)
        if count == -ENODATA:
            return b""
        return bytes(ffi.buffer(buffer, _check(count, "reading cache files")))

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Write as the guest does, sealed or not; return how many bytes. Blocks on the disk.

        Raises:
            BlockingIOError: a segment has to be added, or a page to be filled first.
            OSError: the disk is full, for instance.
        """
        view = ffi.from_buffer(data)
        count = lib.ovfs_content_write(self._raw, offset, view, len(view))
        return _check(count, "writing to cache files")

    def extents(self, offset: int, length: int) -> list[Extent]:
        """Return where these bytes come from, in order, up to the end of the file."""
        found: list[Extent] = []
        run = ffi.new("uint64_t *")
        end = offset + length
        while offset < end:
            kind = Source(lib.ovfs_content_extent(self._raw, offset, run))
            if run[0] == 0:
                break
            found.append(Extent(offset, min(int(run[0]), end - offset), kind))
            offset += int(run[0])
        return found

    def set_writable(self, on: bool) -> None:
        """Have WRITEs served by the data plane, or not any more: then none is in flight."""
        lib.ovfs_content_writable(self._raw, on)

    def seal(self, below: int) -> None:
        """Have WRITEs below this offset come as mail; those in flight have ended."""
        lib.ovfs_content_seal(self._raw, below)

    def truncate(self, size: int) -> None:
        """Set the size, which counts as a change in any case. Blocks on the disk."""
        _check(lib.ovfs_content_truncate(self._raw, size), "truncating cache files")

    def notify_at(self, size: int) -> None:
        """Have a note sent once the file is so large."""
        lib.ovfs_content_notify(self._raw, size)

    def read_mark(self, at: int) -> None:
        """Have a note sent once a read ends beyond this offset (``NEVER``: none)."""
        lib.ovfs_content_read_mark(self._raw, at)

    def set_stored(self, generation: int) -> bool:
        """Say that changes up to this one are stored; return whether there are no later ones."""
        return bool(lib.ovfs_content_stored(self._raw, generation) == 0)

    def set_version(self, version: int) -> None:
        """Name the bytes: a guest that meets the same number again keeps its pages."""
        lib.ovfs_content_set_version(self._raw, version)

    def lose(self) -> None:
        """Another writer was first: whoever has it open gets ESTALE from now on."""
        lib.ovfs_content_lose(self._raw)

    def set_mtime(self, mtime_ns: int) -> None:
        """Set the time of the last change, until the next one."""
        lib.ovfs_content_set_mtime(self._raw, mtime_ns)

    def state(self) -> ContentState:
        """Return a snapshot."""
        raw = ffi.new("struct ovfs_content_state *")
        lib.ovfs_content_state(self._raw, raw)
        return ContentState(
            size=raw.size,
            base_size=raw.base_size,
            version=raw.version,
            generation=raw.generation,
            stored=raw.stored,
            sealed=raw.sealed,
            mtime_ns=raw.mtime_ns,
            handles=raw.handles,
            writable=bool(raw.writable),
        )
