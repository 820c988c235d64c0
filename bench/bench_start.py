# SPDX-License-Identifier: Apache-2.0
"""What a daemon costs before it serves anything: time until it listens, and memory."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from bench.contest import OVFS
from tests.vmm.daemon import Daemon
from tests.vmm.machine import Vmm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings

START_LIMIT = 0.5  # seconds until it listens, on an idle machine
MEMORY_LIMIT = 60 << 20  # resident bytes, guest memory not counted
HEADING = "Start and memory"


def start_times(directory: Path, command: Sequence[str] | None, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        with Daemon.start(directory, command=command):
            times.append(time.perf_counter() - begin)
    return times


def idle_memory(directory: Path, command: Sequence[str] | None) -> tuple[int, int]:
    """Resident bytes before a VMM has come, and with one that has mounted."""
    with Daemon.start(directory, command=command) as daemon:
        alone = daemon.rss()
        with Vmm.connect(daemon.socket) as vmm:
            vmm.fuse().init()
            return alone, daemon.rss()


def test_start_to_listening(
    benchmark: BenchmarkFixture, tmp_path: Path, settings: Settings
) -> None:
    times: list[float] = []

    def start() -> None:
        times.extend(start_times(tmp_path, None, 1))

    benchmark.pedantic(start, rounds=settings.rounds)  # type: ignore[no-untyped-call]
    settings.report.add(HEADING, f"{OVFS} listens after {median(times):.2f} s")
    for name, command in settings.peers.items():
        theirs = median(start_times(tmp_path, command, settings.rounds))
        settings.report.add(HEADING, f"{name} listens after {theirs:.2f} s")
    # The machine is shared with whatever else runs: its best is what the daemon itself takes.
    assert min(times) < START_LIMIT


def test_idle_memory(tmp_path: Path, settings: Settings) -> None:
    for name, command in ((OVFS, None), *settings.peers.items()):
        alone, mounted = idle_memory(tmp_path, command)
        settings.report.add(
            HEADING,
            f"{name}: {alone / 2**20:.0f} MiB resident alone, {mounted / 2**20:.0f} with a VMM",
        )
        if name == OVFS:
            assert max(alone, mounted) < MEMORY_LIMIT
