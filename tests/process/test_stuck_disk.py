# SPDX-License-Identifier: Apache-2.0
"""A disk that hangs holds up nobody who reads another file, on the same queue."""

from __future__ import annotations

import contextlib
import os
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import hanging
from tests.process.place import DATA, SANITIZED, fill, guest, opened, wait_until
from tests.vmm import ROOT_ID
from tests.vmm.bench import run_job
from tests.vmm.daemon import OVFS, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vmm import FuseClient, Vmm

pytestmark = [
    pytest.mark.skipif(SANITIZED, reason="an instrumented daemon's times mean nothing"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system"),
]

STUCK = 64
ROUNDS = 6
NOISE_NS = 1_000_000  # a busy machine's; a read that waits for the disk waits for ever
CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def on_first_cpu() -> Iterator[None]:
    os.sched_setaffinity(0, CPUS[:1])
    yield
    os.sched_setaffinity(0, CPUS)


@contextlib.contextmanager
def stuck_reads(fs: FuseClient, disk: hanging.HangingFs) -> Iterator[None]:
    """While it is entered, requests of queue 1 hang."""
    directory = fs.lookup(ROOT_ID, b"stuck").nodeid
    node = fs.lookup(directory, hanging.NAME).nodeid
    fh = fs.open(node).fh
    reads = [fs.submit_read(node, fh, at * 4096, 4096) for at in range(STUCK)]
    wait_until(lambda: disk.reads > 0)
    yield
    disk.release()
    for read in reads:
        assert fs.wait_reply(read)[1] == hanging.FILLED_WITH * 4096


def by_driver(vmm: Vmm, node: int, fh: int) -> int:
    """The p99 of cached reads on queue 2, several at a time, in nanoseconds."""
    how: dict[str, Any] = {"file_size": len(DATA), "arena": 1 << 20, "queue": 2}
    return run_job(vmm, "read", depth=4, seconds=0.2, nodeid=node, fh=fh, **how).lat_p99_ns


def one_by_one(fs: FuseClient, node: int, fh: int) -> int:
    """The p99 of cached reads on queue 1, which has the stuck ones as well, in nanoseconds."""
    times = []
    for at in range(400):
        start = time.perf_counter_ns()
        fs.read(node, fh, at * 4096, 4096)
        times.append(time.perf_counter_ns() - start)
    return sorted(times)[-5]


@pytest.mark.usefixtures("on_first_cpu")
def test_cached_reads_are_as_quick_as_ever(shm_dir: Path) -> None:
    root = fill(shm_dir / "root")
    (root / "stuck").mkdir()
    prefix = ["taskset", "-c", str(CPUS[-1])]
    with (
        Daemon.start(root, command=OVFS, prefix=prefix, options=["--queues", "2"]) as daemon,
        hanging.HangingFs(root / "stuck") as disk,
        guest(daemon, queues=2) as (vmm, fs),
    ):
        node, fh = opened(fs)

        def p99() -> tuple[float, float]:
            rounds = [(by_driver(vmm, node, fh), one_by_one(fs, node, fh)) for _ in range(ROUNDS)]
            other, same = zip(*rounds[1:], strict=True)  # the first one warms up
            return median(other), median(same)

        before = p99()
        with stuck_reads(fs, disk):
            meanwhile = p99()
    assert meanwhile[0] < 2 * before[0] + NOISE_NS
    assert meanwhile[1] < 2 * before[1] + NOISE_NS
