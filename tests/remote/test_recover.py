# SPDX-License-Identifier: Apache-2.0
"""What is taken up after a kill whose moment is chosen: between the service's doing and our noting.

The service stores an upload and its answer never comes; then the daemon is killed. The journal
still says that the file is owed, under a condition that no longer holds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.operations.share import Guest
from tests.remote.ovfs_tool import drain
from tests.semantics.remote.fake_s3 import Fault
from tests.semantics.remote.share import RemoteShare, eventually
from tests.vmm.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import Call, FakeS3
    from tests.semantics.remote.scene import Scene

BACKGROUND: Final = ("--upload", "background", "--upload-delay", "1")
MIB: Final = 1 << 20


class Silence:
    """A server that does what it is asked, and answers no more."""

    def __init__(self, fake: FakeS3, *kinds: str) -> None:
        self._fake = fake
        self._kinds = kinds
        self._over = threading.Event()
        self.done = 0

    def begin(self) -> None:
        """From now on."""
        self._fake.fault = self._answer

    def end(self) -> None:
        """It answers again."""
        self._fake.fault = lambda _call: None
        self._over.set()

    def _answer(self, call: Call) -> Fault | None:
        if call.kind not in self._kinds:
            return None
        self._fake.answer(call)
        self.done += 1
        return Fault(hold=self._over, drop=True)


class CoarseShare(RemoteShare):
    """A daemon whose cache directory's file system does not tell holes."""

    def _start(self) -> None:
        command = (sys.executable, "-m", "tests.remote.coarse", "{socket}", "{dir}")
        self.daemon = self._stack.enter_context(
            Daemon.start(self._url, command=command, options=self._options)
        )
        self.guest = self._stack.enter_context(Guest(self.daemon))


@pytest.fixture
def silence(fake: FakeS3) -> Iterator[Silence]:
    """Of the requests that store something."""
    made = Silence(fake, "PUT", "COMPLETE")
    yield made
    made.end()


@pytest.fixture
def share(make_fake_share: MakeShare) -> RemoteShare:
    """A daemon in background mode."""
    return make_fake_share(*BACKGROUND)


@pytest.fixture
def scene(share: RemoteShare) -> Scene:
    """A directory that is stored."""
    made = share.scene()
    assert drain(share.cache_dir) == (0, "")
    return made


def restart(share: RemoteShare, silence: Silence) -> None:
    """Kills the daemon, has the service answer again, and another daemon store what is owed."""
    share.kill()
    silence.end()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")


def conflicts(share: RemoteShare) -> list[bytes]:
    """What was kept of lost races."""
    return [path.read_bytes() for path in sorted((share.cache_dir / "v1/conflicts").iterdir())]


@pytest.mark.parametrize("size", [5, 20 * MIB])
def test_stored_and_not_noted(
    share: RemoteShare, scene: Scene, silence: Silence, size: int
) -> None:
    data = os.urandom(size)
    silence.begin()
    scene.save("file", data)
    eventually(lambda: silence.done)
    restart(share, silence)
    assert scene.get("file") == data
    assert conflicts(share) == []


def test_stored_and_not_noted_and_written_again(
    share: RemoteShare, scene: Scene, silence: Silence
) -> None:
    silence.begin()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"first")
    scene.fs.flush(nodeid, fh)
    eventually(lambda: silence.done)
    scene.write(nodeid, fh, 5, b" and second")
    scene.fs.flush(nodeid, fh)
    restart(share, silence)
    assert scene.get("file") == b"first and second"
    assert conflicts(share) == []


def test_the_same_with_what_the_object_had_before(
    fake: FakeS3, share: RemoteShare, scene: Scene, silence: Silence
) -> None:
    """The bytes that were never fetched are those of the version that has gone."""
    data = bytearray(os.urandom(3 * MIB))
    scene.put("file", bytes(data))
    eventually(lambda: scene.node("file"))
    nodeid, fh = scene.open("file")
    silence.begin()
    scene.write(nodeid, fh, 1 * MIB, b"first")
    data[1 * MIB : 1 * MIB + 5] = b"first"
    scene.fs.flush(nodeid, fh)
    eventually(lambda: silence.done)
    assert scene.get("file") == data
    scene.write(nodeid, fh, 2 * MIB, b"second")
    data[2 * MIB : 2 * MIB + 6] = b"second"
    scene.fs.flush(nodeid, fh)
    restart(share, silence)
    assert scene.get("file") == data
    assert conflicts(share) == []


def test_stored_and_then_replaced_by_another_writer(
    share: RemoteShare, scene: Scene, silence: Silence
) -> None:
    silence.begin()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"first")
    scene.fs.flush(nodeid, fh)
    eventually(lambda: silence.done)
    scene.write(nodeid, fh, 0, b"again")
    scene.fs.flush(nodeid, fh)
    scene.put("file", b"another's")
    restart(share, silence)
    assert scene.get("file") == b"another's"
    assert conflicts(share) == [b"again"]


def test_a_mode_that_was_stored_and_not_noted_and_changed_again(
    share: RemoteShare, scene: Scene, silence: Silence
) -> None:
    nodeid = scene.save("file", b"data")
    assert drain(share.cache_dir) == (0, "")
    scene.put("file", b"data", {"mode": str(0o100644)})
    share.kill()
    share.start_again()
    scene.again()
    nodeid = scene.node("file")
    silence.begin()
    scene.fs.setattr(nodeid, mode=0o600)
    eventually(lambda: silence.done)
    scene.fs.setattr(nodeid, mode=0o640)
    restart(share, silence)
    assert scene.get("file") == b"data"
    assert scene.meta("file")["mode"] == str(0o100640)


@pytest.mark.parametrize("mode", ["durable", "background"])
def test_a_mode_changed_just_after_the_file_was_stored(
    fake: FakeS3, make_fake_share: MakeShare, mode: str
) -> None:
    """Its version is not known then: that takes another request."""
    share = make_fake_share("--upload", mode)
    scene = share.scene()
    held = threading.Event()
    name = f"{scene.prefix}file"
    fake.fault = lambda call: (
        Fault(hold=held)
        if call.kind == "HEAD" and call.key == name and name in fake.objects
        else None
    )
    try:
        nodeid = scene.save("file", b"data")
        eventually(lambda: name in fake.objects)
        scene.fs.setattr(nodeid, mode=0o600)
        share.kill()
    finally:
        fake.fault = lambda _call: None
        held.set()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert scene.get("file") == b"data"
    assert scene.meta("file")["mode"] == str(0o100600)


@pytest.mark.parametrize("size", [3, 3000])
def test_a_mode_changed_while_another_size_was_stored(
    make_fake_share: MakeShare, silence: Silence, size: int
) -> None:
    share = make_fake_share()
    scene = share.scene()
    scene.save("file", b"0123456789")
    nodeid, fh = scene.make("file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    scene.write(nodeid, fh, 0, bytes(size))
    silence.begin()
    scene.fs.submit(25, nodeid, fh.to_bytes(8, "little") + bytes(16))
    eventually(lambda: silence.done)
    scene.fs.setattr(nodeid, mode=0o600)
    restart(share, silence)
    assert scene.get("file") == bytes(size)
    assert scene.meta("file")["mode"] == str(0o100600)


def test_a_mode_of_an_object_that_another_writer_has_replaced(
    share: RemoteShare, scene: Scene
) -> None:
    nodeid = scene.save("file", b"data")
    assert drain(share.cache_dir) == (0, "")
    share.kill()
    share.start_again()
    scene.again()
    scene.fs.setattr(scene.node("file"), mode=0o600)
    scene.put("file", b"another's")
    share.kill()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert scene.get("file") == b"another's"
    assert nodeid


def test_two_dead_daemons_owed_the_same_file(
    fake: FakeS3, make_fake_share: MakeShare, cache_dir: Path
) -> None:
    held = threading.Event()
    first, second = make_fake_share(*BACKGROUND), make_fake_share(*BACKGROUND)
    scene = first.scene()
    assert drain(cache_dir) == (0, "")
    top = second.fs.lookup(1, scene.name.encode()).nodeid
    fake.fault = lambda call: Fault(hold=held) if call.kind == "PUT" else None
    scene.save("file", b"first's")
    entry, opened = second.fs.create(top, b"file")
    second.fs.write(entry.nodeid, opened.fh, 0, b"second's")
    second.fs.flush(entry.nodeid, opened.fh)
    first.kill()
    second.kill()
    fake.fault = lambda _call: None
    held.set()
    third = make_fake_share(*BACKGROUND)
    assert drain(cache_dir) == (0, "")
    assert sorted([*conflicts(third), scene.get("file")]) == [b"first's", b"second's"]


def test_what_was_put_aside_and_taken_back(
    fake: FakeS3, share: RemoteShare, scene: Scene, silence: Silence
) -> None:
    """The daemon dies when the new version is in the journal and the old one still is."""
    held = threading.Event()
    fake.fault = lambda call: Fault(hold=held) if call.kind == "PUT" else None
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"old content")
    scene.fs.flush(nodeid, fh)
    scene.fs.setattr(nodeid, size=3, fh=fh)
    aside = {path: path.read_bytes() for path in (share.cache_dir / "v1/writes").glob("*-*.*")}
    scene.write(nodeid, fh, 0, b"new")
    scene.fs.flush(nodeid, fh)
    share.kill()
    for path, data in aside.items():
        if not path.exists():
            path.write_bytes(data)
    held.set()
    restart(share, silence)
    assert scene.get("file") == b"new"
    assert conflicts(share) == []


def test_a_file_system_that_does_not_tell_holes(
    fake: FakeS3, silence: Silence, cache_dir: Path
) -> None:
    """A file that was written in part: the rest of it is the object's, and no zeros."""
    data = bytearray(os.urandom(3 * MIB))
    fake.put("file", bytes(data))
    with CoarseShare(fake.url(), fake, BACKGROUND, cache_dir=cache_dir) as share:
        nodeid = share.fs.lookup(1, b"file").nodeid
        fh = share.fs.open(nodeid, os.O_RDWR).fh
        share.fs.write(nodeid, fh, 1 * MIB, b"changed")
        data[1 * MIB : 1 * MIB + 7] = b"changed"
        silence.begin()
        share.fs.flush(nodeid, fh)
        restart(share, silence)
        assert fake.get("file") == data


def test_an_upload_that_failed_and_came_late(
    fake: FakeS3, share: RemoteShare, scene: Scene
) -> None:
    """The first attempt is given up, and stored all the same before the second one arrives."""
    late: list[Call] = []

    def keep(call: Call) -> Fault | None:
        if call.kind != "PUT" or not call.key.endswith("file"):
            return None
        if not late:
            late.append(call)
            return Fault(status=403)
        fake.answer(late[0])
        fake.fault = lambda _call: None
        return None

    fake.fault = keep
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"early")
    scene.fs.flush(nodeid, fh)
    eventually(lambda: late)
    scene.write(nodeid, fh, 0, b"later")
    scene.close(nodeid, fh)
    assert drain(share.cache_dir) == (0, "")
    assert scene.get("file") == b"later"
    assert conflicts(share) == []


@pytest.mark.parametrize("change", ["rename", "rmdir"])
def test_a_directory_that_is_changed_while_its_marker_is_stored(
    fake: FakeS3, make_fake_share: MakeShare, cache_dir: Path, change: str
) -> None:
    held = threading.Event()
    share = make_fake_share(*BACKGROUND)
    fake.fault = lambda call: Fault(hold=held) if call.kind == "PUT" else None
    share.fs.mkdir(1, b"old")
    eventually(lambda: fake.count("PUT", key="old/"))
    if change == "rename":
        names = b"old\0new\0"
        pending = share.fs.submit(12, 1, (1).to_bytes(8, "little") + names, 0)
    else:
        pending = share.fs.submit(11, 1, b"old\0", 0)
    time.sleep(0.1)
    held.set()
    share.fs.wait(pending)
    assert drain(cache_dir) == (0, "")
    assert fake.keys() == (["new/"] if change == "rename" else [])
