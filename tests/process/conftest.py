# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a share, and daemons on it, with the newest rings and with those of kernel 5.15."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process.place import fill
from tests.vmm.daemon import OVFS, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

#: No flag of io_uring_setup that is younger than the oldest kernel served.
PLAIN_RINGS = {"OVFS_PLAIN_RINGS": "1"}


def _made(parent: str | None) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="ovfs-process-", dir=parent))
    work.chmod(0o755)
    try:
        yield fill(work / "root")
    finally:
        shutil.rmtree(work)


@pytest.fixture(scope="module")
def share() -> Iterator[Path]:
    """A filled share on tmpfs."""
    yield from _made("/dev/shm")


@pytest.fixture(scope="module")
def disk_share() -> Iterator[Path]:
    """The same where temporary files go, on most machines a disk."""
    yield from _made(None)


@pytest.fixture
def fresh(share: Path) -> Iterator[Daemon]:
    """A daemon for one test."""
    with Daemon.start(share, command=OVFS, options=["--log-level", "debug"]) as daemon:
        yield daemon


@pytest.fixture(scope="module", params=["newest", "plain"])
def daemon(request: pytest.FixtureRequest, share: Path) -> Iterator[Daemon]:
    """A daemon for a module's tests, which are run once with each kind of rings."""
    env = PLAIN_RINGS if request.param == "plain" else {}
    options = ["--queues", "4", "--posix-lock", "--allow-direct-io", "--log-level", "debug"]
    with Daemon.start(share, command=OVFS, options=options, env=env) as started:
        yield started
        assert started.running, started.log()
        assert started.stop() == 0, started.log()
        assert "Traceback" not in started.log(1 << 20)
