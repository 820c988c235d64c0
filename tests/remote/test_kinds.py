# SPDX-License-Identifier: Apache-2.0
"""Other services than S3, on real servers: the same work, as far as each of them goes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.share import RemoteShare
from tests.services.rclone import RcloneServe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vmm.client import FuseClient

MIB = 1 << 20


@pytest.fixture(params=["webdav", "ftp"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[RemoteShare, Path]]:
    """A share on a server of its own, and the directory that this serves."""
    with RcloneServe(request.param) as server, RemoteShare(server.url()) as share:
        yield share, Path(server.files)


def save(fs: FuseClient, parent: int, name: bytes, data: bytes) -> int:
    """Makes a file; returns its node."""
    entry, opened = fs.create(parent, name)
    for at in range(0, len(data), MIB):
        assert fs.write(entry.nodeid, opened.fh, at, data[at : at + MIB]) == len(
            data[at : at + MIB]
        )
    fs.flush(entry.nodeid, opened.fh)
    fs.release(entry.nodeid, opened.fh, os.O_RDWR)
    return entry.nodeid


def names(fs: FuseClient, nodeid: int) -> set[bytes]:
    """What a directory lists."""
    fh = fs.opendir(nodeid).fh
    found = {entry.name for entry in fs.readdir(nodeid, fh, 0)}
    fs.releasedir(nodeid, fh)
    return found - {b".", b".."}


def test_files_are_written_changed_and_moved(served: tuple[RemoteShare, Path]) -> None:
    share, files = served
    fs = share.fs
    node = save(fs, 1, b"a.txt", b"hello " * 1000)
    assert (files / "a.txt").read_bytes() == b"hello " * 1000
    directory = fs.mkdir(1, b"dir").nodeid
    assert (files / "dir").is_dir()
    fs.rename(1, b"a.txt", directory, b"b.txt")
    assert not (files / "a.txt").exists()
    fh = fs.open(node, os.O_RDWR).fh
    assert fs.write(node, fh, 100, b"XYZ") == 3
    fs.fsync(node, fh)
    fs.flush(node, fh)
    fs.release(node, fh, os.O_RDWR)
    expected = bytearray(b"hello " * 1000)
    expected[100:103] = b"XYZ"
    assert (files / "dir/b.txt").read_bytes() == expected
    assert names(fs, directory) == {b"b.txt"}


def test_directories_are_moved_and_removed(served: tuple[RemoteShare, Path]) -> None:
    share, files = served
    fs = share.fs
    top = fs.mkdir(1, b"top").nodeid
    below = fs.mkdir(top, b"below").nodeid
    save(fs, below, b"file", b"data")
    fs.rename(1, b"top", 1, b"moved")
    assert (files / "moved/below/file").read_bytes() == b"data"
    assert not (files / "top").exists()
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(1, b"moved")
    fs.unlink(below, b"file")
    fs.rmdir(top, b"below")
    fs.rmdir(1, b"moved")
    assert names(fs, 1) == set()
    assert list(files.iterdir()) == []


def test_large_files_and_what_others_put_there(served: tuple[RemoteShare, Path]) -> None:
    share, files = served
    fs = share.fs
    data = os.urandom(20 * MIB)
    save(fs, 1, b"large", data)
    assert (files / "large").read_bytes() == data
    (files / "theirs").write_bytes(data[:100_000])
    share.stop()
    share.start_again()
    fs = share.fs
    entry = fs.lookup(1, b"theirs")
    assert stat.S_ISREG(entry.attr.mode)
    fh = fs.open(entry.nodeid).fh
    assert fs.read(entry.nodeid, fh, 50_000, MIB) == data[50_000:100_000]
