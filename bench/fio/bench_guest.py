# SPDX-License-Identifier: Apache-2.0
"""fio in a real guest: what a program there gets, kernel, virtqueues and daemon together.

Each job runs in User-mode Linux, which is nearly as fast as the host, and in QEMU, where the guest
sets the pace if its CPU is emulated; there the first peer has its turn as well (User-mode Linux
learns the tag from the daemon, which QEMU's does not tell). The time in pytest-benchmark's table is
that of a whole job; rates and latencies are in the report and the JSON. To judge daemons against
each other take bench_local.py: less is between them and the clock.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from bench.contest import OVFS
from tests.guest import boot, has_uml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings
    from tests.guest import Guest

JOBS = sorted(Path(__file__).parent.glob("*.fio"))
PAIRS = [("User-mode Linux", "ovfs"), ("QEMU", "ovfs"), ("QEMU", "peer")]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def machine(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Guest]]:
    """A guest for all jobs, on a share that passes O_DIRECT on, and what the report calls it."""
    kernel, who = request.param
    if kernel != "QEMU" and not has_uml():
        pytest.skip("User-mode Linux exists for x86-64 alone")
    if kernel == "QEMU" and settings.is_quick:
        pytest.skip("an emulated guest takes its time")
    if who == "peer" and not settings.peers:
        pytest.skip("there is no peer here")
    name = OVFS if who == "ovfs" else next(iter(settings.peers))
    scratch = tmp_path_factory.mktemp("fio")
    share = scratch / "share"
    share.mkdir()
    # What OVFS_COMMAND says takes the daemon's place, options and all.
    command = {} if name == OVFS else {"OVFS_COMMAND": " ".join(settings.peers[name])}
    with (
        patch.dict(os.environ, command),
        boot(share, scratch, ["--allow-direct-io"], uml=kernel != "QEMU") as guest,
    ):
        yield f"{kernel}, {name}", guest


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
def test_fio(
    benchmark: BenchmarkFixture, machine: tuple[str, Guest], job: Path, settings: Settings
) -> None:
    name, guest = machine
    figures = benchmark.pedantic(run_job, args=(guest, job), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info.update(figures)
    settings.report.add(
        f"fio in a guest: {name}",
        f"{job.stem}: {figures['ops_per_s']:,.0f} op/s, {figures['mib_per_s']:,.0f} MiB/s,"
        f" mean {figures['mean_us']:,.0f} µs, p99 {figures['p99_us']:,.0f} µs",
    )
    assert figures["ops_per_s"] > 0
