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
from bench.cases import CASES, DIRECT_MATRIX, DISK_CASES, MATRIX, Case
from bench.clock import CLOCK
from bench.contest import OVFS, Comparison, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.settings import Settings

TOLERANCE = 1.10
MATRIX_ROUNDS = 3
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
    benchmark: BenchmarkFixture, field: Field, case: Case, settings: Settings, rounds: int
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
    benchmark.pedantic(ours, setup=others, rounds=rounds)  # type: ignore[no-untyped-call]
    if not settings.is_quick:
        for contestant in field.all:
            calls = contestant.calls_per_op(case)
            if calls is not None:
                comparison.calls[contestant.name] = calls
    benchmark.extra_info.update(comparison.as_json())
    return comparison


def judge(comparison: Comparison, peer: str | None, settings: Settings) -> None:
    """Notes what became of the goals; fails where one that has been reached is not any more."""
    found = [comparison.verdict(goal, peer) for goal in comparison.case.goals]
    verdicts = [verdict for verdict in found if verdict is not None]
    settings.report.verdicts += verdicts
    if not settings.is_quick:
        lost = [v for v in verdicts if not (v.goal.aim or v.kept(TOLERANCE))]
        assert not lost, "; ".join(map(str, lost))


def skip_without_device(field: Field) -> None:
    if field.place == "tmpfs":
        pytest.skip("there is no device below tmpfs")


@pytest.mark.benchmark(timer=CLOCK, group="local: daemon CPU per operation")
@pytest.mark.parametrize("case", [*CASES, *DISK_CASES], ids=lambda case: case.name)
def test_local(benchmark: BenchmarkFixture, field: Field, case: Case, settings: Settings) -> None:
    if case in DISK_CASES:
        skip_without_device(field)
    comparison = compare(benchmark, field, case, settings, settings.rounds)
    settings.report.comparisons.append(comparison)
    judge(comparison, field.peers[0].name if field.peers else None, settings)


@pytest.mark.benchmark(timer=CLOCK, group="local, other sizes and depths: daemon CPU per operation")
@pytest.mark.parametrize("case", [*MATRIX, *DIRECT_MATRIX], ids=lambda case: case.name)
def test_matrix(benchmark: BenchmarkFixture, field: Field, case: Case, settings: Settings) -> None:
    if settings.is_quick:
        pytest.skip("these are not for every day")
    if case in DIRECT_MATRIX:
        skip_without_device(field)
    rounds = min(settings.rounds, MATRIX_ROUNDS)
    settings.report.others.append(compare(benchmark, field, case, settings, rounds))
