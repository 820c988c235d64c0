# SPDX-License-Identifier: Apache-2.0
"""Putting things into a cache directory as a daemon does, for the tests of its parts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from typing import TYPE_CHECKING

from ovfs.remote.cache import Cache
from ovfs.remote.layout import SEGMENT

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = "x://a"
MIB = 1 << 20


def open_cache(directory: Path, size: int = 1 << 30, *, reserve: int = 0) -> Cache:
    cache = Cache(directory, size, IDENTITY, None, reserve=reserve)
    assert cache.wait_settled()
    return cache


def fill(cache: Cache, key: str, size: int = MIB, age: float = 60.0) -> Path:
    """Put an object of one segment into the cache, used so many seconds ago."""
    segment = cache.segment(key, "v", 0, size)
    asyncio.run(segment.add(0, random.Random(key).randbytes(size)))
    segment.close()
    path = cache.layout.segment(segment.hash, 0)
    set_age(path, age)
    return path


def set_age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def on_disk(cache: Cache) -> int:
    """Bytes that clean segments take; some may be evicted meanwhile."""
    total = 0
    for path in cache.layout.segments.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def write_file(cache: Cache, data: bytes) -> str:
    """Write a file as the data plane does; return its id."""
    file_id = cache.new_file_id()
    for index in range(-(-len(data) // SEGMENT)):
        fd = cache.new_write(file_id, index)
        os.pwrite(fd, data[index * SEGMENT : (index + 1) * SEGMENT], 0)
        os.close(fd)
    return file_id
