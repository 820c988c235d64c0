# SPDX-License-Identifier: Apache-2.0
"""What is on the service when a request is answered, and what the end of the daemon does."""

from __future__ import annotations

import os
import signal
import time
from errno import EACCES
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.fake_s3 import Fault, failing
from tests.semantics.remote.share import eventually

if TYPE_CHECKING:
    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import Call, FakeS3
    from tests.semantics.remote.scene import Scene
    from tests.semantics.remote.share import RemoteShare

MIB = 1 << 20


@pytest.mark.promise("r-flush-1")
@pytest.mark.parametrize("size", [0, 10, MIB + 1, 20 * MIB])
def test_a_close_has_stored(scene: Scene, size: int) -> None:
    data = os.urandom(size)
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, data)
    scene.fs.flush(nodeid, fh)
    assert scene.get("file") == data
    assert scene.meta("file")["mode"] == str(0o100644)
    scene.fs.release(nodeid, fh)


@pytest.mark.promise("r-flush-1")
def test_a_close_tells_the_error(fake: FakeS3, fake_share: RemoteShare) -> None:
    scene = fake_share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    fake.fault = failing("PUT", "START", "PART", "COMPLETE")
    with pytest.raises(PermissionError):
        scene.fs.flush(nodeid, fh)
    assert scene.stored() == []


@pytest.mark.promise("r-fsync-1")
@pytest.mark.parametrize("datasync", [False, True])
@pytest.mark.parametrize("through", ["writer", "reader"])
def test_fsync_has_stored(scene: Scene, through: str, datasync: bool) -> None:
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"first")
    scene.fs.fsync(nodeid, fh, datasync=datasync)
    assert scene.get("file") == b"first"
    scene.write(nodeid, fh, 5, b" and second")
    handle = fh if through == "writer" else scene.fs.open(nodeid, os.O_RDONLY).fh
    scene.fs.fsync(nodeid, handle, datasync=datasync, queue=2)
    assert scene.get("file") == b"first and second"


@pytest.mark.promise("r-fsync-2")
def test_nothing_new_costs_nothing(fake: FakeS3, fake_share: RemoteShare) -> None:
    scene = fake_share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    scene.fs.fsync(nodeid, fh)
    reader = scene.fs.open(nodeid, os.O_RDONLY).fh
    time.sleep(0.5)  # until our own upload's etag has been asked for
    before = len(fake.calls)
    for _ in range(5):
        scene.fs.fsync(nodeid, fh)
        scene.fs.flush(nodeid, fh)
        scene.fs.fsync(nodeid, reader)
        scene.fs.flush(nodeid, reader)
    assert len(fake.calls) == before


@pytest.mark.promise("r-fsync-3")
def test_syncfs_has_stored_all(scene: Scene) -> None:
    handles = [scene.make(f"file-{number}") for number in range(5)]
    for nodeid, fh in handles:
        scene.write(nodeid, fh, 0, b"%d" % nodeid)
    scene.fs.syncfs()
    for number, (nodeid, _) in enumerate(handles):
        assert scene.get(f"file-{number}") == b"%d" % nodeid


@pytest.mark.promise("r-fsync-3")
def test_names_are_on_the_service_when_answered(scene: Scene) -> None:
    made = scene.fs.mkdir(scene.top, b"dir").nodeid
    assert scene.stored() == ["dir/"]
    scene.fs.symlink(made, b"link", b"target")
    assert scene.get("dir/link") == b"target"
    scene.fs.mknod(made, b"node", 0o100644)
    assert scene.stored() == ["dir/", "dir/link", "dir/node"]
    scene.fs.rename(made, b"node", scene.top, b"moved")
    assert scene.stored() == ["dir/", "dir/link", "moved"]
    fh = scene.fs.opendir(made).fh
    scene.fs.fsyncdir(made, fh)
    scene.fs.unlink(made, b"link")
    scene.fs.rmdir(scene.top, b"dir")
    assert scene.stored() == ["moved"]


@pytest.mark.promise("r-late-1")
def test_what_is_written_after_the_last_flush(scene: Scene) -> None:
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"early")
    scene.fs.flush(nodeid, fh)
    scene.write(nodeid, fh, 0, b"later")
    scene.fs.release(nodeid, fh)
    eventually(lambda: scene.get("file") == b"later")


@pytest.mark.promise("r-late-1")
@pytest.mark.parametrize("told", ["open", "fsync"])
def test_an_error_after_the_last_close_is_told(
    fake: FakeS3, fake_share: RemoteShare, told: str
) -> None:
    scene = fake_share.scene()
    nodeid, fh = scene.make("file")
    reader = scene.fs.open(nodeid, os.O_RDONLY).fh
    scene.write(nodeid, fh, 0, b"early")
    scene.fs.flush(nodeid, fh)
    scene.write(nodeid, fh, 0, b"later")
    fake.fault = failing("PUT")
    puts = fake.count("PUT")
    scene.fs.release(nodeid, fh)
    eventually(lambda: fake.count("PUT") > puts)
    eventually(lambda: f"{scene.prefix}file" in scene.share.log())
    if told == "open":
        with pytest.raises(PermissionError):
            scene.fs.open(nodeid, os.O_RDONLY)
    else:
        with pytest.raises(PermissionError):
            scene.fs.fsync(nodeid, reader)
    assert scene.get("file") == b"early"
    fake.fault = lambda _call: None
    assert scene.load("file") == b"later"
    scene.fs.fsync(nodeid, reader)
    eventually(lambda: scene.get("file") == b"later")


@pytest.mark.promise("r-end-1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_daemon_has_stored(make_share: MakeShare, number: signal.Signals) -> None:
    share = make_share()
    scene = share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    scene.fs.setattr(scene.save("other", b"1"), mode=0o600)
    assert share.stop(number) == 0
    assert scene.get("file") == b"data"
    assert scene.meta("other")["mode"] == str(0o100600)


@pytest.mark.promise("r-kill-1")
def test_a_kill_leaves_whole_versions(make_share: MakeShare) -> None:
    """Killed in the middle of a write, an upload, and after an acknowledged one."""
    share = make_share()
    scene = share.scene()
    scene.save("kept", b"old")
    scene.save("closed", b"closed")
    old, new = b"o" * (12 * MIB), b"n" * (12 * MIB)
    scene.save("large", old)
    nodeid, fh = scene.open("kept")
    scene.write(nodeid, fh, 0, b"new and not closed")
    nodeid, fh = scene.open("large", os.O_RDWR | os.O_TRUNC)
    scene.write(nodeid, fh, 0, new)
    scene.fs.submit(25, nodeid, fh.to_bytes(8, "little") + bytes(16))
    share.kill()
    assert scene.get("kept") == b"old"
    assert scene.get("closed") == b"closed"
    assert scene.get("large") in {old, new}


@pytest.mark.promise("r-kill-1")
@pytest.mark.parametrize("kind", ["START", "PART", "COMPLETE"])
def test_a_kill_within_an_upload(fake: FakeS3, make_fake_share: MakeShare, kind: str) -> None:
    share = make_fake_share()
    scene = share.scene()
    scene.save("large", b"old")
    seen: list[Call] = []

    def lose(call: Call) -> Fault | None:
        if call.kind != kind:
            return None
        seen.append(call)
        return Fault(status=503)

    fake.fault = lose
    nodeid, fh = scene.open("large", os.O_RDWR | os.O_TRUNC)
    scene.write(nodeid, fh, 0, bytes(24 * MIB))
    scene.fs.submit(25, nodeid, fh.to_bytes(8, "little") + bytes(16))
    eventually(lambda: seen)
    share.kill()
    assert scene.get("large") == b"old"


@pytest.mark.promise("r-atomic-2")
@pytest.mark.parametrize("kind", ["START", "PART", "COMPLETE"])
def test_an_upload_that_fails_leaves_the_old(
    fake: FakeS3, fake_share: RemoteShare, kind: str
) -> None:
    scene = fake_share.scene()
    scene.save("large", b"old")
    fake.fault = failing(kind)
    nodeid, fh = scene.open("large", os.O_RDWR | os.O_TRUNC)
    scene.write(nodeid, fh, 0, bytes(24 * MIB))
    with pytest.raises(OSError, match="opcode 25") as caught:
        scene.fs.flush(nodeid, fh)
    assert caught.value.errno == EACCES
    assert scene.get("large") == b"old"
    fake.fault = lambda _call: None
    scene.close(nodeid, fh)
    assert scene.get("large") == bytes(24 * MIB)
