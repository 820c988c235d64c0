# SPDX-License-Identifier: Apache-2.0
"""Changes that fail on their way: nothing is lost by it, and doing it again does it."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from errno import EACCES, EIO
from typing import TYPE_CHECKING

import pytest

from tests.remote.faulty import FRESH, FaultyShare, eventually, fails_with
from tests.services.faults import Delay, Status
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from tests.services.fault_proxy import FaultProxy
    from tests.services.seaweed import SeaweedFS

MIB = 1 << 20
ORDER = ["outer/", "outer/inner/", "outer/inner/file"]


@pytest.mark.parametrize("size", [1000, 9 * MIB])
@pytest.mark.parametrize("is_here", [True, False], ids=["cached", "cold"])
@pytest.mark.parametrize(
    ("method", "target"), [("PUT", "/new"), ("DELETE", "/old")], ids=["put", "delete"]
)
def test_a_rename_that_fails(  # noqa: PLR0917  (fixtures and what is varied)
    share: FaultyShare, proxy: FaultProxy, size: int, is_here: bool, method: str, target: str
) -> None:
    data = os.urandom(size)
    share.bucket.put("old", data)
    if is_here:
        assert share.load("old") == data
    nodeid, fh = share.open("old", os.O_RDONLY)
    with proxy.fault(Status(403), method=method, target=target):
        fails_with(EACCES, lambda: share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new"))
    assert share.bucket.get("old") == data
    assert share.load("old") == data
    assert share.read(nodeid, fh) == data
    share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new")
    assert share.bucket.keys() == ["new"]
    assert share.load("new") == data
    assert share.names() == ["new"]


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", "/new/7$"), ("DELETE", "/old/7$"), ("GET", "list-type=2")],
    ids=["put", "delete", "list"],
)
def test_a_rename_of_a_directory_that_fails(
    share: FaultyShare, proxy: FaultProxy, method: str, target: str
) -> None:
    content = {str(number): os.urandom(100) for number in range(10)}
    for name, data in content.items():
        share.bucket.put(f"old/{name}", data)
    assert share.names() == ["old"]
    with proxy.fault(Status(403), method=method, target=target):
        fails_with(EACCES, lambda: share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new"))
    there = share.bucket.keys()
    for name in content:
        assert {f"old/{name}", f"new/{name}"} & set(there), name
    share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new")
    assert share.bucket.keys() == [f"new/{name}" for name in content]
    assert share.names() == ["new"]
    new = share.node("new")
    for name, data in content.items():
        node = share.fs.lookup(new, name.encode()).nodeid
        assert share.fs.read(node, share.fs.open(node).fh, 0, 1000) == data


def test_a_rename_of_a_file_that_is_written(share: FaultyShare, proxy: FaultProxy) -> None:
    share.bucket.put("old", b"old")
    nodeid, fh = share.open("old")
    share.write(nodeid, fh, b"newer")
    with proxy.fault(Status(403), method="PUT"):
        fails_with(EACCES, lambda: share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new"))
        fails_with(EACCES, lambda: share.fs.fsync(nodeid, fh))
    assert share.bucket.keys() == ["old"]
    assert share.read(nodeid, fh) == b"newer"
    share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new")
    share.close(nodeid, fh)
    assert share.bucket.keys() == ["new"]
    assert share.bucket.get("new") == b"newer"


def test_a_rename_over_a_file_that_fails(share: FaultyShare, proxy: FaultProxy) -> None:
    share.bucket.put("old", b"old")
    share.bucket.put("new", b"there before")
    assert share.load("new") == b"there before"
    with proxy.fault(Status(403), method="PUT"):
        fails_with(EACCES, lambda: share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new"))
    assert share.load("new") == b"there before"
    assert share.load("old") == b"old"
    share.fs.rename(ROOT_ID, b"old", ROOT_ID, b"new")
    assert share.load("new") == b"old"
    assert share.bucket.keys() == ["new"]


def test_removing_that_fails(share: FaultyShare, proxy: FaultProxy) -> None:
    share.bucket.put("file", b"data")
    share.fs.mkdir(ROOT_ID, b"dir")
    nodeid, fh = share.open("file")
    share.write(nodeid, fh, b"newer")
    with proxy.fault(Status(403), method="DELETE"):
        fails_with(EACCES, lambda: share.fs.unlink(ROOT_ID, b"file"))
        fails_with(EACCES, lambda: share.fs.rmdir(ROOT_ID, b"dir"))
    assert share.names() == ["dir", "file"]
    share.close(nodeid, fh)
    assert share.bucket.get("file") == b"newer"
    assert share.fs.create(share.node("dir"), b"inside")
    share.fs.unlink(share.node("dir"), b"inside")
    share.fs.unlink(ROOT_ID, b"file")
    share.fs.rmdir(ROOT_ID, b"dir")
    assert share.names() == []
    assert share.bucket.keys() == []


def test_making_that_fails(share: FaultyShare, proxy: FaultProxy) -> None:
    with proxy.fault(Status(403), method="PUT"):
        fails_with(EACCES, lambda: share.fs.mkdir(ROOT_ID, b"dir"))
        fails_with(EACCES, lambda: share.fs.symlink(ROOT_ID, b"link", b"target"))
        fails_with(EACCES, lambda: share.fs.mknod(ROOT_ID, b"node", 0o100644))
        assert share.names() == []
    share.fs.mkdir(ROOT_ID, b"dir")
    share.fs.symlink(ROOT_ID, b"link", b"target")
    share.fs.mknod(ROOT_ID, b"node", 0o100644)
    assert share.names() == ["dir", "link", "node"]
    assert share.bucket.keys() == ["dir/", "link", "node"]


def test_attributes_that_cannot_be_stored(share: FaultyShare, proxy: FaultProxy) -> None:
    """They hold here, fsync tells that they are not stored, and they are once they can be."""
    share.bucket.put("file", b"data")
    nodeid, fh = share.open("file")
    with proxy.fault(Status(403), method="PUT") as rule:
        share.fs.setattr(nodeid, mode=0o600)
        assert share.owed() == 1
        fails_with(EACCES, lambda: share.fs.fsync(nodeid, fh))
        share.fs.release(nodeid, fh, os.O_RDWR)
        tries = rule.hits
        eventually(lambda: rule.hits > tries)
        assert share.fs.getattr(nodeid).attr.mode == 0o100600
    eventually(lambda: share.owed() == 0)
    head = share.bucket.head("file")
    assert head is not None
    assert head.meta["mode"] == str(0o100600)
    assert share.bucket.get("file") == b"data"


@pytest.mark.slow
def test_half_a_listing_is_none(share: FaultyShare, proxy: FaultProxy) -> None:
    """The second page of it fails: what is on that page is not taken for removed."""
    names = [f"{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: share.bucket.put(name, b"data"), names))
    assert share.names() == names
    last = share.node("1099")
    handle = share.fs.open(last, os.O_RDONLY).fh
    with proxy.fault(Status(500), target="continuation-token"):
        fails_with(EIO, share.names)
        fails_with(EIO, lambda: share.fs.lookup(ROOT_ID, b"1098"))
    assert share.fs.read(last, handle, 0, 10) == b"data"
    assert share.load("1098") == b"data"
    assert share.names() == names
    share.bucket.clear()


def test_a_server_that_is_started_again_is_waited_for(
    share: FaultyShare, proxy: FaultProxy
) -> None:
    share.bucket.put("file", b"data")
    nodeid, fh = share.make("new", b"new")
    proxy.down()
    threading.Timer(0.6, proxy.up).start()
    began = time.monotonic()
    share.close(nodeid, fh)
    assert time.monotonic() - began > 0.5
    assert share.load("file") == b"data"
    assert share.bucket.get("new") == b"new"


def test_a_directory_is_stored_before_what_is_in_it(
    seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str
) -> None:
    """Nobody sees an orphan, and a service that loses a marker in company gets it alone."""
    options = (*FRESH, "--upload", "background", "--upload-delay", "0")
    with FaultyShare(seaweed, proxy, bucket_root, *options) as share:
        with proxy.fault(Delay(1.0), method="PUT", target="/outer/(inner/)?$") as rule:
            outer = share.fs.mkdir(ROOT_ID, b"outer").nodeid
            inner = share.fs.mkdir(outer, b"inner").nodeid
            entry, opened = share.fs.create(inner, b"file")
            share.write(entry.nodeid, opened.fh, b"data")
            share.close(entry.nodeid, opened.fh)
            rule.wait_hit(1)
            seen: list[list[str]] = []
            while len(seen) < 2 or len(seen[-1]) < len(ORDER):
                seen.append(sorted(share.bucket.keys(), key=len))
                time.sleep(0.05)
        assert all(keys == ORDER[: len(keys)] for keys in seen), seen
