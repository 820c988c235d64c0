# SPDX-License-Identifier: Apache-2.0
"""The cases of cases.py, each at each distance, everybody in turns.

The time in pytest-benchmark's table is what ovfs took; all figures of everybody are in the JSON's
extra_info and in the Markdown report. Promises are judged with TOLERANCE on top: so much do these
still wander on a machine with two cores that others use as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.clock import CLOCK
from bench.remote.cases import CASES, OVFS, Case, Scale
from bench.remote.place import WAYS, Place
from bench.remote.trial import Trial, run

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.remote.table import RemoteReport

TOLERANCE = 1.10


@pytest.mark.timeout(1800)
@pytest.mark.benchmark(timer=CLOCK, group="remote: seconds")
@pytest.mark.parametrize("way", [way.name for way in WAYS])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_remote(
    *,
    benchmark: BenchmarkFixture,
    ways: dict[str, Place],
    way: str,
    case: Case,
    scale: Scale,
    results: RemoteReport,
) -> None:
    place = ways[way].fresh()
    if case.prepare is not None:
        case.prepare(place, scale)
    trial = Trial(case, way)
    results.trials.append(trial)

    def others() -> None:
        for contender in case.contenders:
            if contender is not OVFS and contender.name not in results.missing:
                trial.add(contender.name, run(case, contender, place, scale))

    def ours() -> None:
        result = run(case, OVFS, place, scale)
        trial.add(OVFS.name, result)
        CLOCK.advance(result.seconds)

    benchmark.pedantic(ours, setup=others, rounds=results.rounds)  # type: ignore[no-untyped-call]
    place.bucket.clear()
    benchmark.extra_info.update(trial.as_json())
    for limit in () if results.is_quick else case.limits:
        verdict = trial.judge(limit, TOLERANCE)
        assert verdict is None or verdict[1], verdict[0]
