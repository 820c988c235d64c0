# SPDX-License-Identifier: Apache-2.0
"""The service has done it and nobody was told: no error where there is none, no race that was none.

An object names the upload that made it. So a condition that fails because an earlier request of
ours had arrived is told from one that another writer made fail.
"""

from __future__ import annotations

import os
from errno import EIO, ESTALE
from typing import TYPE_CHECKING

import pytest

from tests.remote.faulty import FRESH, FaultyShare, eventually, fails_with
from tests.services.faults import DropResponse, Hang, Status

if TYPE_CHECKING:
    from tests.services.fault_proxy import FaultProxy
    from tests.services.seaweed import SeaweedFS

pytestmark = pytest.mark.slow

MIB = 1 << 20
SIZES = [1000, 9 * MIB]
#: What makes an object, as a rule's target, of one request or of many.
MAKING = r"/file($|\?uploadId)"


def check_nobody_raced(share: FaultyShare) -> None:
    """No race was seen."""
    assert share.conflicts() == []
    assert "another writer" not in share.log()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "replaced"])
def test_when_all_answers_were_lost_the_next_fsync_succeeds(
    share: FaultyShare, proxy: FaultProxy, size: int, before: bytes | None
) -> None:
    """The first fsync cannot know and is EIO, though the object is there."""
    if before is not None:
        share.bucket.put("file", before)
    first, second = os.urandom(size), os.urandom(100)
    nodeid, fh = share.make("file", first)
    with proxy.fault(DropResponse(), method="PUT|POST", target=MAKING):
        fails_with(EIO, lambda: share.fs.fsync(nodeid, fh, timeout=60.0))
    assert share.bucket.get("file") == first
    share.write(nodeid, fh, second)
    share.close(nodeid, fh)
    assert share.bucket.get("file") == second + first[100:]
    assert share.load("file") == second + first[100:]
    check_nobody_raced(share)


def test_the_queue_does_not_take_itself_for_another_writer(
    share: FaultyShare, proxy: FaultProxy
) -> None:
    share.bucket.put("file", b"old")
    data = os.urandom(1000)
    nodeid, fh = share.make("file", data)
    with proxy.fault(DropResponse(), method="PUT|POST", target=MAKING):
        fails_with(EIO, lambda: share.close(nodeid, fh))
    eventually(lambda: share.owed() == 0)
    assert share.load("file") == data
    assert share.bucket.get("file") == data
    check_nobody_raced(share)


@pytest.mark.parametrize(
    ("upload", "size"), [("durable", 1000), ("background", 1000), ("background", 9 * MIB)]
)
def test_a_daemon_that_was_killed_before_the_answer(
    seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str, size: int, upload: str
) -> None:
    """The next one finds what the first had stored, and takes it for what it is."""
    old, new = b"old", os.urandom(size)
    with FaultyShare(seaweed, proxy, bucket_root, *FRESH, "--upload", upload) as share:
        share.bucket.put("file", old)
        nodeid, fh = share.make("file", new)
        with proxy.fault(Hang(forwarded=True), method="PUT|POST", target=MAKING):
            if upload == "durable":
                fails_with(EIO, lambda: share.close(nodeid, fh))
            else:
                share.close(nodeid, fh)
            eventually(lambda: share.bucket.get("file") == new)
            share.kill()
        share.start()
        eventually(lambda: share.owed() == 0)
        assert share.load("file") == new
        assert share.bucket.get("file") == new
        check_nobody_raced(share)


def test_an_upload_that_is_ended_twice(share: FaultyShare, proxy: FaultProxy) -> None:
    """Its end takes effect, the answer is lost, and the next try finds no upload to end."""
    data = os.urandom(9 * MIB)
    proxy.add(DropResponse(), method="POST", target="uploadId=", times=1)
    proxy.add(Status(404, "NoSuchUpload"), method="POST", target="uploadId=", times=1)
    share.save("file", data)
    assert share.bucket.get("file") == data
    assert share.load("file") == data
    check_nobody_raced(share)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "replaced"])
@pytest.mark.parametrize("fault", [Status(412), Status(404)], ids=["412", "404"])
def test_a_refusal_without_a_reason_is_no_race(
    share: FaultyShare, proxy: FaultProxy, fault: Status, before: bytes | None, size: int
) -> None:
    """Where the object is what it was, nobody was quicker: an error, and all is kept."""
    if before is not None:
        share.bucket.put("file", before)
    data = os.urandom(size)
    nodeid, fh = share.make("file", data)
    with proxy.fault(fault, method="PUT|POST", target=MAKING):
        fails_with(EIO, lambda: share.fs.fsync(nodeid, fh))
        assert share.read(nodeid, fh) == data
    share.close(nodeid, fh)
    assert share.bucket.get("file") == data
    check_nobody_raced(share)


def test_a_writer_between_the_lost_answer_and_the_next_try(
    share: FaultyShare, proxy: FaultProxy
) -> None:
    share.bucket.put("file", b"old")
    nodeid, fh = share.make("file", b"mine")
    with proxy.fault(DropResponse(), method="PUT", target=MAKING):
        fails_with(EIO, lambda: share.fs.fsync(nodeid, fh))
    share.bucket.put("file", b"theirs")
    fails_with(ESTALE, lambda: share.fs.fsync(nodeid, fh))
    assert share.bucket.get("file") == b"theirs"
    assert share.conflicts() == [b"mine"]


@pytest.fixture
def unlearnt(share: FaultyShare, proxy: FaultProxy) -> tuple[int, int]:
    """A file that was just stored, without the daemon being able to learn as which version."""
    share.bucket.put("file", b"old")
    nodeid, fh = share.make("file", b"first")
    with proxy.fault(Status(500), method="HEAD", target="/file$"):
        share.fs.fsync(nodeid, fh)
        eventually(lambda: "version of file" in share.log())
    return nodeid, fh


def test_a_version_that_was_not_learnt_is_replaced(
    share: FaultyShare, unlearnt: tuple[int, int]
) -> None:
    share.write(*unlearnt, b"newer")
    share.close(*unlearnt)
    assert share.bucket.get("file") == b"newer"
    assert share.load("file") == b"newer"
    check_nobody_raced(share)


def test_a_version_that_was_not_learnt_guards_other_writers(
    share: FaultyShare, unlearnt: tuple[int, int]
) -> None:
    share.bucket.put("file", b"theirs")
    share.write(*unlearnt, b"mine!")
    fails_with(ESTALE, lambda: share.fs.fsync(*unlearnt))
    assert share.bucket.get("file") == b"theirs"
    assert share.conflicts() == [b"mine!"]


def test_a_writer_just_after_it_was_stored(share: FaultyShare, proxy: FaultProxy) -> None:
    """It is met when the version is to be learnt, and what is known here is then no longer so."""
    share.bucket.put("file", b"old")
    nodeid, fh = share.make("file", b"first")
    reader = share.fs.open(nodeid, os.O_RDONLY).fh
    with proxy.fault(Hang(), method="HEAD", target="/file$", times=1) as rule:
        share.close(nodeid, fh)
        rule.wait_hit()
        share.bucket.put("file", b"theirs, longer")
    eventually(lambda: share.fs.getattr(nodeid).attr.size == 14, timeout=5.0)
    assert share.load("file") == b"theirs, longer"
    fails_with(ESTALE, lambda: share.fs.read(nodeid, reader, 0, 100))
    assert share.conflicts() == []


def test_handles_outlive_a_version_that_was_not_learnt(
    share: FaultyShare, proxy: FaultProxy
) -> None:
    """Nobody else wrote, so nobody's handle is stale."""
    share.bucket.put("file", b"old")
    nodeid, fh = share.make("file", b"first")
    reader = share.fs.open(nodeid, os.O_RDONLY).fh
    with proxy.fault(Status(500), method="HEAD", target="/file$"):
        share.close(nodeid, fh)
        eventually(lambda: "version of file" in share.log())
    assert share.names() == ["file"]
    assert share.fs.getattr(nodeid).attr.size == 5
    assert share.fs.read(nodeid, reader, 0, 100) == b"first"
    assert share.load("file") == b"first"
    check_nobody_raced(share)
