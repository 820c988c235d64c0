# SPDX-License-Identifier: Apache-2.0
"""Fixtures that all suites share: scratch directories, and counting what must not leak."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]

pytest_plugins = ["tests.services.fixtures"]


def file_system_of(path: Path) -> str:
    """Return the type of the file system that a directory is on, as /proc/mounts names it."""
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, name, *_ = line.split()
        where = Path(mount.encode().decode("unicode_escape"))
        if path.resolve().is_relative_to(where) and len(where.parts) >= len(best.parts):
            best, kind = where, name
    return kind


def _scratch(parent: str | None) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ovfs-test-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def disk_dir() -> Iterator[Path]:
    """A fresh directory where temporary files go, on most machines a disk."""
    yield from _scratch(None)


@pytest.fixture
def ext4_dir(disk_dir: Path) -> Path:
    """A fresh directory on ext4: extents, direct I/O, inode numbers that are reused at once."""
    if file_system_of(disk_dir) != "ext4":
        pytest.skip(f"{disk_dir} is on {file_system_of(disk_dir)}, not ext4")
    return disk_dir


@pytest.fixture
def shm_dir() -> Iterator[Path]:
    """A fresh directory on tmpfs."""
    yield from _scratch("/dev/shm")


@pytest.fixture(params=["disk", "tmpfs"])
def any_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh directory, once on disk and once on tmpfs."""
    yield from _scratch("/dev/shm" if request.param == "tmpfs" else None)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A fresh directory whose path is short enough for a socket in it."""
    yield from _scratch("/tmp")


@pytest.fixture
def open_fds() -> Callable[[], set[str]]:
    """A function that names this process's open descriptors, to compare before and after.

    Connections over TCP are not among them: clients of storage services that earlier tests used
    close theirs by themselves, a while later.
    """
    return lambda: {
        name for name in set(os.listdir("/proc/self/fd")) - {_last_fd()} if not _is_tcp(int(name))
    }


def _is_tcp(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as found:
            return found.family in {socket.AF_INET, socket.AF_INET6}
    except OSError:  # closed meanwhile
        return False


def _last_fd() -> str:
    """Return the number that the next descriptor gets: the one that listing itself opens."""
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    return str(fd)
