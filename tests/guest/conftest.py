# SPDX-License-Identifier: Apache-2.0
"""Every test here boots a real kernel, which is most of its time; what can share a guest does."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.guest.daemon import Daemon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this directory's tests, and gives them the time an emulated CPU may take."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.guest)
            item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails says what its daemons have logged; guests know their side alone."""
    report = yield
    if report.failed:
        for daemon in Daemon.living:
            report.sections.append((f"{daemon.socket}, the daemon's log", daemon.log_tail()))
    return report


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """An empty directory to serve."""
    directory = tmp_path / "share"
    directory.mkdir()
    return directory
