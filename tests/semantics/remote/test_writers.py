# SPDX-License-Identifier: Apache-2.0
"""Objects are replaced whole, and only by whoever knows the version that is there."""

from __future__ import annotations

import os
import threading
from errno import ESTALE
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.fake_s3 import FakeS3, Fault
from tests.semantics.remote.share import RemoteShare

if TYPE_CHECKING:
    from pathlib import Path

    from tests.semantics.remote.fake_s3 import Call
    from tests.semantics.remote.scene import Scene

MIB = 1 << 20


def conflicts(share: RemoteShare) -> list[Path]:
    """The files that losers left."""
    return sorted((share.cache_dir / "v1/conflicts").rglob("*"))


def close_stale(scene: Scene, nodeid: int, fh: int) -> None:
    """A FLUSH that loses."""
    with pytest.raises(OSError, match="Stale") as caught:
        scene.fs.flush(nodeid, fh)
    assert caught.value.errno == ESTALE


@pytest.mark.promise("r-atomic-1")
@pytest.mark.parametrize("size", [1000, 12 * MIB])
def test_elsewhere_the_old_or_the_new(scene: Scene, size: int) -> None:
    """A reader in a loop while the file is replaced four times."""
    versions = {bytes([number]) * size for number in range(5)}
    scene.save("file", bytes(size))
    seen: list[bytes] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(scene.get("file"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(1, 5):
            scene.save("file", bytes([number]) * size)
    finally:
        done.set()
        watcher.join()
    assert set(seen) <= versions
    assert scene.get("file") == bytes([4]) * size


@pytest.mark.promise("r-atomic-1")
def test_one_put_or_one_completion(fake: FakeS3, fake_share: RemoteShare) -> None:
    scene = fake_share.scene()
    fake.calls.clear()
    scene.save("small", b"data")
    assert fake.count("PUT", "COPY", "DELETE", "START") == 1
    scene.save("large", bytes(24 * MIB))
    assert (fake.count("PUT"), fake.count("START"), fake.count("COMPLETE")) == (1, 1, 1)


@pytest.mark.promise("r-race-1")
@pytest.mark.promise("r-race-2")
@pytest.mark.parametrize("size", [1000, 12 * MIB])
def test_the_second_writer_loses(scene: Scene, size: int) -> None:
    scene.save("file", b"old")
    nodeid, fh = scene.open("file")
    mine = os.urandom(size)
    scene.write(nodeid, fh, 0, mine)
    scene.put("file", b"theirs")
    before = conflicts(scene.share)
    close_stale(scene, nodeid, fh)
    assert scene.get("file") == b"theirs"
    (kept,) = set(conflicts(scene.share)) - set(before)
    assert kept.read_bytes() == mine
    assert kept.name in scene.share.log()


@pytest.mark.promise("r-race-1")
def test_fsync_loses_as_well(scene: Scene) -> None:
    scene.save("file", b"old")
    nodeid, fh = scene.open("file")
    scene.write(nodeid, fh, 0, b"m")
    scene.put("file", b"theirs")
    with pytest.raises(OSError, match="Stale"):
        scene.fs.fsync(nodeid, fh)
    assert scene.get("file") == b"theirs"


@pytest.mark.promise("r-race-1")
@pytest.mark.promise("r-create-2")
def test_two_that_make_the_same_file(scene: Scene) -> None:
    nodeid, fh = scene.make("file", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    scene.write(nodeid, fh, 0, b"mine")
    scene.put("file", b"theirs")
    close_stale(scene, nodeid, fh)
    assert scene.get("file") == b"theirs"
    assert b"mine" in [path.read_bytes() for path in conflicts(scene.share)]


@pytest.mark.promise("r-race-1")
def test_a_file_that_was_deleted_elsewhere(scene: Scene) -> None:
    """There is no version left to replace: what was opened is gone."""
    scene.save("file", b"old")
    nodeid, fh = scene.open("file")
    scene.write(nodeid, fh, 0, b"mine")
    scene.delete("file")
    close_stale(scene, nodeid, fh)
    assert scene.stored() == []
    assert b"mine" in [path.read_bytes() for path in conflicts(scene.share)]


@pytest.mark.promise("r-race-3")
def test_after_the_loss(fresh: Scene) -> None:
    fresh.save("file", b"old")
    nodeid, fh = fresh.open("file")
    fresh.write(nodeid, fh, 0, b"mine")
    fresh.put("file", b"theirs")
    close_stale(fresh, nodeid, fh)
    for request in (
        lambda: fresh.fs.read(nodeid, fh, 0, 10),
        lambda: fresh.fs.write(nodeid, fh, 0, b"again"),
        lambda: fresh.fs.flush(nodeid, fh),
        lambda: fresh.fs.fsync(nodeid, fh),
    ):
        with pytest.raises(OSError, match="Stale"):
            request()
    new = fresh.fs.open(nodeid, os.O_RDWR).fh
    assert fresh.read(nodeid, new) == b"theirs"
    fresh.fs.release(nodeid, fh)
    fresh.write(nodeid, new, 6, b" and mine")
    fresh.close(nodeid, new)
    assert fresh.get("file") == b"theirs and mine"


@pytest.mark.promise("r-race-4")
def test_where_conditions_are_not_honoured() -> None:
    with FakeS3(conditions=False) as fake, RemoteShare(fake.url(), fake) as share:
        assert "condition" in share.log()
        scene = share.scene()
        scene.save("file", b"old")
        nodeid, fh = scene.open("file")
        scene.write(nodeid, fh, 0, b"mine")
        scene.put("file", b"theirs")
        close_stale(scene, nodeid, fh)
        assert scene.get("file") == b"theirs"
        made, made_fh = scene.make("new")
        scene.write(made, made_fh, 0, b"mine")
        scene.put("new", b"theirs")
        close_stale(scene, made, made_fh)
        assert scene.get("new") == b"theirs"
        scene.save("other", b"alone")
        scene.save("other", b"alone again")
        assert scene.get("other") == b"alone again"


@pytest.mark.promise("r-race-5")
@pytest.mark.parametrize("first", [0, 1])
def test_handles_of_one_guest_are_one_writer(scene: Scene, first: int) -> None:
    scene.save("file", b"0123456789")
    nodeid, one = scene.open("file")
    handles = [one, scene.fs.open(nodeid, os.O_WRONLY).fh]
    scene.write(nodeid, handles[0], 0, b"A")
    scene.write(nodeid, handles[1], 9, b"B")
    scene.close(nodeid, handles[first])
    assert scene.get("file") == b"A12345678B"
    scene.write(nodeid, handles[1 - first], 5, b"C")
    scene.close(nodeid, handles[1 - first])
    assert scene.get("file") == b"A1234C678B"


@pytest.mark.promise("r-race-6")
@pytest.mark.parametrize("size", [100, 24 * MIB])
def test_a_lost_answer_is_no_lost_race(fake: FakeS3, fake_share: RemoteShare, size: int) -> None:
    """The service does it and hangs up; the request that follows meets its own result."""
    scene = fake_share.scene()
    scene.save("file", b"old")
    lost: list[Call] = []

    def lose(call: Call) -> Fault | None:
        if call.kind not in {"PUT", "COMPLETE"} or lost or not call.key.endswith("file"):
            return None
        lost.append(call)
        return Fault(drop=True, done=True)

    fake.fault = lose
    data = os.urandom(size)
    scene.save("file", data)
    assert lost
    assert scene.get("file") == data
    assert conflicts(fake_share) == []
    scene.save("file", b"and goes on")
    assert scene.get("file") == b"and goes on"
