# SPDX-License-Identifier: Apache-2.0
"""What is in the cache is served as a local directory is: by C, whatever Python does meanwhile.

Both backends serve the same bytes to the same driver, in turns. Rates are those of each one's best
round, since others on the machine only ever lower them.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from typing import TYPE_CHECKING

import pytest

from bench.remote.files import MIB
from bench.remote.guest import GuestFiles, local, remote
from bench.remote.place import noise
from tests.vmm.bench import run_job
from tests.vmm.procstat import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.remote.cases import Scale
    from bench.remote.place import Place
    from bench.remote.table import RemoteReport
    from tests.vmm.bench import BenchResult

HEADING = "Warm: what is in the cache"
READ_RATE = 0.9  # of the local backend's
LIST_RATE = 0.5
TOLERANCE = 1.10
HELD_SECONDS = 2.0
ROUNDS = 5
SECONDS = 0.3
#: What is no change of a p99 on a machine that others use, as tests/process/test_gil.py has it.
FACTOR, FLOOR_NS = 3.0, 300_000


@pytest.fixture(scope="module")
def place(ways: dict[str, Place], scale: Scale) -> Place:
    """A large object, and a directory of many."""
    found = ways["direct"].fresh()
    found.put_large("large", scale.large)
    found.put_small([f"listed/object-{number:05}" for number in range(scale.listed)], 100)
    return found


@pytest.fixture
def both(place: Place, scale: Scale, tmp_path: Path) -> Iterator[tuple[GuestFiles, GuestFiles]]:
    """The remote backend and the local one, with the same content, warm."""
    (tmp_path / "large").write_bytes(noise(scale.large))
    (tmp_path / "listed").mkdir()
    for number in range(scale.listed):
        (tmp_path / "listed" / f"object-{number:05}").write_bytes(noise(MIB)[:100])
    with remote(place) as theirs, local(tmp_path) as ours:
        for files in (theirs, ours):
            files.read("large", scale.large)
        yield theirs, ours


def rates(ours: list[float], theirs: list[float]) -> float:
    return max(ours) / max(theirs)


@pytest.mark.timeout(600)
def test_warm_read(
    both: tuple[GuestFiles, GuestFiles], scale: Scale, results: RemoteReport
) -> None:
    runs: tuple[list[BenchResult], list[BenchResult]] = ([], [])
    cpu: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for files, taken, used in zip(both, runs, cpu, strict=True):
            before = files.cpu_ns()
            taken.append(files.read_in_c("large", scale.large, mode="poll"))
            used.append((files.cpu_ns() - before) / scale.large * MIB / 1000)
    speeds = [[run.bytes_per_s / MIB for run in taken] for taken in runs]
    ratio = rates(*speeds)
    results.add(
        HEADING,
        f"sequential read, 1 MiB requests, 4 in flight: {max(speeds[0]):,.0f} MiB/s, the local"
        f" backend {max(speeds[1]):,.0f}: {ratio:.2f} (promised {READ_RATE}); CPU per MiB"
        f" {statistics.median(cpu[0]):.0f} µs, local {statistics.median(cpu[1]):.0f}",
    )
    assert ratio >= READ_RATE / TOLERANCE


def listing(files: GuestFiles) -> BenchResult:
    """Lists a directory again and again, right after it was listed once."""
    files.list_long("listed")
    node = files.directory("listed")
    fh = files.fs.opendir(node).fh
    try:
        return run_job(
            files.vmm,
            "readdirplus",
            depth=1,
            size=4096,
            seconds=SECONDS,
            mode="poll",
            nodeid=node,
            nodes=[fh],
        )
    finally:
        files.fs.releasedir(node, fh)


@pytest.mark.timeout(600)
def test_warm_listing(both: tuple[GuestFiles, GuestFiles], results: RemoteReport) -> None:
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for files, taken in zip(both, speeds, strict=True):
            taken.append(listing(files).ops_per_s)
    ratio = rates(*speeds)
    results.add(
        HEADING,
        f"READDIRPLUS, pages of 4 KiB: {max(speeds[0]):,.0f} a second, the local backend"
        f" {max(speeds[1]):,.0f}: {ratio:.2f} (promised {LIST_RATE})",
    )
    assert ratio >= LIST_RATE / TOLERANCE


def p99(files: GuestFiles, node: int, fh: int, size: int) -> float:
    found = [
        run_job(
            files.vmm,
            "read",
            depth=4,
            seconds=0.15,
            mode="sleep",
            nodeid=node,
            fh=fh,
            file_size=size,
        )
        for _ in range(ROUNDS)
    ]
    return statistics.median(result.lat_p99_ns for result in found)


@pytest.mark.timeout(600)
def test_warm_reads_do_without_python(
    place: Place, scale: Scale, results: RemoteReport, tmp_path: Path
) -> None:
    trigger = tmp_path / "trigger"
    launcher = ("-m", "tests.process.launcher", str(trigger), str(HELD_SECONDS))
    with remote(place, program=launcher) as files:
        files.read("large", scale.large)
        node = files.node("large")
        fh = files.fs.open(node, os.O_RDONLY).fh
        before = p99(files, node, fh, scale.large)
        trigger.touch()
        while trigger.exists():
            with contextlib.suppress(OSError):
                os.sched_yield()
        during = p99(files, node, fh, scale.large)
        assert tree(files.daemon.pid)
    results.add(
        HEADING,
        f"4 KiB reads while a Python thread holds the GIL for {HELD_SECONDS:.0f} s: p99"
        f" {during / 1000:.0f} µs, before {before / 1000:.0f} µs",
    )
    assert during < FACTOR * before + FLOOR_NS
