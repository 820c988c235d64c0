# SPDX-License-Identifier: Apache-2.0
"""A service that fails, is slow, or is not there; and secrets, which are told to nobody."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from errno import EACCES, ENOSPC
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.fake_s3 import FakeS3, Fault, failing
from tests.services.ports import free_ports
from tests.vmm.daemon import ROOT

if TYPE_CHECKING:
    from tests.semantics.remote.fake_s3 import Call
    from tests.semantics.remote.share import RemoteShare
    from tests.services.seaweed import SeaweedFS

MIB = 1 << 20
WRONG = "no-such-secret"


@pytest.mark.promise("r-fail-1")
@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_fails_for_a_while_is_tried_again(
    fake: FakeS3, fake_share: RemoteShare, status: int
) -> None:
    scene = fake_share.scene()
    fake.fault = failing("PUT", status=status, times=2)
    scene.save("file", b"data")
    assert scene.get("file") == b"data"
    fake.put("other", b"other")
    fake.fault = failing("GET", "HEAD", "LIST", status=status, times=2)
    nodeid = fake_share.fs.lookup(1, b"other").nodeid or _later(fake_share, b"other")
    fh = fake_share.fs.open(nodeid).fh
    assert fake_share.fs.read(nodeid, fh, 0, 10) == b"other"


def _later(share: RemoteShare, name: bytes) -> int:
    time.sleep(1.1)
    return share.fs.lookup(1, name).nodeid


@pytest.mark.promise("r-fail-1")
@pytest.mark.parametrize(("status", "error"), [(403, EACCES), (507, ENOSPC)])
def test_what_no_trying_helps_is_an_error_at_once(
    fake: FakeS3, fake_share: RemoteShare, status: int, error: int
) -> None:
    scene = fake_share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    fake.fault = failing("PUT", status=status)
    start = time.monotonic()
    with pytest.raises(OSError, match="opcode 25") as caught:
        scene.fs.flush(nodeid, fh)
    assert caught.value.errno == error
    assert time.monotonic() - start < 3


@pytest.mark.promise("r-fail-1")
def test_a_body_that_is_cut_short(fake: FakeS3, fake_share: RemoteShare) -> None:
    """Connections that break while data comes are no end of the file."""
    data = os.urandom(MIB)
    fake.put("file", data)
    nodeid = fake_share.fs.lookup(1, b"file").nodeid or _later(fake_share, b"file")
    lost: list[Call] = []

    def drop(call: Call) -> Fault | None:
        if call.kind != "GET" or len(lost) >= 2:
            return None
        lost.append(call)
        return Fault(drop=True)

    fake.fault = drop
    fh = fake_share.fs.open(nodeid).fh
    assert fake_share.fs.read(nodeid, fh, 0, MIB) == data
    assert lost


@pytest.mark.promise("r-fail-2")
def test_a_slow_object_holds_up_nothing(fake: FakeS3, fake_share: RemoteShare) -> None:
    """All on one queue: listing, making, reading while one object does not come."""
    scene = fake_share.scene()
    scene.save("quick", b"quick")
    fake.put(f"{scene.prefix}slow", bytes(MIB))
    nodeid = scene.node("slow") or _later_in(scene.top, fake_share)
    held = threading.Event()
    fake.fault = lambda call: Fault(hold=held) if call.key.endswith("slow") else None
    try:
        fh = scene.fs.submit(14, nodeid, bytes(8), 16)
        pending = [fh]
        start = time.monotonic()
        assert scene.names() == ["quick", "slow"]
        assert scene.load("quick") == b"quick"
        scene.save("made", b"made")
        scene.fs.mkdir(scene.top, b"dir")
        scene.fs.rename(scene.top, b"made", scene.node("dir"), b"moved")
        assert scene.get("dir/moved") == b"made"
        assert time.monotonic() - start < 5
    finally:
        held.set()
    for one in pending:
        scene.fs.wait(one)


def _later_in(top: int, share: RemoteShare) -> int:
    time.sleep(1.1)
    return share.fs.lookup(top, b"slow").nodeid


@pytest.mark.promise("r-fail-2")
def test_a_slow_upload_holds_up_nothing(fake: FakeS3, fake_share: RemoteShare) -> None:
    scene = fake_share.scene()
    scene.save("quick", b"quick")
    nodeid, fh = scene.make("slow")
    scene.write(nodeid, fh, 0, b"data")
    held = threading.Event()
    fake.fault = lambda call: Fault(hold=held) if call.key.endswith("slow") else None
    try:
        pending = scene.fs.submit(25, nodeid, fh.to_bytes(8, "little") + bytes(16))
        start = time.monotonic()
        assert scene.read(nodeid, fh) == b"data"
        scene.save("made", b"made")
        assert scene.load("quick") == b"quick"
        assert scene.names() == ["made", "quick", "slow"]
        assert time.monotonic() - start < 5
    finally:
        held.set()
    scene.fs.wait(pending)
    assert scene.get("slow") == b"data"


@pytest.mark.promise("r-fail-3")
@pytest.mark.parametrize("size", [4, 24 * MIB])
def test_after_an_error_the_data_is_here(fake: FakeS3, fake_share: RemoteShare, size: int) -> None:
    scene = fake_share.scene()
    data = os.urandom(size)
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, data)
    fake.fault = failing("PUT", "START", "PART", "COMPLETE")
    for _ in range(2):
        with pytest.raises(PermissionError):
            scene.fs.flush(nodeid, fh)
        with pytest.raises(PermissionError):
            scene.fs.fsync(nodeid, fh)
    assert scene.read(nodeid, fh) == data
    fake.fault = lambda _call: None
    scene.fs.fsync(nodeid, fh)
    assert scene.get("file") == data
    scene.close(nodeid, fh)


@pytest.mark.promise("r-fail-3")
def test_also_after_the_handle_is_gone(fake: FakeS3, fake_share: RemoteShare) -> None:
    scene = fake_share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    fake.fault = failing("PUT")
    with pytest.raises(PermissionError):
        scene.close(nodeid, fh)
    fake.fault = lambda _call: None
    # RELEASE has tried once more, and this is the first to be told of it.
    with contextlib.suppress(PermissionError):
        scene.fs.release(nodeid, scene.fs.open(nodeid, os.O_RDONLY).fh)
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    assert scene.read(nodeid, fh) == b"data"
    scene.fs.fsync(nodeid, fh)
    assert scene.get("file") == b"data"


def started(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A start that should fail."""
    command = [sys.executable, "-m", "ovfs", *options, f"/tmp/ovfs-never-{os.getpid()}.sock", url]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.promise("r-fail-4")
@pytest.mark.promise("r-secret-1")
@pytest.mark.parametrize("wrong", ["bucket", "key", "secret", "endpoint"])
def test_what_cannot_be_is_found_at_start(seaweed: SeaweedFS, wrong: str) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    url = {
        "bucket": seaweed.url(bucket="no-such-bucket"),
        "key": seaweed.url(access_key_id="no-such-key"),
        "secret": seaweed.url(secret_access_key=WRONG),
        "endpoint": seaweed.url(endpoint=nowhere),
    }[wrong]
    ended = started(url)
    assert ended.returncode == 2
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    for secret in (seaweed.secret_key, WRONG):
        assert secret not in ended.stderr + ended.stdout


@pytest.mark.promise("r-secret-1")
def test_secrets_are_not_told(fake: FakeS3, fake_share: RemoteShare) -> None:
    """With errors of every kind in between."""
    scene = fake_share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    fake.fault = failing("PUT", "LIST", "HEAD", status=403)
    with pytest.raises(PermissionError):
        scene.fs.flush(nodeid, fh)
    time.sleep(1.1)
    with pytest.raises(PermissionError):
        fake_share.fs.lookup(1, b"nothing")
    fake_share.daemon.process.send_signal(10)  # SIGUSR1: the counters
    fake.fault = lambda _call: None
    scene.close(nodeid, fh)
    assert fake_share.stop() == 0
    assert "fake-secret" not in fake_share.log()
    for path in fake_share.cache_dir.rglob("*"):
        assert not path.is_file() or b"fake-secret" not in path.read_bytes(), path
