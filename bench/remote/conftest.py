# SPDX-License-Identifier: Apache-2.0
"""The service that all of it runs on, and the report at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.conftest import REPORT
from bench.remote.cases import CASES, FULL, QUICK, Scale
from bench.remote.place import Place, places
from bench.remote.table import RemoteReport
from tests.services.seaweed import SeaweedFS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESULTS = pytest.StashKey[RemoteReport]()
ROUNDS = 3


def results_of(config: pytest.Config) -> RemoteReport:
    """Where this session's results go."""
    if RESULTS not in config.stash:
        rounds = config.option.rounds or (1 if config.option.quick else ROUNDS)
        config.stash[RESULTS] = RemoteReport(rounds, QUICK if config.option.quick else FULL)
        contenders = {one.name: one for case in CASES for one in case.contenders}
        missing = {name: one.missing() for name, one in contenders.items()}
        config.stash[RESULTS].missing = {name: why for name, why in missing.items() if why}
    return config.stash[RESULTS]


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> RemoteReport:
    """Where this session's results go."""
    return results_of(request.config)


@pytest.fixture(scope="session")
def scale(results: RemoteReport) -> Scale:
    """How much of everything there is."""
    return results.scale


@pytest.fixture(scope="session")
def service() -> Iterator[SeaweedFS]:
    """A SeaweedFS for the benchmarks."""
    with SeaweedFS() as running:
        yield running


@pytest.fixture(scope="session")
def ways(service: SeaweedFS) -> Iterator[dict[str, Place]]:
    """A place for each distance."""
    with places(service) as found:
        yield found


def _report_path(config: pytest.Config) -> Path:
    path: Path = config.option.bench_report
    return path.with_name("remote.md") if path == REPORT else path.with_stem(f"{path.stem}-remote")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    path = _report_path(config)
    report = config.stash.get(RESULTS, None)
    if report is not None and report.write(path):
        terminalreporter.section("remote report")
        terminalreporter.write(report.markdown())
        terminalreporter.write_line(f"in {path}")
