# SPDX-License-Identifier: Apache-2.0
"""Rows about parts of files: space, holes, copies; and about what ioctl may do to a file."""

from __future__ import annotations

import fcntl
import os
import struct
from errno import EBADF, EINVAL, EISDIR, ENOSPC, ENOTTY, ENXIO, EOPNOTSUPP, EPERM
from typing import TYPE_CHECKING

from tests.operations.host import FALLOC_PUNCH_HOLE, fallocate
from tests.operations.scene import FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, Scene
from tests.operations.table import Refusal, Row, mounted, with_fd
from tests.vmm import Opcode

if TYPE_CHECKING:
    from tests.vmm.requests import How

FS_NOATIME_FL = 0x80
FS_IOC_GETVERSION = 0x80087601
WRONG_FH = 1 << 40
BIG = 1 << 20


def _seek(s: Scene, how: How) -> tuple[int, ...]:
    nodeid, fh = s.open(b"file")
    s.fs.write(nodeid, fh, BIG, b"data")
    return tuple(
        s.fs.lseek(nodeid, fh, at, whence, **how)
        for at, whence in ((0, os.SEEK_HOLE), (BIG // 2, os.SEEK_DATA), (BIG, os.SEEK_HOLE))
    )


def _host_seek(top: bytes) -> object:
    def act(fd: int) -> tuple[int, ...]:
        os.pwrite(fd, b"data", BIG)
        return tuple(
            os.lseek(fd, at, whence)
            for at, whence in ((0, os.SEEK_HOLE), (BIG // 2, os.SEEK_DATA), (BIG, os.SEEK_HOLE))
        )

    return with_fd(top + b"/file", os.O_RDWR, act)


def _copy(s: Scene, how: How) -> int:
    return s.fs.copy_file_range((*s.open(b"file"), 2), (*s.open(b"tool"), 9), 5, **how)


def _host_copy(top: bytes) -> object:
    def act(source: int) -> object:
        return with_fd(
            top + b"/tool", os.O_RDWR, lambda target: os.copy_file_range(source, target, 5, 2, 9)
        )

    return with_fd(top + b"/file", os.O_RDWR, act)


def _copy_onto_itself(s: Scene) -> int:
    nodeid, fh = s.open(b"file")
    return s.fs.copy_file_range((nodeid, fh, 0), (nodeid, fh, 1), 5)


def _host_copy_onto_itself(top: bytes) -> object:
    return with_fd(top + b"/file", os.O_RDWR, lambda fd: os.copy_file_range(fd, fd, 5, 0, 1))


def _made(s: Scene) -> tuple[int, int]:
    """An empty file in the small file system."""
    s.both(lambda top: os.close(os.open(top + b"/dir/made", os.O_CREAT | os.O_RDWR)))
    return s.open(b"dir/made")


def _ioctl(s: Scene, how: How) -> bytes:
    nodeid, fh = s.open(b"file")
    flags = struct.unpack("i", s.fs.ioctl(nodeid, fh, FS_IOC_GETFLAGS, out_size=4)[1])[0]
    s.fs.ioctl(nodeid, fh, FS_IOC_SETFLAGS, struct.pack("i", flags | FS_NOATIME_FL))
    # Asked again by the caller of the row.
    return s.fs.ioctl(nodeid, fh, FS_IOC_GETFLAGS, out_size=4, **how)[1]


def _host_ioctl(top: bytes) -> object:
    def act(fd: int) -> bytes:
        flags = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))[0]
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags | FS_NOATIME_FL))
        return fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4))

    return with_fd(top + b"/file", os.O_RDONLY, act)


ROWS = (
    Row(
        Opcode.FALLOCATE,
        lambda s, how: s.fs.fallocate(*s.open(b"file"), 4096, 8192, **how),
        lambda t: with_fd(t + b"/file", os.O_RDWR, lambda fd: fallocate(fd, 0, 4096, 8192)),
        checks="handle",
        refusals=(
            Refusal(
                EINVAL,
                lambda s: s.fs.fallocate(*s.open(b"file"), 0, 0),
                lambda t: with_fd(t + b"/file", os.O_RDWR, lambda fd: fallocate(fd, 0, 0, 0)),
            ),
            Refusal(EINVAL, lambda s: s.fs.fallocate(*s.open(b"file"), 1 << 63, 1)),
            Refusal(
                EOPNOTSUPP,
                lambda s: s.fs.fallocate(*s.open(b"file"), 0, 4096, FALLOC_PUNCH_HOLE),
                lambda t: with_fd(
                    t + b"/file", os.O_RDWR, lambda fd: fallocate(fd, FALLOC_PUNCH_HOLE, 0, 4096)
                ),
            ),
            Refusal(EOPNOTSUPP, lambda s: s.fs.fallocate(*s.open(b"file"), 0, 4096, 1 << 30)),
            Refusal(
                EBADF,
                lambda s: s.fs.fallocate(*s.open(b"file", os.O_RDONLY), 0, 4096),
                lambda t: with_fd(t + b"/file", os.O_RDONLY, lambda fd: fallocate(fd, 0, 0, 4096)),
            ),
            Refusal(
                ENOSPC,
                mounted("size=64k", lambda s: s.fs.fallocate(*_made(s), 0, BIG)),
                lambda t: with_fd(t + b"/dir/made", os.O_RDWR, lambda fd: fallocate(fd, 0, 0, BIG)),
            ),
        ),
    ),
    Row(
        Opcode.LSEEK,
        _seek,
        _host_seek,
        checks="handle",
        refusals=(
            Refusal(
                ENXIO,
                lambda s: s.fs.lseek(*s.open(b"file"), 10, os.SEEK_DATA),
                lambda t: with_fd(
                    t + b"/file", os.O_RDWR, lambda fd: os.lseek(fd, 10, os.SEEK_DATA)
                ),
            ),
            Refusal(EINVAL, lambda s: s.fs.lseek(*s.open(b"file"), 0, 77)),
        ),
    ),
    Row(
        Opcode.COPY_FILE_RANGE,
        _copy,
        _host_copy,
        checks="handle",
        refusals=(
            Refusal(EINVAL, _copy_onto_itself, _host_copy_onto_itself),
            Refusal(
                EBADF,
                lambda s: s.fs.copy_file_range(
                    (*s.open(b"file"), 0), (*s.open(b"tool", os.O_RDONLY), 0), 5
                ),
            ),
            Refusal(
                EBADF,
                lambda s: s.fs.copy_file_range(
                    (*s.open(b"file"), 0), (s.node(b"tool"), WRONG_FH, 0), 5
                ),
            ),
            Refusal(
                EISDIR,
                lambda s: s.fs.copy_file_range((*s.open(b"file"), 0), (*s.opendir(b"dir"), 0), 5),
            ),
            Refusal(
                EINVAL,
                lambda s: s.fs.copy_file_range(
                    (*s.open(b"file"), 0), (*s.open(b"tool"), 0), 5, flags=1 << 20
                ),
            ),
        ),
    ),
    Row(
        Opcode.SYNCFS,
        lambda s, how: s.fs.syncfs(s.top, **how),
        lambda _: None,
    ),
    Row(
        Opcode.IOCTL,
        _ioctl,
        _host_ioctl,
        checks="handle",
        refusals=(
            Refusal(ENOTTY, lambda s: s.fs.ioctl(*s.open(b"file"), FS_IOC_GETVERSION, out_size=8)),
            Refusal(ENOTTY, lambda s: s.fs.ioctl(*s.open(b"file"), 0x5401, out_size=60)),
            Refusal(
                EPERM,
                lambda s: s.fs.ioctl(
                    *s.open(b"file"), FS_IOC_SETFLAGS, struct.pack("i", 0x10), uid=1000, gid=1000
                ),
            ),
        ),
    ),
)
