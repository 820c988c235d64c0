# SPDX-License-Identifier: Apache-2.0
"""The bench driver, against the null backend: it counts right, ends when told, is fast enough."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from tests.vmm import NULL_ECHO, NULL_SLEEP, Vmm
from tests.vmm.bench import MIB, BenchError, BenchResult, run_job
from tests.vmm.procstat import daemon_cpu_ns, process_cpu_ns, schedstat_ns

#: Requests in one operation, and forgets in one.
SEQUENCES = {
    "read": (1, 0),
    "write": (1, 0),
    "mixed": (1, 0),
    "getattr": (1, 0),
    "lookup": (1, 0),
    "open_release": (2, 0),
    "create_unlink": (3, 1),
    "rename": (2, 0),
    "readdirplus": (1, 0),
    "small_file": (4, 0),
}


def run(vmm: Vmm, workload: str, **how: object) -> BenchResult:
    given: dict[str, object] = {
        "depth": 8,
        "ops": 1000,
        "file_size": MIB,
        "nodes": list(range(2, 40)),
        "names": [b"name-%d" % i for i in range(40)],
        **how,
    }
    return run_job(vmm, workload, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["poll", "quiet", "sleep"])
@pytest.mark.parametrize("indirect", [True, False], ids=["indirect", "direct"])
@pytest.mark.parametrize("workload", SEQUENCES)
def test_every_workload_counts_its_requests(workload: str, indirect: bool, mode: str) -> None:
    with Vmm.null(indirect=indirect) as vmm:
        result = run(vmm, workload, mode=mode)
        requests, forgets = SEQUENCES[workload]
        assert result.ops == 1000
        assert result.requests == requests * 1000
        # Lookups are given back at the end: the null backend has one node, so in one message.
        looked_up = workload in {"lookup", "small_file"}
        assert result.forgets == (1 if looked_up else forgets * 1000)
        # All of it went over the rings, and nothing is left on them.
        stats = [queue.ring.stats() for queue in vmm.queues]
        assert stats[1].completed == stats[1].submitted == result.requests
        assert stats[0].completed == stats[0].submitted == result.forgets
        assert vmm.null_stop() == result.requests + result.forgets
        assert 0 < result.lat_p50_ns <= result.lat_p99_ns <= result.lat_p999_ns
        assert result.lat_mean_ns <= result.lat_max_ns <= result.elapsed_ns


def test_a_queue_is_usable_before_and_after_a_run() -> None:
    with Vmm.null() as vmm:
        fs = vmm.fuse()
        assert fs.lookup(1, b"x").nodeid == 2
        run(vmm, "getattr")
        assert fs.lookup(1, b"x").nodeid == 2
        run(vmm, "read", size=65536)
        assert fs.lookup(1, b"x").nodeid == 2


def test_a_run_that_wraps_the_indices() -> None:
    with Vmm.null(queue_size=64, base=65000) as vmm:
        assert run(vmm, "getattr", depth=64, ops=200_000).ops == 200_000


def test_a_run_ends_when_its_time_is_over() -> None:
    with Vmm.null() as vmm:
        result = run(vmm, "getattr", ops=0, seconds=0.05)
        assert 0.05e9 <= result.elapsed_ns < 1e9
        assert result.ops > 1000


def test_failing_requests_spoil_a_run() -> None:
    with (
        Vmm.null(flags=NULL_SLEEP | NULL_ECHO) as vmm,
        pytest.raises(BenchError, match="opcode 15"),
    ):
        run(vmm, "read", size=16)


@pytest.mark.parametrize(
    "how",
    [{"depth": 0}, {"ops": 0}, {"file_size": 100}, {"size": 0}],
    ids=["no depth", "no end", "file too small", "no size"],
)
def test_a_job_that_makes_no_sense_is_refused(how: dict[str, int]) -> None:
    with Vmm.null() as vmm, pytest.raises(OSError, match="Invalid argument"):
        run(vmm, "read", **how)


def test_a_depth_beyond_the_ring_is_refused() -> None:
    with Vmm.null(queue_size=16) as vmm, pytest.raises(OSError, match="No space left"):
        run(vmm, "getattr", depth=17)


def test_a_busy_queue_is_refused() -> None:
    with Vmm(None) as vmm:
        vmm.fuse().submit(3, 1, bytes(16), 104)
        with pytest.raises(OSError, match="busy"):
            run(vmm, "getattr")


def test_two_queues_run_at_once() -> None:
    results: list[BenchResult] = []
    with Vmm.null(queues=2) as vmm:
        threads = [
            threading.Thread(
                target=lambda queue=queue: results.append(
                    run(vmm, "getattr", queue=queue, forget=False, mode="sleep", ops=20_000)
                )
            )
            for queue in (1, 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [result.ops for result in results] == [20_000, 20_000]


def test_the_driver_itself_can_do_a_million_and_a_half_requests_a_second() -> None:
    best = 1e9
    # Its own CPU time, asleep when idle: what else the machine does cannot be seen in it.
    for _ in range(5):
        with Vmm.null() as vmm:
            before = time.thread_time_ns()
            result = run(vmm, "getattr", depth=32, ops=100_000, mode="sleep", arena=MIB)
            best = min(best, (time.thread_time_ns() - before) / result.requests)
    assert best < 1e9 / 1.5e6


def test_cpu_time_includes_threads_that_have_ended() -> None:
    program = (
        "import threading,sys,time\n"
        "def burn():\n"
        "    end = time.thread_time() + 0.2\n"
        "    while time.thread_time() < end: pass\n"
        "t = threading.Thread(target=burn); t.start(); t.join()\n"
        "print('done', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        deadline = time.monotonic() + 10
        while len(os.listdir(f"/proc/{process.pid}/task")) > 1:  # joined, but not yet reaped
            assert time.monotonic() < deadline
        live, total = schedstat_ns(process.pid), process_cpu_ns(process.pid)
        assert total - live >= 0.19e9
        assert daemon_cpu_ns(process.pid) >= total
        pid = process.pid
        process.kill()
        process.wait()
    with pytest.raises(ProcessLookupError):
        process_cpu_ns(pid)
