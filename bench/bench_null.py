# SPDX-License-Identifier: Apache-2.0
"""The fake VMM's own ceiling: a backend in its own process answers every request at once.

No daemon can be measured faster than this; where one comes near, its rate says nothing any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench.clock import CLOCK
from tests.vmm.bench import MIB, run_job
from tests.vmm.machine import Vmm

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings

JOBS: dict[str, dict[str, Any]] = {
    "getattr": {"nodes": list(range(2, 258))},
    "getattr, depth 1": {"depth": 1, "nodes": list(range(2, 258))},
    "lookup": {"names": [b"file-%05d" % index for index in range(256)]},
    "read": {"file_size": 64 * MIB},
    "write": {"file_size": 64 * MIB},
}


@pytest.mark.benchmark(timer=CLOCK, group="null: wall time per operation")
@pytest.mark.parametrize("name", JOBS)
def test_null(benchmark: BenchmarkFixture, name: str, settings: Settings) -> None:
    workload: Any = name.partition(",")[0]
    rates: list[float] = []
    with Vmm.null() as vmm:

        def job() -> None:
            result = run_job(vmm, workload, seconds=settings.seconds, **JOBS[name])
            rates.append(result.ops_per_s)
            CLOCK.advance(1 / result.ops_per_s)

        benchmark.pedantic(job, rounds=settings.rounds)  # type: ignore[no-untyped-call]
    benchmark.extra_info["ops_per_s"] = rates
    settings.report.add(
        "The fake VMM without a daemon", f"{name}: {sorted(rates)[len(rates) // 2] / 1e3:.0f}k op/s"
    )
