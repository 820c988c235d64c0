# SPDX-License-Identifier: Apache-2.0
"""FUSE's numbers: opcodes and flags of protocol 7.41, as in Linux 6.12."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

KERNEL_VERSION: Final = 7
KERNEL_MINOR_VERSION: Final = 41
ROOT_ID: Final = 1


class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
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
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52


class Init(IntFlag):
    """What INIT negotiates; the high half travels in flags2."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    FILE_OPS = 1 << 2
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    SPLICE_WRITE = 1 << 7
    SPLICE_MOVE = 1 << 8
    SPLICE_READ = 1 << 9
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    MAP_ALIGNMENT = 1 << 26
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    INIT_RESERVED = 1 << 31
    SECURITY_CTX = 1 << 32
    HAS_INODE_DAX = 1 << 33
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40


#: What the virtio-fs client of Linux 6.12 offers (no DAX window, CONFIG_FUSE_PASSTHROUGH on).
LINUX_6_12: Final = (
    Init.ASYNC_READ
    | Init.POSIX_LOCKS
    | Init.ATOMIC_O_TRUNC
    | Init.EXPORT_SUPPORT
    | Init.BIG_WRITES
    | Init.DONT_MASK
    | Init.SPLICE_WRITE
    | Init.SPLICE_MOVE
    | Init.SPLICE_READ
    | Init.FLOCK_LOCKS
    | Init.HAS_IOCTL_DIR
    | Init.AUTO_INVAL_DATA
    | Init.DO_READDIRPLUS
    | Init.READDIRPLUS_AUTO
    | Init.ASYNC_DIO
    | Init.WRITEBACK_CACHE
    | Init.NO_OPEN_SUPPORT
    | Init.PARALLEL_DIROPS
    | Init.HANDLE_KILLPRIV
    | Init.POSIX_ACL
    | Init.ABORT_ERROR
    | Init.MAX_PAGES
    | Init.CACHE_SYMLINKS
    | Init.NO_OPENDIR_SUPPORT
    | Init.EXPLICIT_INVAL_DATA
    | Init.SUBMOUNTS
    | Init.HANDLE_KILLPRIV_V2
    | Init.SETXATTR_EXT
    | Init.INIT_EXT
    | Init.SECURITY_CTX
    | Init.CREATE_SUPP_GROUP
    | Init.HAS_EXPIRE_ONLY
    | Init.DIRECT_IO_ALLOW_MMAP
    | Init.PASSTHROUGH
    | Init.NO_EXPORT_SUPPORT
    | Init.HAS_RESEND
    | Init.ALLOW_IDMAP
)


class Setattr(IntFlag):
    """Which fields of SETATTR count."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    LOCKOWNER = 1 << 9
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


class OpenReply(IntFlag):
    """What the reply to OPEN, OPENDIR and CREATE tells the guest."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6
    PASSTHROUGH = 1 << 7


class Write(IntFlag):
    """write_flags."""

    CACHE = 1 << 0
    LOCKOWNER = 1 << 1
    KILL_SUIDGID = 1 << 2


class Attr(IntFlag):
    """Flags in an attribute."""

    SUBMOUNT = 1 << 0
    DAX = 1 << 1


GETATTR_FH: Final = 1 << 0
READ_LOCKOWNER: Final = 1 << 1
OPEN_KILL_SUIDGID: Final = 1 << 0
RELEASE_FLUSH: Final = 1 << 0
RELEASE_FLOCK_UNLOCK: Final = 1 << 1
FSYNC_FDATASYNC: Final = 1 << 0
LK_FLOCK: Final = 1 << 0
SETXATTR_ACL_KILL_SGID: Final = 1 << 0
IOCTL_COMPAT: Final = 1 << 0
IOCTL_UNRESTRICTED: Final = 1 << 1
IOCTL_DIR: Final = 1 << 4
EXT_GROUPS: Final = 32
