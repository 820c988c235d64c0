# SPDX-License-Identifier: Apache-2.0
"""Options of the benchmarks, and the report at the end of a session.

pytest bench                                    all of it
pytest bench --quick                            short rounds, no system calls counted
pytest bench --peer 'NAME=COMMAND'              {socket} and {dir} in it are filled in
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.machine import describe
from bench.memory import held
from bench.report import Report
from bench.settings import Settings, parse_peers

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = Path(__file__).parent / "report" / "local.md"
SETTINGS = pytest.StashKey[Settings]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ovfs benchmarks")
    group.addoption("--quick", action="store_true", help="few and short rounds")
    group.addoption(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="a daemon to compare with, instead of QEMU's; {socket} and {dir} are filled in",
    )
    group.addoption("--rounds", type=int, help="of each daemon and case (default: 7; quick: 3)")
    group.addoption("--seconds", type=float, help="of a round (default: 0.4; quick: 0.2)")
    group.addoption("--bench-report", type=Path, default=REPORT, help="the Markdown report")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "bench_*.py")
    quick = config.option.quick
    rounds = config.option.rounds or (3 if quick else 7)
    seconds = config.option.seconds or (0.2 if quick else 0.4)
    try:
        peers = parse_peers(config.option.peer)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[SETTINGS] = Settings(
        peers=peers,
        rounds=rounds,
        seconds=seconds,
        is_quick=quick,
        report=Report(rounds, seconds, describe(peers)),
    )


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest) -> Settings:
    """What the command line asks for."""
    return request.config.stash[SETTINGS]


@pytest.fixture(scope="session", autouse=True)
def memory(settings: Settings) -> Iterator[None]:
    """The host's way with free memory is kept out of the figures, where they are to be kept."""
    with contextlib.nullcontext() if settings.is_quick else held():
        yield


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    settings = config.stash[SETTINGS]
    if settings.report.write(config.option.bench_report):
        terminalreporter.section("report")
        terminalreporter.write(settings.report.markdown())
        terminalreporter.write_line(f"in {config.option.bench_report}")
