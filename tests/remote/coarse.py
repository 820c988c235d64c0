# SPDX-License-Identifier: Apache-2.0
"""The daemon on a file system that takes all of a sparse file for data, as some do.

python -m tests.remote.coarse SOCKET URL [option ...]
"""

from __future__ import annotations

import os
import sys

from ovfs.__main__ import main

_lseek = os.lseek


def _coarse(fd: int, offset: int, whence: int) -> int:
    if whence == os.SEEK_DATA:
        return offset
    if whence == os.SEEK_HOLE:
        return os.fstat(fd).st_size
    return _lseek(fd, offset, whence)


if __name__ == "__main__":
    os.lseek = _coarse
    sys.exit(main())
