# SPDX-License-Identifier: Apache-2.0
"""The operations, named and ordered as the system calls are; shared by Ring, Batch, AsyncRing.

Each method checks its arguments, pins what the kernel will touch (``keep``), and hands one C
function with its arguments to ``_start``, which says what "started" means: an ``Operation`` to be
reaped, or a future to be awaited.
"""
# _start's result has the type that the class's parameters say, which Python cannot express.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ovfs.uring._uring import ffi, lib
from ovfs.uring.stat import StatResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import ReadableBuffer, StrOrBytesPath, WriteableBuffer

CountT = TypeVar("CountT")
NoneT = TypeVar("NoneT")
StatT = TypeVar("StatT")

#: The working directory, as a ``dir_fd``.
AT_FDCWD = -100
#: ``statx``: all that stat has, and the time of birth.
STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800

#: The most one read or write moves (the kernel's MAX_RW_COUNT): 2 GiB less one page.
MAX_LENGTH = 0x7FFF_F000
#: The most buffers one readv or writev takes.
IOV_MAX = 1024

_BYTES = ffi.typeof("char[]")
_from_buffer = ffi.from_buffer


class Kind(NamedTuple):
    """An operation: its name, the C function that queues it, and what its result means."""

    name: str
    prepare: Callable[..., int]
    convert: Callable[[int, Any], Any] | None
    """From the completion's result and ``keep``; None: the result is the number itself."""


def _nothing(_result: int, _keep: Any) -> None:
    return None


def _stat(_result: int, keep: Any) -> StatResult:
    return StatResult.from_struct(keep[1])


_NOP = Kind("nop", lib.uring_nop, _nothing)
_READ = Kind("read", lib.uring_read, None)
_WRITE = Kind("write", lib.uring_write, None)
_READV = Kind("readv", lib.uring_readv, None)
_WRITEV = Kind("writev", lib.uring_writev, None)
_FSYNC = Kind("fsync", lib.uring_fsync, _nothing)
_OPENAT = Kind("openat", lib.uring_openat, None)
_CLOSE = Kind("close", lib.uring_close_fd, _nothing)
_STATX = Kind("statx", lib.uring_statx, _stat)
_FALLOCATE = Kind("fallocate", lib.uring_fallocate, _nothing)
_FTRUNCATE = Kind("ftruncate", lib.uring_ftruncate, _nothing)
_UNLINKAT = Kind("unlinkat", lib.uring_unlinkat, _nothing)
_RENAMEAT = Kind("renameat", lib.uring_renameat, _nothing)
_MKDIRAT = Kind("mkdirat", lib.uring_mkdirat, _nothing)
_SPLICE = Kind("splice", lib.uring_splice, None)
_POLL_ADD = Kind("poll_add", lib.uring_poll_add, None)
_TIMEOUT = Kind("timeout", lib.uring_timeout, _nothing)
_LINK_TIMEOUT = Kind("link_timeout", lib.uring_link_timeout, _nothing)


def _too_long(size: int) -> ValueError:
    return ValueError(f"{size} bytes in one operation: the kernel moves at most {MAX_LENGTH}")


def _path(path: StrOrBytesPath) -> Any:
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("embedded null byte in path")
    return _from_buffer(name + b"\0")


def _vector(pins: list[Any]) -> tuple[Any, list[Any]]:
    if len(pins) > IOV_MAX:
        raise ValueError(f"{len(pins)} buffers in one operation: at most {IOV_MAX}")
    size = sum(map(len, pins))
    if size > MAX_LENGTH:
        raise _too_long(size)
    return ffi.new("struct iovec[]", [(pin, len(pin)) for pin in pins]), pins


def _timespec(seconds: float) -> Any:
    if not 0 <= seconds < 1 << 32:
        raise ValueError(f"a time of {seconds} seconds")
    whole, fraction = divmod(round(seconds * 1_000_000_000), 1_000_000_000)
    return ffi.new("int64_t[2]", (whole, fraction))


class Calls(ABC, Generic[CountT, NoneT, StatT]):
    """The operations of a ring.

    Common to all: ``flags`` are ``SqeFlags``; an ``offset`` of -1 is the file's own position (and
    the only one for pipes); ``dir_fd`` is what a relative path starts from. Buffers are used in
    place, and cannot be resized or closed until the operation is complete.

    Raises:
        ValueError: The ring is closed, a buffer is longer than ``MAX_LENGTH``, a path has a NUL.
        RuntimeError: Called from another thread than the ring's, or a chain of linked operations
            is longer than the submission queue.
        BufferError: A buffer to read into is read-only, or is not contiguous.
        OSError: EOPNOTSUPP: the kernel has no such operation.
    """

    __slots__ = ()

    @abstractmethod
    def _start(self, kind: Kind, target: Any, keep: Any, flags: int, *args: Any) -> Any:
        """Queues ``kind.prepare(ring, token, flags, *args)``; returns the handle to its result."""

    @abstractmethod
    def supports(self, name: str) -> bool:
        """Whether the kernel implements the operation ``name`` (``"read"``, ``"ftruncate"``...)."""

    def nop(self, *, flags: int = 0) -> NoneT:
        """Does nothing, through the whole machinery."""
        return self._start(_NOP, None, None, flags)

    def read(self, fd: int, buffer: WriteableBuffer, offset: int = -1, *, flags: int = 0) -> CountT:
        """Reads into ``buffer``; the result is the number of bytes, which may be short."""
        pin = _from_buffer(_BYTES, buffer, True)
        size = len(pin)
        if size > MAX_LENGTH:
            raise _too_long(size)
        return self._start(_READ, fd, pin, flags, fd, pin, size, offset)

    def write(self, fd: int, buffer: ReadableBuffer, offset: int = -1, *, flags: int = 0) -> CountT:
        """Writes ``buffer``; the result is the number of bytes, which may be short."""
        pin = _from_buffer(buffer)
        size = len(pin)
        if size > MAX_LENGTH:
            raise _too_long(size)
        return self._start(_WRITE, fd, pin, flags, fd, pin, size, offset)

    def readv(
        self,
        fd: int,
        buffers: Sequence[WriteableBuffer],
        offset: int = -1,
        *,
        rw_flags: int = 0,
        flags: int = 0,
    ) -> CountT:
        """Reads into each of ``buffers`` in turn; ``rw_flags`` are ``os.RWF_*``."""
        keep = _vector([_from_buffer(buffer, require_writable=True) for buffer in buffers])
        return self._start(
            _READV,
            fd,
            keep,
            flags,
            fd,
            keep[0],
            len(buffers),
            offset,
            rw_flags,
        )

    def writev(
        self,
        fd: int,
        buffers: Sequence[ReadableBuffer],
        offset: int = -1,
        *,
        rw_flags: int = 0,
        flags: int = 0,
    ) -> CountT:
        """Writes each of ``buffers`` in turn; ``rw_flags`` are ``os.RWF_*``."""
        keep = _vector([_from_buffer(buffer) for buffer in buffers])
        return self._start(
            _WRITEV,
            fd,
            keep,
            flags,
            fd,
            keep[0],
            len(buffers),
            offset,
            rw_flags,
        )

    def fsync(self, fd: int, *, datasync: bool = False, flags: int = 0) -> NoneT:
        """Makes the file durable; with ``datasync``, only what is needed to read it back.

        It says nothing of writes still in flight: await those first, or link them.
        """
        return self._start(_FSYNC, fd, None, flags, fd, datasync)

    def openat(
        self,
        path: StrOrBytesPath,
        open_flags: int = os.O_RDONLY,
        mode: int = 0o666,
        *,
        dir_fd: int = AT_FDCWD,
        flags: int = 0,
    ) -> CountT:
        """Opens a file; the result is its descriptor, close-on-exec as all of Python's are."""
        pin = _path(path)
        return self._start(
            _OPENAT,
            path,
            pin,
            flags,
            dir_fd,
            pin,
            open_flags | os.O_CLOEXEC,
            mode,
        )

    def close_fd(self, fd: int, *, flags: int = 0) -> NoneT:
        """Closes a descriptor."""
        return self._start(_CLOSE, fd, None, flags, fd)

    def statx(
        self,
        path: StrOrBytesPath = b"",
        *,
        dir_fd: int = AT_FDCWD,
        at_flags: int = 0,
        mask: int = STATX_BASIC_STATS | STATX_BTIME,
        flags: int = 0,
    ) -> StatT:
        """Attributes of a file; of ``dir_fd`` itself with an empty path and AT_EMPTY_PATH."""
        pin = _path(path)
        out = ffi.new("struct statx *")
        return self._start(
            _STATX,
            path or dir_fd,
            (pin, out),
            flags,
            dir_fd,
            pin,
            at_flags,
            mask,
            out,
        )

    def fallocate(
        self, fd: int, offset: int, length: int, mode: int = 0, *, flags: int = 0
    ) -> NoneT:
        """Allocates, punches or zeroes a range, as ``mode`` (``FALLOC_FL_*``) says."""
        return self._start(_FALLOCATE, fd, None, flags, fd, mode, offset, length)

    def ftruncate(self, fd: int, length: int, *, flags: int = 0) -> NoneT:
        """Sets the file's length (Linux 6.9)."""
        if not self.supports("ftruncate"):
            raise OSError(errno.EOPNOTSUPP, "ftruncate through io_uring needs Linux 6.9")
        return self._start(_FTRUNCATE, fd, None, flags, fd, length)

    def unlinkat(
        self, path: StrOrBytesPath, *, dir_fd: int = AT_FDCWD, at_flags: int = 0, flags: int = 0
    ) -> NoneT:
        """Removes a name; a directory's with AT_REMOVEDIR."""
        pin = _path(path)
        return self._start(_UNLINKAT, path, pin, flags, dir_fd, pin, at_flags)

    def renameat(
        self,
        old: StrOrBytesPath,
        new: StrOrBytesPath,
        *,
        old_dir_fd: int = AT_FDCWD,
        new_dir_fd: int = AT_FDCWD,
        rename_flags: int = 0,
        flags: int = 0,
    ) -> NoneT:
        """Renames; ``rename_flags`` are RENAME_NOREPLACE and the like."""
        a, b = _path(old), _path(new)
        return self._start(
            _RENAMEAT,
            (old, new),
            (a, b),
            flags,
            old_dir_fd,
            a,
            new_dir_fd,
            b,
            rename_flags,
        )

    def mkdirat(
        self, path: StrOrBytesPath, mode: int = 0o777, *, dir_fd: int = AT_FDCWD, flags: int = 0
    ) -> NoneT:
        """Makes a directory."""
        pin = _path(path)
        return self._start(_MKDIRAT, path, pin, flags, dir_fd, pin, mode)

    def splice(
        self,
        fd_in: int,
        fd_out: int,
        length: int,
        *,
        offset_in: int = -1,
        offset_out: int = -1,
        splice_flags: int = 0,
        flags: int = 0,
    ) -> CountT:
        """Moves bytes between a pipe and something else; the result is how many."""
        return self._start(
            _SPLICE,
            fd_in,
            None,
            flags,
            fd_in,
            offset_in,
            fd_out,
            offset_out,
            length,
            splice_flags,
        )

    def poll_add(self, fd: int, events: int, *, flags: int = 0) -> CountT:
        """Waits once for ``select.POLL*`` events; the result is which ones came."""
        return self._start(_POLL_ADD, fd, None, flags, fd, events)

    def timeout(self, seconds: float, *, flags: int = 0) -> NoneT:
        """Completes when the time is over, without error."""
        when = _timespec(seconds)
        return self._start(_TIMEOUT, None, when, flags, when)

    def link_timeout(self, seconds: float, *, flags: int = 0) -> NoneT:
        """Cancels the operation queued just before, which has ``SqeFlags.LINK``, after that time.

        This itself completes without error either way; the other one tells by ECANCELED.
        """
        when = _timespec(seconds)
        return self._start(_LINK_TIMEOUT, None, when, flags, when)
