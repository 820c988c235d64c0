# SPDX-License-Identifier: Apache-2.0
"""A file system whose reads wait until they are told to go on: a disk that hangs.

It is the smallest server that /dev/fuse takes: one directory, one file in it, all of whose reads
are kept until `release`. The kernel has them waiting where no signal but SIGKILL reaches them, just
as behind a disk that does not answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import threading
from typing import TYPE_CHECKING, Final, Self

from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import ROOT_ID, Init, Opcode

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = b"file"
SIZE: Final = 1 << 20
FILLED_WITH: Final = b"\xa5"
_FILE_ID: Final = 2
_MNT_DETACH: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


class HangingFs:
    """Mounts at a directory while it is entered; needs root.

    Args:
        path: Where.
        asynchronous: Whether the kernel reads ahead as from a disk, where starting a read does not
            wait, or as from file systems on which it does.

    Attributes:
        reads: How many READs have come.
    """

    def __init__(self, path: Path, *, asynchronous: bool = True) -> None:
        self.path = os.fsencode(path)
        self._asynchronous = asynchronous
        self.reads = 0
        self._kept: list[tuple[int, int]] = []
        self._released = False
        self._lock = threading.Lock()
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._end, self._end_write = os.pipe()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if _libc.mount(b"hanging", self.path, b"fuse", 0, options) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
        _libc.umount2(self.path, _MNT_DETACH)
        os.write(self._end_write, b"x")
        self._thread.join()
        # Closing the device ends the file system, and with it whoever still waits for it.
        for fd in (self._fd, self._end, self._end_write):
            os.close(fd)

    def release(self) -> None:
        """Answers the reads that wait, and from now on each at once."""
        with self._lock:
            self._released = True
            kept, self._kept = self._kept, []
        for unique, size in kept:
            self._reply(unique, FILLED_WITH * size)

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._end], [], [])
            if self._end in ready:
                return
            try:
                request = os.read(self._fd, 1 << 18)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in {errno.ENODEV, errno.ECONNABORTED}:
                    return
                if error.errno == errno.ENOENT:  # it was interrupted before it got here
                    continue
                raise
            self._answer(wire.InHeader.unpack(request), request[wire.InHeader.wire_size() :])

    def _answer(self, header: wire.InHeader, args: bytes) -> None:
        match header.opcode:
            case Opcode.INIT:
                flags = Init.ASYNC_READ if self._asynchronous else 0
                out = struct.pack("<IIIIHHIIHHII24x", 7, 31, 0, flags, 8, 6, 4096, 1, 1, 0, 0, 0)
                self._reply(header.unique, out)
            case Opcode.LOOKUP if args == NAME + b"\0":
                self._reply(header.unique, _entry(_FILE_ID))
            case Opcode.LOOKUP:
                self._reply(header.unique, error=errno.ENOENT)
            case Opcode.GETATTR:
                self._reply(header.unique, struct.pack("<QII", 60, 0, 0) + _attr(header.nodeid))
            case Opcode.OPEN | Opcode.OPENDIR:
                self._reply(header.unique, wire.OpenOut(0, 0, 0).pack())
            case Opcode.STATFS:
                self._reply(
                    header.unique, struct.pack("<5Q4I24x", 1, 0, 0, 1, 0, 4096, 255, 4096, 0)
                )
            case Opcode.READ:
                self._read(header.unique, wire.ReadIn.unpack(args).size)
            case Opcode.RELEASE | Opcode.RELEASEDIR | Opcode.FLUSH:
                self._reply(header.unique)
            case Opcode.FORGET | Opcode.BATCH_FORGET | Opcode.INTERRUPT:
                pass  # never answered
            case _:
                self._reply(header.unique, error=errno.ENOSYS)

    def _read(self, unique: int, size: int) -> None:
        with self._lock:
            self.reads += 1
            if not self._released:
                self._kept.append((unique, size))
                return
        self._reply(unique, FILLED_WITH * size)

    def _reply(self, unique: int, data: bytes = b"", *, error: int = 0) -> None:
        header = wire.OutHeader(wire.OutHeader.wire_size() + len(data), -error, unique)
        try:
            os.write(self._fd, header.pack() + data)
        except OSError as failed:
            if failed.errno not in {errno.ENOENT, errno.ENODEV}:  # nobody waits any more
                raise


def _attr(nodeid: int) -> bytes:
    directory = nodeid == ROOT_ID
    return wire.Attr(
        ino=nodeid,
        size=4096 if directory else SIZE,
        blocks=8,
        atime=0,
        mtime=0,
        ctime=0,
        atimensec=0,
        mtimensec=0,
        ctimensec=0,
        mode=0o040755 if directory else 0o100644,
        nlink=2 if directory else 1,
        uid=0,
        gid=0,
        rdev=0,
        blksize=4096,
        flags=0,
    ).pack()


def _entry(nodeid: int) -> bytes:
    return struct.pack("<4Q2I", nodeid, 1, 60, 60, 0, 0) + _attr(nodeid)
