# SPDX-License-Identifier: Apache-2.0
"""Calls of the host that Python's `os` has no name for."""

from __future__ import annotations

import ctypes
import os
from typing import Final

NOREPLACE: Final = 1
EXCHANGE: Final = 2
WHITEOUT: Final = 4

AT_FDCWD: Final = -100
AT_SYMLINK_FOLLOW: Final = 0x400

FALLOC_KEEP_SIZE: Final = 1
FALLOC_PUNCH_HOLE: Final = 2
FALLOC_COLLAPSE_RANGE: Final = 8
FALLOC_ZERO_RANGE: Final = 16
FALLOC_INSERT_RANGE: Final = 32
FALLOC_UNSHARE_RANGE: Final = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.linkat.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
]
_libc.renameat2.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
]


def _check(result: int) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def renameat2(old: bytes, new: bytes, flags: int) -> None:
    """Renames with flags, which os.rename has not."""
    _check(_libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags))


def renameat2_at(olddir: int, old: bytes, newdir: int, new: bytes, flags: int) -> None:
    """The same between two open directories."""
    _check(_libc.renameat2(olddir, old, newdir, new, flags))


def linkat(old: bytes, newdir: int, new: bytes) -> None:
    """Links what a path of /proc/self/fd refers to, which os.link cannot follow."""
    _check(_libc.linkat(AT_FDCWD, old, newdir, new, AT_SYMLINK_FOLLOW))


def link_fd(fd: int, new: bytes) -> None:
    """Gives a file that was opened without a name its first one."""
    linkat(b"/proc/self/fd/%d" % fd, AT_FDCWD, new)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """The call with a mode, which os.posix_fallocate has not."""
    _check(_libc.fallocate(fd, mode, offset, length))
