# SPDX-License-Identifier: Apache-2.0
"""Fixed parts of FUSE requests, as <linux/fuse.h> lays them out, and the replies made of bytes.

A request gets here checked and whole (``c/fuse_req.c``), so nothing is checked a second time.
Layouts are little-endian, as every machine that this runs on.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

NS = 1_000_000_000

FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5
FATTR_FH = 1 << 6
FATTR_ATIME_NOW = 1 << 7
FATTR_MTIME_NOW = 1 << 8
FATTR_CTIME = 1 << 10
FATTR_KILL_SUIDGID = 1 << 11

OPEN_KILL_SUIDGID = 1 << 0
WRITE_KILL_SUIDGID = 1 << 2

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2
FALLOC_ZERO_RANGE = 16


class Opcode(IntEnum):
    """Requests that Python may be asked to serve."""

    LOOKUP = 1
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    OPENDIR = 27
    READDIR = 28
    CREATE = 35
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    SYNCFS = 50
    STATX = 52


class SetAttr(NamedTuple):
    """``struct fuse_setattr_in``; times in nanoseconds."""

    valid: int
    fh: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int


class ReadWrite(NamedTuple):
    """``struct fuse_read_in`` and the same head of ``struct fuse_write_in``."""

    fh: int
    offset: int
    size: int
    flags: int


class Fallocate(NamedTuple):
    """``struct fuse_fallocate_in``."""

    fh: int
    offset: int
    length: int
    mode: int


_SETATTR = struct.Struct("<IIQQQqqqIIIIIIII")
_READ_WRITE = struct.Struct("<QQII")
_FALLOCATE = struct.Struct("<QQQI")
_U32 = struct.Struct("<I")
_U32_U32 = struct.Struct("<II")
_STATFS = struct.Struct("<QQQQQIIII24x")


def unpack_setattr(arg: bytes) -> SetAttr:
    """Take SETATTR's fixed part apart."""
    (valid, _, fh, size, _, atime, mtime, ctime, a_ns, m_ns, c_ns, mode, _, uid, gid, _) = (
        _SETATTR.unpack_from(arg)
    )
    return SetAttr(
        valid, fh, size, atime * NS + a_ns, mtime * NS + m_ns, ctime * NS + c_ns, mode, uid, gid
    )


def unpack_read_write(arg: bytes) -> ReadWrite:
    """Take READ's fixed part, or the head of WRITE's, apart."""
    return ReadWrite(*_READ_WRITE.unpack_from(arg))


def unpack_fallocate(arg: bytes) -> Fallocate:
    """Take FALLOCATE's fixed part apart."""
    return Fallocate(*_FALLOCATE.unpack_from(arg))


def unpack_open(arg: bytes) -> tuple[int, int]:
    """Return open(2)'s flags and FUSE's own of OPEN."""
    flags, open_flags = _U32_U32.unpack_from(arg)
    return flags, open_flags


def unpack_create(arg: bytes) -> tuple[int, int, int]:
    """Return open(2)'s flags, the mode and the umask of CREATE."""
    flags, mode, umask = struct.unpack_from("<III", arg)
    return flags, mode, umask


def unpack_mknod(arg: bytes) -> tuple[int, int, int]:
    """Return mode, device number and umask of MKNOD."""
    mode, rdev, umask = struct.unpack_from("<III", arg)
    return mode, rdev, umask


def unpack_mkdir(arg: bytes) -> tuple[int, int]:
    """Return mode and umask of MKDIR."""
    mode, umask = _U32_U32.unpack_from(arg)
    return mode, umask


def unpack_rename_flags(arg: bytes) -> int:
    """Return the flags of RENAME2; RENAME, whose fixed part is shorter, has none."""
    return int(_U32.unpack_from(arg, 8)[0]) if len(arg) >= 12 else 0


def unpack_setxattr_flags(arg: bytes) -> int:
    """Return XATTR_CREATE or XATTR_REPLACE of SETXATTR, or 0."""
    return int(_U32.unpack_from(arg, 4)[0])


def pack_statfs(blocks: int, free: int, files: int, block_size: int, name_max: int) -> bytes:
    """Return ``struct fuse_statfs_out``."""
    return _STATFS.pack(blocks, free, free, files, files, block_size, name_max, block_size, 0)
