# SPDX-License-Identifier: Apache-2.0
"""What is measured: a case is a workload of the fake VMM at one size and depth.

The limits are what ovfs promises against the first peer, measured in the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.vmm.bench import MIB

if TYPE_CHECKING:
    from tests.vmm.bench import Workload


@dataclass(frozen=True)
class Case:
    """One row of the report.

    Attributes:
        name: The row's name.
        workload: Which one; an operation of it may be several requests.
        depth: Sequences in flight.
        size: Bytes of a read, a write, a listing's buffer.
        direct: O_DIRECT.
        traced: Operations to count system calls over; strace makes each call cost some 50 us.
        cpu_limit: The daemon's CPU time per operation is at most so many times the peer's.
        rate_limit: Operations a second are at least so many times the peer's.
    """

    name: str
    workload: Workload
    depth: int = 32
    size: int = 4096
    direct: bool = False
    traced: int = 1000
    cpu_limit: float | None = None
    rate_limit: float | None = None


CASES: Final = (
    Case("read 4k random", "read", cpu_limit=1.0),
    Case("read 4k random, depth 1", "read", depth=1),
    Case("read 128k random", "read", depth=8, size=128 << 10, traced=500),
    Case("read 1M random", "read", depth=4, size=MIB, traced=500),
    Case("write 4k random", "write", traced=500),
    Case("getattr", "getattr", cpu_limit=0.7),
    Case("getattr, depth 1", "getattr", depth=1),
    Case("lookup", "lookup"),
    Case("open+release", "open_release"),
    Case("create+release+unlink", "create_unlink", traced=500),
    Case("rename there and back", "rename", traced=500),
    Case("readdirplus, a 4k page", "readdirplus", traced=500),
    Case("small file: lookup, open, read 4k, release", "small_file", traced=500),
)

#: Only where there is a device below: a file system in memory has nothing to overlap.
DISK_CASES: Final = (
    Case("read 4k random, O_DIRECT", "read", direct=True, traced=500, rate_limit=4.0),
    Case("read 4k random, O_DIRECT, depth 1", "read", depth=1, direct=True, traced=500),
)
