# SPDX-License-Identifier: Apache-2.0
"""Two request queues beside one, as a guest with two virtual CPUs drives them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import pytest

from bench.clock import CLOCK
from tests.vmm.bench import Bench, BenchResult
from tests.vmm.daemon import Daemon
from tests.vmm.machine import Vmm

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings
    from tests.vmm.bench import Workload

QUEUES: Final = 2
#: A driver and a queue's thread are one busy CPU each.
CPUS_WANTED: Final = 2 * QUEUES
LEAST: Final = 1.7
HEADING: Final = "Two queues"


@pytest.mark.benchmark(timer=CLOCK, group="queues: wall time per operation")
@pytest.mark.parametrize("workload", ["read", "getattr", "lookup", "small_file"])
def test_queues(
    benchmark: BenchmarkFixture, tmp_path: Path, workload: Workload, settings: Settings
) -> None:
    with (
        Daemon.start(tmp_path, options=["--queues", str(QUEUES)]) as daemon,
        Vmm.connect(daemon.socket, queues=QUEUES) as vmm,
        ThreadPoolExecutor(QUEUES) as drivers,
    ):
        vmm.fuse().init()
        with Bench(vmm, daemon.pid) as bench:

            def run(queues: int) -> float:
                def job(queue: int) -> BenchResult:
                    how: dict[str, Any] = {"queue": queue, "forget": queue == 1, "mode": "sleep"}
                    return bench.run(workload, seconds=settings.seconds, flags=os.O_RDONLY, **how)

                return sum(r.ops_per_s for r in drivers.map(job, range(1, queues + 1)))

            rates: list[tuple[float, float]] = []

            def both() -> None:
                rates.append((run(1), run(QUEUES)))
                CLOCK.advance(1 / rates[-1][1])

            benchmark.pedantic(both, rounds=settings.rounds, warmup_rounds=1)  # type: ignore[no-untyped-call]
    gain = median(two / one for one, two in rates[1:])
    benchmark.extra_info["ops_per_s"] = rates
    cpus = len(os.sched_getaffinity(0))
    enough = cpus >= CPUS_WANTED
    settings.report.add(
        HEADING,
        f"{workload}: {gain:.2f} times one queue's rate"
        + ("" if enough else f", with {cpus} CPUs for two drivers and two queues: too few to gain"),
    )
    assert not enough or settings.is_quick or gain >= LEAST
