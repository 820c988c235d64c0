# SPDX-License-Identifier: Apache-2.0
"""What is measured: a case is a workload of the fake VMM at one size and depth.

Its goals are what ovfs is to reach beside the first peer, measured in the same run. A goal that is
kept is a promise, and the benchmark fails where it is not kept any more; one that is not reached
yet is an aim, and the report says how far away it is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from tests.vmm.bench import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.vmm.bench import Workload

EXT4: Final = "ext4"
TMPFS: Final = "tmpfs"
KIB: Final = 1 << 10


@dataclass(frozen=True)
class Goal:
    """A figure as a multiple of somebody else's.

    Attributes:
        figure: Which one, see `contest.FIGURES`; rates are at least, all others at most.
        limit: So many times the other's.
        place: The file system that it is for; None: all.
        bare: The other is the work without virtio, not the first peer.
        aim: It is not reached yet.
    """

    figure: str
    limit: float
    place: str | None = None
    bare: bool = False
    aim: bool = False

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return self.figure == "ops_per_s"


def cpu(limit: float, place: str | None = None, *, bare: bool = False, aim: bool = False) -> Goal:
    """The daemon's CPU time per operation."""
    return Goal("cpu_us", limit, place, bare, aim)


def rate(limit: float, place: str | None = None, *, bare: bool = False, aim: bool = False) -> Goal:
    """Operations a second."""
    return Goal("ops_per_s", limit, place, bare, aim)


#: One request at a time: what polling is for.
QUICK_ANSWERS: Final = (Goal("p50_us", 0.6), Goal("p99_us", 0.8), Goal("cpu_us", 1.6))


@dataclass(frozen=True)
class Case:
    """One row of the report.

    Attributes:
        name: The row's name.
        workload: Which one; an operation of it may be several requests.
        depth: Sequences in flight.
        size: Bytes of a read, a write, a listing's buffer.
        random: Offsets in no order.
        flags: Of opens.
        direct: O_DIRECT.
        cold: Of names that the daemon does not know; forgetting them again is in the CPU time.
        bare: The work without virtio is measured beside it (bare.py).
        traced: Operations to count system calls over, each 50 us longer by that; 0: none.
        goals: What is to be reached.
    """

    name: str
    workload: Workload
    depth: int = 32
    size: int = 4096
    random: bool = True
    flags: int = os.O_RDWR
    direct: bool = False
    cold: bool = False
    bare: bool = False
    traced: int = 1000
    goals: tuple[Goal, ...] = ()


CASES: Final = (
    Case(
        "read 4k random",
        "read",
        bare=True,
        goals=(
            cpu(0.65, TMPFS),
            cpu(1.25, EXT4, bare=True, aim=True),
            rate(1.5, TMPFS),
            rate(1.3),
        ),
    ),
    Case("read 4k random, depth 1", "read", depth=1, goals=QUICK_ANSWERS),
    Case("read 4k random, depth 8", "read", depth=8),
    Case("read 4k random, depth 128", "read", depth=128),
    Case("read 4k in order", "read", random=False),
    Case(
        "read 128k random",
        "read",
        size=128 * KIB,
        bare=True,
        traced=500,
        goals=(cpu(0.85, aim=True), cpu(1.1, bare=True), rate(1.1)),
    ),
    Case(
        "read 1M random",
        "read",
        size=MIB,
        bare=True,
        traced=300,
        goals=(cpu(0.85, aim=True), cpu(1.1, bare=True), rate(1.1, aim=True)),
    ),
    Case("read 1M in order, depth 1", "read", depth=1, size=MIB, random=False, traced=300),
    Case(
        "write 4k random",
        "write",
        bare=True,
        traced=500,
        goals=(cpu(0.65, TMPFS), cpu(1.0, EXT4), rate(1.5, TMPFS), rate(1.3, EXT4)),
    ),
    Case("write 4k random, depth 1", "write", depth=1, traced=500),
    Case("write 128k random", "write", size=128 * KIB, traced=300),
    Case("write 1M in order", "write", size=MIB, random=False, traced=200),
    Case("70 % reads, 30 % writes of 4k", "mixed", traced=500),
    Case("getattr", "getattr", bare=True, goals=(cpu(0.4, aim=True), rate(2.0))),
    Case("getattr, depth 1", "getattr", depth=1, goals=QUICK_ANSWERS),
    Case("lookup", "lookup", goals=(cpu(0.55), rate(2.0))),
    Case("lookup, depth 1", "lookup", depth=1, goals=QUICK_ANSWERS),
    Case("open+release", "open_release", bare=True, goals=(cpu(0.7), rate(2.0, aim=True))),
    Case(
        "open+release, for reading",
        "open_release",
        flags=os.O_RDONLY,
        goals=(cpu(0.5), rate(2.0)),
    ),
    Case(
        "create+release+unlink",
        "create_unlink",
        traced=500,
        goals=(cpu(0.5, TMPFS, aim=True), rate(2.0, aim=True)),
    ),
    Case(
        "create+release+unlink, depth 1",
        "create_unlink",
        depth=1,
        traced=500,
        goals=tuple(Goal(goal.figure, goal.limit, TMPFS) for goal in QUICK_ANSWERS),
    ),
    Case("rename there and back", "rename", traced=500, goals=(rate(2.0, aim=True),)),
    Case("readdirplus, a 4k page", "readdirplus", traced=500, goals=(cpu(0.4), rate(2.0))),
    Case(
        "small file: lookup, open, read 4k, release",
        "small_file",
        flags=os.O_RDONLY,
        traced=500,
        goals=(cpu(0.5), rate(2.0)),
    ),
    # The last one: its files stay, and to make others beside them takes ext4 longer.
    Case("lookup, cold", "lookup", cold=True, traced=0, goals=(cpu(1.0, aim=True),)),
)

#: Only where there is a device below: a file system in memory has nothing to overlap.
DISK_CASES: Final = (
    Case(
        "read 4k random, O_DIRECT",
        "read",
        direct=True,
        bare=True,
        traced=500,
        goals=(rate(4.0), rate(0.9, bare=True)),
    ),
    Case("read 4k random, O_DIRECT, depth 1", "read", depth=1, direct=True, traced=500),
    Case(
        "write 4k random, O_DIRECT",
        "write",
        direct=True,
        bare=True,
        traced=500,
        goals=(rate(4.0), rate(0.9, bare=True)),
    ),
)

SIZES: Final = {4096: "4k", 128 * KIB: "128k", MIB: "1M"}
DEPTHS: Final = (1, 8, 32, 128)
LARGEST: Final = 64 * MIB  # in flight: the fake VMM's memory is no larger than a small guest's


def _matrix(sizes: Iterable[int], orders: Iterable[str], *, direct: bool) -> tuple[Case, ...]:
    """Reads and writes of each size, in each order, at each depth, but those that are listed."""
    listed = {(c.workload, c.size, c.depth, c.random, c.direct) for c in (*CASES, *DISK_CASES)}
    workloads: tuple[Workload, ...] = ("read", "write")
    return tuple(
        Case(
            f"{workload} {SIZES[size]} {order}{', O_DIRECT' * direct}, depth {depth}",
            workload,
            depth=depth,
            size=size,
            random=order == "random",
            direct=direct,
            traced=0,
        )
        for workload, size, order, depth in product(workloads, sizes, orders, DEPTHS)
        if (workload, size, depth, order == "random", direct) not in listed
        and size * depth <= LARGEST
    )


#: Measured beside the others, and nothing is asked of them.
MATRIX: Final = _matrix(SIZES, ("random", "in order"), direct=False)
DIRECT_MATRIX: Final = _matrix((4096, 128 * KIB), ("random",), direct=True)
