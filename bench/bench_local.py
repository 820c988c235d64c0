# SPDX-License-Identifier: Apache-2.0
"""A local directory: ovfs and its peers, in turns, with the fake VMM in a guest's place.

The time in pytest-benchmark's table is the CPU time of the ovfs daemon per operation (clock.py);
all figures of all daemons are in the JSON's extra_info and in the report. Goals are judged by the
median of the rounds' ratios, for rates by each one's best round, with TOLERANCE on top: so much do
these still wander on a machine with two cores that others use as well.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from bench.bare import BARE
from bench.cases import CASES, DISK_CASES, Case
from bench.clock import CLOCK
from bench.contest import OVFS, Comparison, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings

TOLERANCE = 1.10
DISK = tempfile.gettempdir()
MEMORY = "/dev/shm"  # noqa: S108  directories are made exclusively there


@pytest.fixture(scope="module", params=[DISK, MEMORY], ids=["disk", "tmpfs"])
def field(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Field]:
    if not os.path.isdir(request.param):
        pytest.skip(f"there is no {request.param}")
    field = Field(settings.peers, request.param)
    yield field
    field.close()


def compare(
    benchmark: BenchmarkFixture, field: Field, case: Case, settings: Settings
) -> Comparison:
    comparison = Comparison(case, field.place)

    def others() -> None:
        if case.bare and (bare := field.bare.run(case, settings.seconds)):
            comparison.add(BARE, bare)
        for peer in field.peers:
            comparison.add(peer.name, peer.run(case, seconds=settings.seconds))

    def ours() -> None:
        result = field.ovfs.run(case, seconds=settings.seconds)
        comparison.add(OVFS, result)
        CLOCK.advance((result.cpu_us_per_op or 0.0) / 1e6)

    field.warm_up(case)
    benchmark.pedantic(ours, setup=others, rounds=settings.rounds)  # type: ignore[no-untyped-call]
    if not settings.is_quick:
        for contestant in field.all:
            calls = contestant.calls_per_op(case)
            if calls is not None:
                comparison.calls[contestant.name] = calls
    benchmark.extra_info.update(comparison.as_json())
    settings.report.comparisons.append(comparison)
    return comparison


def judge(comparison: Comparison, peer: str | None, settings: Settings) -> None:
    """Notes what became of the goals; fails where one that has been reached is not any more."""
    found = [comparison.verdict(goal, peer) for goal in comparison.case.goals]
    verdicts = [verdict for verdict in found if verdict is not None]
    settings.report.verdicts += verdicts
    if not settings.is_quick:
        lost = [v for v in verdicts if not (v.goal.aim or v.kept(TOLERANCE))]
        assert not lost, "; ".join(map(str, lost))


@pytest.mark.benchmark(timer=CLOCK, group="local: daemon CPU per operation")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_local(benchmark: BenchmarkFixture, field: Field, case: Case, settings: Settings) -> None:
    comparison = compare(benchmark, field, case, settings)
    judge(comparison, field.peers[0].name if field.peers else None, settings)


@pytest.mark.benchmark(timer=CLOCK, group="local: daemon CPU per operation")
@pytest.mark.parametrize("case", DISK_CASES, ids=lambda case: case.name)
def test_local_disk(
    benchmark: BenchmarkFixture, field: Field, case: Case, settings: Settings
) -> None:
    if field.place == "tmpfs":
        pytest.skip("there is no device below tmpfs")
    comparison = compare(benchmark, field, case, settings)
    judge(comparison, field.peers[0].name if field.peers else None, settings)
