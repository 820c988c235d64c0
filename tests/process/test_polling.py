# SPDX-License-Identifier: Apache-2.0
"""A queue looks for work before it sleeps.

A quick guest sends no kicks then, a silent one costs nothing, and nobody who wants the core is kept
from it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.place import DATA, SANITIZED, guest, opened
from tests.vmm.bench import run_job
from tests.vmm.daemon import OVFS, Daemon
from tests.vmm.procstat import daemon_cpu_ns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vmm import Vmm
    from tests.vmm.bench import BenchResult

pytestmark = pytest.mark.skipif(SANITIZED, reason="an instrumented daemon's times mean nothing")

CPUS = sorted(os.sched_getaffinity(0))
ONLY_WITH_TWO = pytest.mark.skipif(len(CPUS) < 2, reason="guest and daemon need a CPU each")
LONGEST = 0.0005  # seconds: beyond what a busy machine's guest pauses between two requests


@pytest.fixture
def on_first_cpu() -> Iterator[None]:
    os.sched_setaffinity(0, CPUS[:1])
    yield
    os.sched_setaffinity(0, CPUS)


def _read(vmm: Vmm, node: int, fh: int) -> BenchResult:
    size = len(DATA)
    how: dict[str, Any] = {"depth": 1, "seconds": 0.1, "mode": "sleep", "arena": 1 << 20}
    return run_job(vmm, "read", nodeid=node, fh=fh, file_size=size, **how)


def _run(share: Path, cpu: int, poll_us: int) -> BenchResult:
    """A guest on the first CPU that has one request at a time in flight; its quietest round."""
    prefix = ["taskset", "-c", str(cpu)]
    options = ["--poll-us", str(poll_us)]
    with (
        Daemon.start(share, command=OVFS, prefix=prefix, options=options) as daemon,
        guest(daemon) as (vmm, fs),
    ):
        node, fh = opened(fs)
        results = [_read(vmm, node, fh) for _ in range(10)]
        return min(results, key=lambda result: result.kicks / result.ops)


@ONLY_WITH_TWO
@pytest.mark.usefixtures("on_first_cpu")
def test_a_quick_guest_sends_hardly_any_kicks(disk_share: Path) -> None:
    for _ in range(10):  # whoever else wants the core gets it, and then there are kicks
        result = _run(disk_share, CPUS[-1], round(LONGEST * 1e6))
        if result.kicks < 0.5 * result.ops:
            return
    pytest.fail(f"at best {result.kicks} kicks in {result.ops} requests")


@pytest.mark.usefixtures("on_first_cpu")
def test_without_polling_each_request_is_a_kick(disk_share: Path) -> None:
    result = _run(disk_share, CPUS[-1], 0)
    assert result.kicks > 0.9 * result.ops


@pytest.mark.usefixtures("on_first_cpu")
def test_a_guest_on_the_same_cpu_does_not_wait_for_the_window(disk_share: Path) -> None:
    """Whoever polls would keep it from the core for all of the window, each time."""
    polling, sleeping = (_run(disk_share, CPUS[0], poll_us) for poll_us in (5000, 0))
    assert polling.lat_p50_ns < 2 * sleeping.lat_p50_ns
    assert polling.lat_p99_ns < LONGEST * 1e9 + 2 * sleeping.lat_p99_ns


def test_an_idle_daemon_costs_nothing(disk_share: Path) -> None:
    with (
        Daemon.start(disk_share, command=OVFS, options=["--poll-us", "10000"]) as daemon,
        guest(daemon) as (vmm, fs),
    ):
        node, fh = opened(fs)
        _read(vmm, node, fh)
        time.sleep(0.2)
        before, since = daemon_cpu_ns(daemon.pid), time.monotonic_ns()
        time.sleep(1.0)
        used = daemon_cpu_ns(daemon.pid) - before
        assert used < 0.005 * (time.monotonic_ns() - since)


def test_a_request_now_and_then_is_not_polled_for(disk_share: Path) -> None:
    with (
        Daemon.start(disk_share, command=OVFS, options=["--poll-us", "10000"]) as daemon,
        guest(daemon) as (_, fs),
    ):
        node, _ = opened(fs)
        before = daemon_cpu_ns(daemon.pid)
        for _ in range(20):
            fs.getattr(node)
            time.sleep(0.025)
        assert daemon_cpu_ns(daemon.pid) - before < 20 * 2_000_000
