# SPDX-License-Identifier: Apache-2.0
"""FUSE's structures, packed and unpacked with `struct`.

Written apart from the daemon's headers on purpose: two readings of the protocol that must agree. A
class is named as the kernel names the structure, its fields likewise; padding has no field. Flags
and opcodes are in `fuse_flags`, what has no fixed size is in `fuse_pack`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Wire:
    """A structure whose fields are those of its STRUCT, in order."""

    STRUCT: ClassVar[struct.Struct]

    @classmethod
    def wire_size(cls) -> int:
        """Bytes on the wire."""
        return cls.STRUCT.size

    def pack(self) -> bytes:
        """The structure as bytes."""
        return self.STRUCT.pack(*(getattr(self, field.name) for field in fields(self)))

    @classmethod
    def unpack(cls, data: bytes, offset: int = 0) -> Self:
        """Reads the structure from bytes.

        Raises:
            struct.error: There are too few bytes.
        """
        return cls(*cls.STRUCT.unpack_from(data, offset))


@dataclass(frozen=True)
class InHeader(Wire):
    """fuse_in_header."""

    STRUCT = struct.Struct("<IIQQIIIHxx")
    len: int
    opcode: int
    unique: int
    nodeid: int
    uid: int = 0
    gid: int = 0
    pid: int = 1
    total_extlen: int = 0


@dataclass(frozen=True)
class OutHeader(Wire):
    """fuse_out_header."""

    STRUCT = struct.Struct("<IiQ")
    len: int
    error: int
    unique: int


@dataclass(frozen=True)
class Attr(Wire):
    """fuse_attr."""

    STRUCT = struct.Struct("<6Q10I")
    ino: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    flags: int


@dataclass(frozen=True)
class Entry(Wire):
    """fuse_entry_out."""

    STRUCT = struct.Struct("<4Q2I88s")
    nodeid: int
    generation: int
    entry_valid: int
    attr_valid: int
    entry_valid_nsec: int
    attr_valid_nsec: int
    attr: Attr

    @classmethod
    def unpack(cls, data: bytes, offset: int = 0) -> Self:
        """Reads the structure and the attribute in it."""
        *head, attr = cls.STRUCT.unpack_from(data, offset)
        values: list[Any] = [*head, Attr.unpack(attr)]
        return cls(*values)


@dataclass(frozen=True)
class AttrOut(Wire):
    """fuse_attr_out."""

    STRUCT = struct.Struct("<QI4x88s")
    attr_valid: int
    attr_valid_nsec: int
    attr: Attr

    @classmethod
    def unpack(cls, data: bytes, offset: int = 0) -> Self:
        """Reads the structure and the attribute in it."""
        *head, attr = cls.STRUCT.unpack_from(data, offset)
        values: list[Any] = [*head, Attr.unpack(attr)]
        return cls(*values)


@dataclass(frozen=True)
class InitIn(Wire):
    """fuse_init_in."""

    STRUCT = struct.Struct("<5I44x")
    major: int
    minor: int
    max_readahead: int
    flags: int
    flags2: int


@dataclass(frozen=True)
class InitOut(Wire):
    """fuse_init_out, which old servers cut short."""

    STRUCT = struct.Struct("<4IHHIIHHII24x")
    major: int
    minor: int
    max_readahead: int
    flags: int
    max_background: int
    congestion_threshold: int
    max_write: int
    time_gran: int
    max_pages: int
    map_alignment: int
    flags2: int
    max_stack_depth: int


@dataclass(frozen=True)
class GetattrIn(Wire):
    """fuse_getattr_in."""

    STRUCT = struct.Struct("<I4xQ")
    getattr_flags: int = 0
    fh: int = 0


@dataclass(frozen=True)
class SetattrIn(Wire):
    """fuse_setattr_in."""

    STRUCT = struct.Struct("<I4x6Q4I4x2I4x")
    valid: int
    fh: int = 0
    size: int = 0
    lock_owner: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    atimensec: int = 0
    mtimensec: int = 0
    ctimensec: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class MknodIn(Wire):
    """fuse_mknod_in."""

    STRUCT = struct.Struct("<III4x")
    mode: int
    rdev: int
    umask: int


@dataclass(frozen=True)
class MkdirIn(Wire):
    """fuse_mkdir_in."""

    STRUCT = struct.Struct("<II")
    mode: int
    umask: int


@dataclass(frozen=True)
class RenameIn(Wire):
    """fuse_rename_in."""

    STRUCT = struct.Struct("<Q")
    newdir: int


@dataclass(frozen=True)
class Rename2In(Wire):
    """fuse_rename2_in."""

    STRUCT = struct.Struct("<QI4x")
    newdir: int
    flags: int


@dataclass(frozen=True)
class LinkIn(Wire):
    """fuse_link_in."""

    STRUCT = struct.Struct("<Q")
    oldnodeid: int


@dataclass(frozen=True)
class OpenIn(Wire):
    """fuse_open_in."""

    STRUCT = struct.Struct("<II")
    flags: int
    open_flags: int = 0


@dataclass(frozen=True)
class OpenOut(Wire):
    """fuse_open_out."""

    STRUCT = struct.Struct("<QIi")
    fh: int
    open_flags: int
    backing_id: int


@dataclass(frozen=True)
class CreateIn(Wire):
    """fuse_create_in."""

    STRUCT = struct.Struct("<4I")
    flags: int
    mode: int
    umask: int
    open_flags: int = 0


@dataclass(frozen=True)
class ReleaseIn(Wire):
    """fuse_release_in."""

    STRUCT = struct.Struct("<QIIQ")
    fh: int
    flags: int = 0
    release_flags: int = 0
    lock_owner: int = 0


@dataclass(frozen=True)
class FlushIn(Wire):
    """fuse_flush_in."""

    STRUCT = struct.Struct("<Q8xQ")
    fh: int
    lock_owner: int = 0


@dataclass(frozen=True)
class ReadIn(Wire):
    """fuse_read_in; READDIR and READDIRPLUS too."""

    STRUCT = struct.Struct("<QQIIQI4x")
    fh: int
    offset: int
    size: int
    read_flags: int = 0
    lock_owner: int = 0
    flags: int = 0


@dataclass(frozen=True)
class WriteIn(Wire):
    """fuse_write_in."""

    STRUCT = struct.Struct("<QQIIQI4x")
    fh: int
    offset: int
    size: int
    write_flags: int = 0
    lock_owner: int = 0
    flags: int = 0


@dataclass(frozen=True)
class WriteOut(Wire):
    """fuse_write_out, also the reply to COPY_FILE_RANGE."""

    STRUCT = struct.Struct("<I4x")
    size: int


@dataclass(frozen=True)
class Statfs(Wire):
    """fuse_kstatfs."""

    STRUCT = struct.Struct("<5Q3I28x")
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    bsize: int
    namelen: int
    frsize: int


@dataclass(frozen=True)
class FsyncIn(Wire):
    """fuse_fsync_in; FSYNCDIR too."""

    STRUCT = struct.Struct("<QI4x")
    fh: int
    fsync_flags: int = 0


@dataclass(frozen=True)
class SetxattrIn(Wire):
    """fuse_setxattr_in with SETXATTR_EXT; without, only the first 8 bytes are sent."""

    STRUCT = struct.Struct("<III4x")
    size: int
    flags: int = 0
    setxattr_flags: int = 0


@dataclass(frozen=True)
class GetxattrIn(Wire):
    """fuse_getxattr_in and fuse_getxattr_out."""

    STRUCT = struct.Struct("<I4x")
    size: int


@dataclass(frozen=True)
class FileLock(Wire):
    """fuse_file_lock, which is also fuse_lk_out."""

    STRUCT = struct.Struct("<QQII")
    start: int
    end: int
    type: int
    pid: int


@dataclass(frozen=True)
class AccessIn(Wire):
    """fuse_access_in."""

    STRUCT = struct.Struct("<I4x")
    mask: int


@dataclass(frozen=True)
class InterruptIn(Wire):
    """fuse_interrupt_in."""

    STRUCT = struct.Struct("<Q")
    unique: int


@dataclass(frozen=True)
class IoctlIn(Wire):
    """fuse_ioctl_in."""

    STRUCT = struct.Struct("<QIIQII")
    fh: int
    flags: int
    cmd: int
    arg: int
    in_size: int
    out_size: int


@dataclass(frozen=True)
class IoctlOut(Wire):
    """fuse_ioctl_out."""

    STRUCT = struct.Struct("<iIII")
    result: int
    flags: int
    in_iovs: int
    out_iovs: int


@dataclass(frozen=True)
class FallocateIn(Wire):
    """fuse_fallocate_in."""

    STRUCT = struct.Struct("<QQQI4x")
    fh: int
    offset: int
    length: int
    mode: int


@dataclass(frozen=True)
class LseekIn(Wire):
    """fuse_lseek_in."""

    STRUCT = struct.Struct("<QQI4x")
    fh: int
    offset: int
    whence: int


@dataclass(frozen=True)
class CopyFileRangeIn(Wire):
    """fuse_copy_file_range_in."""

    STRUCT = struct.Struct("<7Q")
    fh_in: int
    off_in: int
    nodeid_out: int
    fh_out: int
    off_out: int
    len: int
    flags: int = 0


@dataclass(frozen=True)
class StatxIn(Wire):
    """fuse_statx_in."""

    STRUCT = struct.Struct("<I4xQII")
    getattr_flags: int
    fh: int
    sx_flags: int
    sx_mask: int


@dataclass(frozen=True)
class Statx(Wire):
    """fuse_statx."""

    STRUCT = struct.Struct("<IIQIIIHxx4QqI4xqI4xqI4xqI4xIIII112x")
    mask: int
    blksize: int
    attributes: int
    nlink: int
    uid: int
    gid: int
    mode: int
    ino: int
    size: int
    blocks: int
    attributes_mask: int
    atime: int
    atimensec: int
    btime: int
    btimensec: int
    ctime: int
    ctimensec: int
    mtime: int
    mtimensec: int
    rdev_major: int
    rdev_minor: int
    dev_major: int
    dev_minor: int


@dataclass(frozen=True)
class StatxOut(Wire):
    """fuse_statx_out."""

    STRUCT = struct.Struct("<QII16x256s")
    attr_valid: int
    attr_valid_nsec: int
    flags: int
    stat: Statx

    @classmethod
    def unpack(cls, data: bytes, offset: int = 0) -> Self:
        """Reads the structure and the statx in it."""
        *head, stat = cls.STRUCT.unpack_from(data, offset)
        values: list[Any] = [*head, Statx.unpack(stat)]
        return cls(*values)
