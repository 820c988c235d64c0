# SPDX-License-Identifier: Apache-2.0
"""Read-only services, listings, sessions, what is not served, and services that lack something."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from errno import EBADF, EFBIG, EIO, ENOSYS, ENOTTY, EOPNOTSUPP, EROFS, ESTALE
from typing import TYPE_CHECKING

import pytest

from tests.operations.share import Guest
from tests.semantics.remote.fake_s3 import failing, writes
from tests.semantics.remote.share import RemoteShare
from tests.services.bucket import Bucket
from tests.vmm import Init
from tests.vmm import fuse_wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3
    from tests.semantics.remote.scene import Scene
    from tests.services.seaweed import SeaweedFS


def changes(share: RemoteShare, top: int, nodeid: int) -> dict[str, Callable[[], object]]:
    """Everything that would change something; "file" and "dir" are in top."""
    fs = share.fs
    return {
        "create": lambda: fs.create(top, b"new"),
        "mknod": lambda: fs.mknod(top, b"new", 0o100644),
        "mkdir": lambda: fs.mkdir(top, b"new"),
        "symlink": lambda: fs.symlink(top, b"new", b"target"),
        "unlink": lambda: fs.unlink(top, b"file"),
        "rmdir": lambda: fs.rmdir(top, b"dir"),
        "rename": lambda: fs.rename(top, b"file", top, b"new"),
        "open": lambda: fs.open(nodeid, os.O_RDWR),
        "trunc": lambda: fs.open(nodeid, os.O_RDONLY | os.O_TRUNC),
        "mode": lambda: fs.setattr(nodeid, mode=0o600),
        "size": lambda: fs.setattr(nodeid, size=0),
    }


def refuses_changes(share: RemoteShare) -> None:
    """Serves "dir/" and "file" to read, and is EROFS for the rest."""
    fs = share.fs
    assert sorted(fs.list_names(1)) == [b"dir", b"file"]
    nodeid = fs.lookup(1, b"file").nodeid
    fh = fs.open(nodeid).fh
    assert fs.read(nodeid, fh, 0, 10) == b"data"
    for name, change in changes(share, 1, nodeid).items():
        with pytest.raises(OSError, match="Read-only") as caught:
            change()
        assert caught.value.errno == EROFS, name
    fs.flush(nodeid, fh)
    fs.fsync(nodeid, fh)
    assert fs.read(nodeid, fh, 0, 10) == b"data"


@pytest.mark.promise("r-readonly-1")
def test_readonly(fake: FakeS3, make_fake_share: MakeShare) -> None:
    fake.put("file", b"data")
    fake.put("dir/", b"")
    refuses_changes(make_fake_share("--readonly"))
    assert writes(fake.calls) == []


@pytest.mark.promise("r-readonly-1")
def test_credentials_that_may_not_write(seaweed: SeaweedFS) -> None:
    prefix = "/read-only/"
    bucket = Bucket(seaweed, prefix)
    bucket.put("file", b"data")
    bucket.put("dir/", b"")
    url = seaweed.url(root=prefix, credentials=seaweed.reader)
    with RemoteShare(url, bucket) as share:
        refuses_changes(share)
    assert bucket.keys() == ["dir/", "file"]


@pytest.mark.promise("r-readonly-1")
def test_a_service_that_cannot_write(fake: FakeS3) -> None:
    """http:// reads and does not list; only what is not looked at by listing is asked here."""
    fake.put("file", b"data")
    endpoint = f"{fake.endpoint}/fake-bucket"
    with RemoteShare(f"http://?endpoint={endpoint}&root=/", fake) as share:
        nodeid = share.fs.lookup(1, b"file").nodeid
        fh = share.fs.open(nodeid).fh
        assert share.fs.read(nodeid, fh, 0, 10) == b"data"
        for name, change in changes(share, 1, nodeid).items():
            with pytest.raises(OSError, match="Read-only") as caught:
                change()
            assert caught.value.errno == EROFS, name
    assert writes(fake.calls) == []


@pytest.mark.promise("r-lock-1")
def test_locks_are_the_guests_own(share: RemoteShare) -> None:
    scene = share.scene()
    nodeid = scene.save("file", b"data")
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    lock = wire.FileLock(0, 10, fcntl.F_WRLCK, 0)
    for request in (
        lambda: scene.fs.getlk(nodeid, fh, 1, lock),
        lambda: scene.fs.setlk(nodeid, fh, 1, lock),
        lambda: scene.fs.setlkw(nodeid, fh, 1, lock),
    ):
        with pytest.raises(OSError, match="not implemented") as caught:
            request()
        assert caught.value.errno == ENOSYS
    assert not share.fs.init_flags & (Init.POSIX_LOCKS | Init.FLOCK_LOCKS)


@pytest.mark.promise("r-statfs-1")
def test_statfs(share: RemoteShare) -> None:
    first = share.fs.statfs()
    assert first.bavail * first.frsize >= 1 << 40
    assert first.ffree >= 1 << 20
    assert first.namelen == 255
    share.scene().save("file", bytes(1 << 20))
    assert share.fs.statfs() == first


@pytest.mark.promise("r-list-1")
@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("size", [200, 4096, 1 << 17])
def test_each_name_comes_once(fake: FakeS3, fake_share: RemoteShare, size: int, plus: bool) -> None:
    """Of 3000, while others are made and removed in between."""
    names = [f"name-{number:05}" for number in range(3000)]
    for name in names:
        fake.put(f"dir/{name}", b"")
    fs = fake_share.fs
    top = fs.lookup(1, b"dir").nodeid
    fh = fs.opendir(top).fh
    read = fs.readdirplus if plus else fs.readdir
    found: list[bytes] = []
    offset, turn = 0, 0
    while entries := read(top, fh, offset, size):
        found += [entry.name for entry in entries]
        offset = entries[-1].off
        turn += 1
        if turn % 200 == 1 and turn < 1000:
            entry, opened = fs.create(top, f"made-{turn}".encode())
            fs.flush(entry.nodeid, opened.fh)
            fs.release(entry.nodeid, opened.fh)
            if turn > 200:
                fs.unlink(top, f"made-{turn - 200}".encode())
    steady = [name for name in found if not name.startswith(b"made")]
    assert sorted(steady) == sorted([b".", b"..", *(name.encode() for name in names)])
    again = read(top, fh, 0, 4096)
    assert again[0].name == b"."
    middle = again[len(again) // 2]
    after = read(top, fs.opendir(top).fh, middle.off, 4096)
    assert after[0].name == again[len(again) // 2 + 1].name


@pytest.mark.promise("r-list-1")
def test_listing_begins_anew_at_offset_0(scene: Scene) -> None:
    scene.save("one", b"")
    fh = scene.fs.opendir(scene.top).fh
    names = [entry.name for entry in scene.fs.readdir(scene.top, fh)]
    assert sorted(names) == [b".", b"..", b"one"]
    scene.save("two", b"")
    names = [entry.name for entry in scene.fs.readdir(scene.top, fh)]
    assert sorted(names) == [b".", b"..", b"one", b"two"]
    with pytest.raises(OSError, match="Invalid"):
        scene.fs.readdir(scene.top, fh, 0, 20)


@pytest.mark.promise("r-ioctl-1")
def test_what_is_not_served(scene: Scene) -> None:
    nodeid = scene.save("file", b"data")
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    for command in (0x80086601, 0x40086602, 0x801C581F, 0x5401, 1):
        with pytest.raises(OSError, match="Inappropriate") as caught:
            scene.fs.ioctl(nodeid, fh, command, b"", 28)
        assert caught.value.errno == ENOTTY
    for opcode in (34, 37, 40, 48, 49, 0, 7, 4096):
        with pytest.raises(OSError, match="not implemented") as refused:
            scene.fs.request(opcode, nodeid, bytes(64), 4096)
        assert refused.value.errno == ENOSYS


@pytest.mark.promise("r-node-1")
def test_nodes_and_handles_that_are_not_held(share: RemoteShare) -> None:
    scene = share.scene()
    nodeid = scene.save("file", b"data")
    other = scene.save("other", b"data")
    fh = scene.fs.open(nodeid).fh
    for unknown in (0x7FFF_FFFF_FFFF, nodeid ^ 1 << 40, (1 << 64) - 1):
        with pytest.raises(OSError, match="Stale") as caught:
            scene.fs.getattr(unknown)
        assert caught.value.errno == ESTALE
        with pytest.raises(OSError, match="Stale"):
            scene.fs.lookup(unknown, b"file")
    for node, handle in ((nodeid, fh ^ 0x5555), (other, fh), (nodeid, (1 << 64) - 1)):
        with pytest.raises(OSError, match="Bad file") as bad:
            scene.fs.read(node, handle, 0, 10)
        assert bad.value.errno == EBADF
    with pytest.raises(OSError, match="Bad file"):
        scene.fs.readdir(scene.top, fh)


@pytest.mark.promise("r-node-1")
def test_forget(share: RemoteShare) -> None:
    scene = share.scene()
    scene.save("file", b"data")  # one lookup, by CREATE
    nodeid, fh = scene.open("file", os.O_RDONLY)  # two
    scene.fs.forget(nodeid, 1)
    assert scene.fs.getattr(nodeid).attr.size == 4
    scene.fs.forget(nodeid, 1)
    with pytest.raises(OSError, match="Stale"):
        scene.fs.getattr(nodeid)
    assert scene.load("file") == b"data"
    scene.fs.forget(scene.node("file"), 1 << 40)
    assert scene.load("file") == b"data"
    assert fh


@pytest.mark.promise("r-node-1")
def test_sessions(make_share: MakeShare) -> None:
    share = make_share()
    scene = share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    share.guest.close()
    with Guest(share.daemon, init=False) as guest:
        with pytest.raises(OSError, match="Input/output") as caught:
            guest.fs.lookup(1, b"x")
        assert caught.value.errno == EIO
        guest.fs.init()
        with pytest.raises(OSError, match="Stale"):
            guest.fs.getattr(nodeid)
        top = guest.fs.lookup(1, scene.name.encode()).nodeid
        found = guest.fs.lookup(top, b"file").nodeid
        opened = guest.fs.open(found).fh
        assert guest.fs.read(found, opened, 0, 10) == b"data"
        guest.fs.destroy()
    assert scene.get("file") == b"data"


@pytest.mark.promise("r-lack-1")
def test_a_service_that_does_not_list(tmp_path: Path) -> None:
    """sqlite:// tells what is under a key, and not what keys there are."""
    url = f"sqlite://?connection_string=sqlite://{tmp_path}/kv.db?mode=rwc&table=kv&root=/"
    (tmp_path / "kv.db").touch()
    with sqlite3.connect(tmp_path / "kv.db") as base:
        base.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
    url = url.replace("?mode=rwc", "%3Fmode=rwc")
    with RemoteShare(url) as share:
        fs = share.fs
        entry, opened = fs.create(1, b"file")
        fs.write(entry.nodeid, opened.fh, 0, b"data")
        fs.flush(entry.nodeid, opened.fh)
        fs.release(entry.nodeid, opened.fh)
        found = fs.lookup(1, b"file")
        assert found.attr.size == 4
        fh = fs.open(found.nodeid).fh
        assert fs.read(found.nodeid, fh, 0, 10) == b"data"
        with pytest.raises(OSError, match="not supported") as caught:
            fs.list_names(1)
        assert caught.value.errno == EOPNOTSUPP
        fs.rename(1, b"file", 1, b"moved")
        assert fs.lookup(1, b"moved").attr.size == 4
        fs.unlink(1, b"moved")
        share.reconnect()
        with contextlib.suppress(FileNotFoundError):
            assert share.fs.lookup(1, b"moved").nodeid == 0


@pytest.mark.promise("r-lack-2")
def test_rename_where_nothing_can_be_copied(memory_share: RemoteShare) -> None:
    scene = memory_share.scene()
    scene.fs.mkdir(scene.top, b"a")
    for number in range(20):
        scene.save(f"a/{number}", b"%d" % number)
    scene.fs.rename(scene.node("a"), b"1", scene.top, b"moved")
    assert scene.load("moved") == b"1"
    scene.fs.rename(scene.top, b"a", scene.top, b"b")
    assert scene.names() == ["b", "moved"]
    assert scene.names("b") == sorted(str(number) for number in range(20) if number != 1)
    assert scene.load("b/19") == b"19"


@pytest.mark.promise("r-lack-3")
def test_a_file_that_is_too_large(scene: Scene) -> None:
    """Ten thousand parts of 5 GiB are the most that S3 takes."""
    nodeid, fh = scene.make("file")
    for request in (
        lambda: scene.fs.write(nodeid, fh, 1 << 62, b"x"),
        lambda: scene.fs.setattr(nodeid, size=1 << 62, fh=fh),
        lambda: scene.fs.fallocate(nodeid, fh, 1 << 62, 10),
    ):
        with pytest.raises(OSError, match="too large") as caught:
            request()
        assert caught.value.errno == EFBIG
    assert scene.fs.getattr(nodeid).attr.size == 0
    scene.write(nodeid, fh, 0, b"data")
    scene.close(nodeid, fh)
    assert scene.get("file") == b"data"


@pytest.mark.promise("r-fail-1")
def test_a_listing_that_fails_is_no_empty_directory(fake: FakeS3, fake_share: RemoteShare) -> None:
    fake.put("dir/file", b"data")
    top = fake_share.fs.lookup(1, b"dir").nodeid
    fake.fault = failing("LIST")
    with pytest.raises(PermissionError):
        fake_share.fs.list_names(top)
    fake.fault = lambda _call: None
    assert fake_share.fs.list_names(top) == [b"file"]
