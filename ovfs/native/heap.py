# SPDX-License-Identifier: Apache-2.0
"""What the C library's heap keeps of freed memory (``c/heap.c``). Any thread."""

from ovfs.native._plane import lib


def keep(size: int) -> None:
    """Keep up to so many bytes that were freed, for those who allocate next.

    Call it before the threads begin that allocate.
    """
    lib.ovfs_heap_keep(size)


def trim() -> None:
    """Give back to the kernel what is kept. Takes milliseconds, without the interpreter lock."""
    lib.ovfs_heap_trim()
