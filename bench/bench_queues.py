# SPDX-License-Identifier: Apache-2.0
"""Two request queues beside one, as a guest with two virtual CPUs drives them.

Each driver works on files of its own, as processes on two virtual CPUs mostly do.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import pytest

from bench.clock import CLOCK
from bench.profile import Profile, waiting
from tests.vmm.bench import Bench, BenchResult
from tests.vmm.daemon import Daemon
from tests.vmm.fuse_flags import ROOT_ID
from tests.vmm.machine import Vmm
from tests.vmm.procstat import tree

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings
    from tests.vmm.bench import Workload

QUEUES: Final = 2
#: A driver and a queue's thread are one busy CPU each.
CPUS_WANTED: Final = 2 * QUEUES
LEAST: Final = 1.7
MAKING: Final = 0.01  # seconds
PROFILED: Final = 1.0
HOTTEST: Final = 10
HEADING: Final = "Two queues"


@pytest.mark.benchmark(timer=CLOCK, group="queues: wall time per operation")
@pytest.mark.parametrize(
    "workload", ["read", "mixed", "getattr", "lookup", "open_release", "small_file"]
)
def test_queues(
    benchmark: BenchmarkFixture, tmp_path: Path, workload: Workload, settings: Settings
) -> None:
    with (
        Daemon.start(tmp_path, options=["--queues", str(QUEUES)]) as daemon,
        Vmm.connect(daemon.socket, queues=QUEUES) as vmm,
        ThreadPoolExecutor(QUEUES) as drivers,
    ):
        fs = vmm.fuse()
        fs.init()
        with contextlib.ExitStack() as stack:
            parents = [fs.mkdir(ROOT_ID, b"%d" % queue).nodeid for queue in range(QUEUES)]
            benches = [
                stack.enter_context(Bench(vmm, daemon.pid, parent=parent)) for parent in parents
            ]

            def drive(queue: int, seconds: float) -> BenchResult:
                how: dict[str, Any] = {"queue": queue, "forget": queue == 1, "mode": "sleep"}
                flags = os.O_RDWR if workload == "mixed" else os.O_RDONLY
                return benches[queue - 1].run(workload, seconds=seconds, flags=flags, **how)

            def run(queues: int, seconds: float = settings.seconds) -> float:
                jobs = drivers.map(drive, range(1, queues + 1), [seconds] * queues)
                return sum(result.ops_per_s for result in jobs)

            for queue in range(1, QUEUES + 1):
                drive(queue, MAKING)  # one after the other: all files are made on the first queue
            rates: list[tuple[float, float]] = []

            def both() -> None:
                rates.append((run(1), run(QUEUES)))
                CLOCK.advance(1 / rates[-1][1])

            benchmark.pedantic(both, rounds=settings.rounds, warmup_rounds=1)  # type: ignore[no-untyped-call]
            hottest: list[str] = []
            if not settings.is_quick and Profile.is_possible():
                profile = Profile(tree(daemon.pid), PROFILED)
                run(QUEUES, PROFILED + 0.5)
                hottest = profile.symbols(HOTTEST)
    gain = median(two / one for one, two in rates[1:])
    benchmark.extra_info["ops_per_s"] = rates
    cpus = len(os.sched_getaffinity(0))
    enough = cpus >= CPUS_WANTED
    settings.report.add(
        HEADING,
        f"{workload}: {gain:.2f} times one queue's rate"
        + ("" if enough else f", with {cpus} CPUs for two drivers and two queues: too few to gain"),
    )
    if hottest:
        settings.report.add(
            HEADING,
            f"{workload}, the daemon's hottest symbols: {', '.join(hottest)}; "
            f"locks among them: {', '.join(waiting(hottest)) or 'none'}",
        )
    assert not waiting(hottest)
    assert not enough or settings.is_quick or gain >= LEAST
