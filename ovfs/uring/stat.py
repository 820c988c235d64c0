# SPDX-License-Identifier: Apache-2.0
"""The result of ``statx``."""

import os
from typing import Any, NamedTuple, Self


class StatResult(NamedTuple):
    """``struct statx``: times in nanoseconds; a field counts only where its bit is in ``mask``."""

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
    atime_ns: int
    btime_ns: int
    ctime_ns: int
    mtime_ns: int
    rdev: int
    dev: int

    @classmethod
    def from_struct(cls, stx: Any) -> Self:
        """Copies a C ``struct statx``."""
        return cls(
            stx.stx_mask,
            stx.stx_blksize,
            stx.stx_attributes,
            stx.stx_nlink,
            stx.stx_uid,
            stx.stx_gid,
            stx.stx_mode,
            stx.stx_ino,
            stx.stx_size,
            stx.stx_blocks,
            stx.stx_attributes_mask,
            _nanoseconds(stx.stx_atime),
            _nanoseconds(stx.stx_btime),
            _nanoseconds(stx.stx_ctime),
            _nanoseconds(stx.stx_mtime),
            os.makedev(stx.stx_rdev_major, stx.stx_rdev_minor),
            os.makedev(stx.stx_dev_major, stx.stx_dev_minor),
        )


def _nanoseconds(time: Any) -> int:
    return int(time.tv_sec) * 1_000_000_000 + int(time.tv_nsec)
