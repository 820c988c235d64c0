# SPDX-License-Identifier: Apache-2.0
"""fio in a real guest: what a program there gets, kernel, virtqueues and daemon together.

Where the guest's CPU is emulated the guest sets the pace, so on x86-64 it is User-mode Linux, which
runs at nearly native speed. The time in pytest-benchmark's table is that of a whole job; rates and
latencies are in the report and the JSON. To judge daemons against each other take bench_local.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.guest import boot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings
    from tests.guest import Guest

JOBS = sorted(Path(__file__).parent.glob("*.fio"))
HEADING = "fio in a guest"


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """One guest for all jobs, on a share that passes O_DIRECT on."""
    scratch = tmp_path_factory.mktemp("fio")
    share = scratch / "share"
    share.mkdir()
    with boot(share, scratch, ["--allow-direct-io"]) as booted:
        yield booted


def run_job(guest: Guest, job: Path) -> dict[str, float]:
    """Runs a job file in the guest; returns fio's figures of the direction that it went."""
    guest.check(f"cat >/tmp/job.fio <<'END'\n{job.read_text()}\nEND")
    report = guest.check("fio --output-format=json /tmp/job.fio; rm -f /mnt/*", timeout=120)
    outcome = json.loads(report[report.index("{") :])["jobs"][0]
    assert outcome["error"] == 0
    direction = outcome["read"] if outcome["read"]["total_ios"] else outcome["write"]
    return {
        "ops_per_s": direction["iops"],
        "mib_per_s": direction["bw_bytes"] / (1 << 20),
        "mean_us": direction["clat_ns"]["mean"] / 1000,
        "p99_us": direction["clat_ns"]["percentile"]["99.000000"] / 1000,
    }


@pytest.mark.benchmark(group="guest: wall time of a job")
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_fio(benchmark: BenchmarkFixture, guest: Guest, job: Path, settings: Settings) -> None:
    figures = benchmark.pedantic(run_job, args=(guest, job), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info.update(figures)
    settings.report.add(
        HEADING,
        f"{job.stem}: {figures['ops_per_s']:,.0f} op/s, {figures['mib_per_s']:,.0f} MiB/s,"
        f" mean {figures['mean_us']:,.0f} µs, p99 {figures['p99_us']:,.0f} µs",
    )
    assert figures["ops_per_s"] > 0
