# SPDX-License-Identifier: Apache-2.0
"""io_uring for Python: a thin, typed binding of C liburing. ``docs/uring.md`` introduces it.

Ring        for one thread: queue operations, submit them together, collect their results
AsyncRing   for an asyncio loop: await operations; those of one tick share a system call

calls.py    the operations, shared by both        core.py     the C ring and what is in flight
ring.py     Ring, Batch, Operation                aio.py      AsyncRing, AsyncOperation
errors.py   errno to exception                    uring_api.h the boundary to C
"""

from ovfs.uring.aio import AsyncOperation, AsyncRing
from ovfs.uring.calls import AT_FDCWD, IOV_MAX, MAX_LENGTH, STATX_BASIC_STATS, STATX_BTIME
from ovfs.uring.core import Statistics
from ovfs.uring.errors import UringUnavailableError
from ovfs.uring.flags import SetupFlags, SqeFlags
from ovfs.uring.ring import Batch, Operation, Ring
from ovfs.uring.stat import StatResult

__all__ = [
    "AT_FDCWD",
    "IOV_MAX",
    "MAX_LENGTH",
    "STATX_BASIC_STATS",
    "STATX_BTIME",
    "AsyncOperation",
    "AsyncRing",
    "Batch",
    "Operation",
    "Ring",
    "SetupFlags",
    "SqeFlags",
    "StatResult",
    "Statistics",
    "UringUnavailableError",
]
