# SPDX-License-Identifier: Apache-2.0
"""Durability: what the host's kernel still has to write once a request is answered.

cachestat(2) (Linux 6.5) counts a file's dirty pages and those under write-back, so that a promise
to have written them can be seen kept without cutting the power.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import file_system_of
from tests.operations.share import Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operations.scene import Scene

SYS_CACHESTAT = 451
MIB = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def unwritten(path: bytes) -> int:
    """Pages of a file that are not on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        whole = (ctypes.c_uint64 * 2)(0, 0)
        counts = (ctypes.c_uint64 * 5)()
        if _libc.syscall(SYS_CACHESTAT, fd, whole, counts, 0) < 0:
            pytest.skip(f"cachestat: {os.strerror(ctypes.get_errno())} (it came with Linux 6.5)")
        return counts[1] + counts[2]
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def disk_share() -> Iterator[Share]:
    """On a disk, or what the machine has for one."""
    with Share("disk") as made:
        if file_system_of(made.root) == "tmpfs":
            pytest.skip(f"{made.root} is on a tmpfs: there is nothing to write to")
        yield made


@pytest.fixture
def disk(disk_share: Share) -> Iterator[Scene]:
    """A scene on it."""
    with disk_share.scene() as made:
        yield made


@pytest.mark.promise("fsync-1")
@pytest.mark.parametrize("datasync", [False, True])
@pytest.mark.parametrize("queue", [1, 2])
def test_fsync_has_written(disk: Scene, queue: int, datasync: bool) -> None:
    nodeid, fh = disk.open(b"file")
    disk.fs.write(nodeid, fh, 0, os.urandom(MIB))
    assert unwritten(disk.path(b"file")) > 0
    disk.fs.fsync(nodeid, fh, datasync=datasync, queue=queue)
    assert unwritten(disk.path(b"file")) == 0


@pytest.mark.promise("fsync-1")
def test_fsync_through_another_handle_has_written(disk: Scene) -> None:
    """It is the file that is synced, also through a handle for reading."""
    nodeid, fh = disk.open(b"file")
    disk.fs.write(nodeid, fh, 0, os.urandom(MIB))
    disk.fs.fsync(nodeid, disk.fs.open(nodeid, os.O_RDONLY).fh)
    assert unwritten(disk.path(b"file")) == 0


@pytest.mark.promise("fsync-1")
@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_a_synchronous_write_has_written(disk: Scene, flag: int) -> None:
    nodeid, fh = disk.open(b"file", os.O_WRONLY | flag)
    disk.fs.write(nodeid, fh, 0, os.urandom(MIB))
    assert unwritten(disk.path(b"file")) == 0


@pytest.fixture
def sync_trace(disk: Scene, tmp_path: Path) -> Iterator[Path]:
    """Files of tracefs that log each fsync of an ext4, apart from anybody else's tracing."""
    if file_system_of(Path(os.fsdecode(disk.path()))) != "ext4":
        pytest.skip("it is ext4 that can tell which directories it was asked to sync")
    words = ["mount", "-t", "tracefs", "tracefs", str(tmp_path)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel, or container, has no tracefs")
    instance = tmp_path / "instances" / f"ovfs-{os.getpid()}"
    instance.mkdir()
    try:
        (instance / "events/ext4/ext4_sync_file_enter/enable").write_text("1", encoding="ascii")
        yield instance
    finally:
        instance.rmdir()
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.promise("fsync-2")
@pytest.mark.parametrize("datasync", [False, True])
def test_fsyncdir_has_synced_the_directory(disk: Scene, sync_trace: Path, datasync: bool) -> None:
    """A directory's pages are its file system's own and cannot be counted as a file's can."""
    number = os.stat(disk.path(b"dir")).st_ino
    disk.fs.mkdir(disk.node(b"dir"), b"new")
    disk.fs.fsyncdir(*disk.opendir(b"dir"), datasync=datasync)
    trace = (sync_trace / "trace").read_text(encoding="ascii")
    assert re.search(rf"ext4_sync_file_enter: .* ino {number} .* datasync {datasync:d}", trace)


@pytest.mark.promise("fsync-3")
def test_syncfs_has_written_all_files(disk: Scene) -> None:
    for name in (b"file", b"tool", b"full/child"):
        disk.fs.write(*disk.open(name), 0, os.urandom(MIB))
    disk.fs.syncfs(disk.top)
    assert [unwritten(disk.path(name)) for name in (b"file", b"tool", b"full/child")] == [0, 0, 0]


@pytest.mark.promise("flush-1")
def test_flush_does_not_wait_for_the_disk(disk: Scene) -> None:
    nodeid, fh = disk.open(b"file")
    disk.fs.write(nodeid, fh, 0, os.urandom(MIB))
    disk.fs.flush(nodeid, fh)
    assert unwritten(disk.path(b"file")) > 0
    disk.fs.release(nodeid, fh)
    with open(disk.path(b"file"), "rb") as file:
        assert len(file.read()) == MIB


@pytest.mark.promise("end-1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_daemon_has_written(number: signal.Signals) -> None:
    with Share("disk") as share, share.scene() as scene:
        nodeid, fh = scene.open(b"file")
        pending = [
            scene.fs.submit_write(nodeid, fh, at * MIB, bytes([at]) * MIB) for at in range(8)
        ]
        share.daemon.process.send_signal(number)
        assert share.daemon.wait() == 0
        for at, one in enumerate(pending):
            if one.queue.poll(one.token):
                scene.fs.wait(one)
                with open(scene.path(b"file"), "rb") as file:
                    file.seek(at * MIB)
                    assert file.read(MIB) == bytes([at]) * MIB
        assert unwritten(scene.path(b"file")) == 0
