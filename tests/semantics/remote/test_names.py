# SPDX-License-Identifier: Apache-2.0
"""Making and removing files, directories, links and special files."""

from __future__ import annotations

import os
import stat
from errno import EEXIST, ENOTEMPTY, ENXIO, EOPNOTSUPP, EPERM, ESTALE
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.share import FRESH, eventually

if TYPE_CHECKING:
    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3
    from tests.semantics.remote.scene import Scene
    from tests.semantics.remote.share import RemoteShare

BLOCK = 1 << 16
MIB = 1 << 20


@pytest.mark.promise("r-create-1")
def test_a_new_file_is_stored_at_its_close(scene: Scene) -> None:
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    assert scene.stored() == []
    assert scene.names() == ["file"]
    scene.close(nodeid, fh)
    assert scene.get("file") == b"data"
    empty = scene.make("empty")
    assert scene.stored() == ["file"]
    scene.close(*empty)
    assert scene.get("empty") == b""
    scene.fs.mknod(scene.top, b"node", 0o100640)
    assert scene.get("node") == b""
    assert scene.meta("node")["mode"] == str(0o100640)


@pytest.mark.promise("r-create-2")
@pytest.mark.parametrize("name", [b"file", b"dir", b"link"])
def test_o_excl(fresh: Scene, name: bytes) -> None:
    fresh.put("file", b"data")
    fresh.put("dir/child", b"data")
    fresh.fs.symlink(fresh.top, b"link", b"file")
    with pytest.raises(FileExistsError) as caught:
        fresh.fs.create(fresh.top, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    assert caught.value.errno == EEXIST
    assert fresh.get("file") == b"data"


@pytest.mark.promise("r-create-3")
def test_create_opens_what_is_there(fresh: Scene) -> None:
    fresh.put("file", b"data")
    nodeid, fh = fresh.make("file")
    assert fresh.read(nodeid, fh) == b"data"
    fresh.write(nodeid, fh, 4, b" and more")
    fresh.close(nodeid, fh)
    assert fresh.get("file") == b"data and more"
    nodeid, fh = fresh.make("file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert fresh.read(nodeid, fh) == b""
    fresh.close(nodeid, fh)
    assert fresh.get("file") == b""


@pytest.mark.promise("r-mkdir-1")
def test_an_empty_directory_stays(make_fake_share: MakeShare) -> None:
    share = make_fake_share()
    scene = share.scene()
    entry = scene.fs.mkdir(scene.top, b"empty", 0o750)
    assert entry.attr.mode == stat.S_IFDIR | 0o750
    assert scene.stored() == ["empty/"]
    assert scene.get("empty/") == b""
    with pytest.raises(FileExistsError):
        scene.fs.mkdir(scene.top, b"empty")
    share.stop()
    other = make_fake_share()
    top = other.fs.lookup(1, scene.name.encode()).nodeid
    found = other.fs.lookup(top, b"empty")
    assert found.attr.mode == stat.S_IFDIR | 0o750
    assert other.fs.list_names(found.nodeid) == []


@pytest.mark.promise("r-mkdir-2")
def test_an_implicit_directory_goes_with_its_contents(make_fake_share: MakeShare) -> None:
    """Not on SeaweedFS, which keeps directories for a while."""
    fresh = make_fake_share(*FRESH).scene()
    fresh.put("a/b/file", b"1")
    assert fresh.names("a/b") == ["file"]
    fresh.delete("a/b/file")
    assert fresh.names() == []
    assert fresh.node("a") == 0


@pytest.mark.promise("r-mkdir-2")
@pytest.mark.parametrize("how", ["unlink", "rename", "rmdir"])
def test_it_does_not_go_when_this_guest_takes_them(fresh: Scene, how: str) -> None:
    fresh.put("a/b/last" + ("/" if how == "rmdir" else ""), b"")
    below = fresh.node("a/b")
    if how == "unlink":
        fresh.fs.unlink(below, b"last")
    elif how == "rmdir":
        fresh.fs.rmdir(below, b"last")
    else:
        fresh.fs.rename(below, b"last", fresh.top, b"moved")
    assert fresh.names("a") == ["b"]
    assert fresh.names("a/b") == []
    assert "a/b/" in fresh.stored()
    fresh.fs.rmdir(fresh.node("a"), b"b")
    assert fresh.names("a") == []
    fresh.fs.rmdir(fresh.top, b"a")
    assert [key for key in fresh.stored() if key.startswith("a")] == []


@pytest.mark.promise("r-rmdir-1")
def test_rmdir_asks_the_service(scene: Scene) -> None:
    """With --cache auto: what is known of the directory says that it is empty."""
    nodeid = scene.fs.mkdir(scene.top, b"dir").nodeid
    assert scene.fs.list_names(nodeid) == []
    scene.put("dir/theirs", b"data")
    with pytest.raises(OSError, match="not empty") as caught:
        scene.fs.rmdir(scene.top, b"dir")
    assert caught.value.errno == ENOTEMPTY
    assert scene.get("dir/theirs") == b"data"
    assert scene.names() == ["dir"]
    scene.delete("dir/theirs")
    scene.fs.rmdir(scene.top, b"dir")
    assert scene.stored() == []
    assert scene.names() == []
    with pytest.raises(FileNotFoundError):
        scene.fs.rmdir(scene.top, b"dir")


@pytest.mark.promise("r-rmdir-1")
def test_rmdir_of_what_is_not_stored_yet(scene: Scene) -> None:
    scene.fs.mkdir(scene.top, b"dir")
    nodeid, fh = scene.make("dir/file")
    with pytest.raises(OSError, match="not empty"):
        scene.fs.rmdir(scene.top, b"dir")
    scene.close(nodeid, fh)
    with pytest.raises(NotADirectoryError):
        scene.fs.rmdir(scene.node("dir"), b"file")
    with pytest.raises(IsADirectoryError):
        scene.fs.unlink(scene.top, b"dir")


@pytest.mark.promise("r-unlink-1")
def test_unlink_has_removed(scene: Scene) -> None:
    scene.save("file", b"data")
    scene.fs.unlink(scene.top, b"file")
    assert scene.stored() == []
    assert scene.node("file") == 0
    with pytest.raises(FileNotFoundError):
        scene.fs.unlink(scene.top, b"file")
    scene.save("file", b"another")
    assert scene.load("file") == b"another"


@pytest.mark.promise("r-unlink-2")
def test_an_open_file_lives_on(fresh: Scene) -> None:
    """Three blocks of it were never read before it goes."""
    data = os.urandom(3 * BLOCK + 100)
    fresh.put("file", data)
    nodeid, fh = fresh.open("file")
    fresh.fs.unlink(fresh.top, b"file")
    assert fresh.stored() == []
    assert fresh.read(nodeid, fh) == data
    fresh.write(nodeid, fh, 10, b"changed")
    changed = data[:10] + b"changed" + data[17:]
    assert fresh.read(nodeid, fh) == changed
    assert fresh.fs.getattr(nodeid, fh).attr.size == len(data)
    fresh.fs.setattr(nodeid, size=20, fh=fh)
    assert fresh.read(nodeid, fh) == changed[:20]
    fresh.close(nodeid, fh)
    assert fresh.stored() == []


@pytest.mark.promise("r-unlink-2")
def test_one_that_is_larger_than_the_cache(fake: FakeS3, make_fake_share: MakeShare) -> None:
    """There is no room for all of it: each byte is the right one, or ESTALE."""
    share = make_fake_share("--cache-size", str(64 * MIB))
    data = os.urandom(MIB) * 96
    fake.put("file", data)
    nodeid = share.fs.lookup(1, b"file").nodeid
    fh = share.fs.open(nodeid).fh
    assert share.fs.read(nodeid, fh, 0, 100) == data[:100]
    share.fs.unlink(1, b"file", timeout=30.0)
    stale = 0
    for offset in range(0, len(data), 8 * MIB):
        try:
            assert share.fs.read(nodeid, fh, offset, 100) == data[offset : offset + 100]
        except OSError as error:
            stale += error.errno == ESTALE
            if error.errno != ESTALE:
                raise
    assert stale > 0


@pytest.mark.promise("r-unlink-3")
@pytest.mark.parametrize("stored", [False, True])
def test_nothing_of_it_is_stored(fresh: Scene, stored: bool) -> None:
    if stored:
        fresh.save("file", b"old")
        nodeid, fh = fresh.open("file")
    else:
        nodeid, fh = fresh.make("file")
    fresh.write(nodeid, fh, 0, b"data")
    fresh.fs.unlink(fresh.top, b"file")
    fresh.write(nodeid, fh, 4, b" and more")
    fresh.fs.fsync(nodeid, fh)
    fresh.close(nodeid, fh)
    fresh.fs.syncfs()
    assert fresh.stored() == []
    assert fresh.names() == []


@pytest.mark.promise("r-unlink-3")
def test_another_file_of_that_name_is_not_harmed(fresh: Scene) -> None:
    nodeid, fh = fresh.make("file")
    fresh.write(nodeid, fh, 0, b"removed")
    fresh.fs.unlink(fresh.top, b"file")
    other = fresh.save("file", b"other")
    assert other != nodeid
    fresh.close(nodeid, fh)
    assert fresh.get("file") == b"other"
    assert fresh.load("file") == b"other"


@pytest.mark.promise("r-special-1")
def test_a_symlink_is_its_target(fresh: Scene) -> None:
    target = "../ümläut/" + "t" * 300
    entry = fresh.fs.symlink(fresh.top, b"link", target.encode())
    assert entry.attr.mode & 0o170000 == stat.S_IFLNK
    assert fresh.get("link") == target.encode()
    assert int(fresh.meta("link")["mode"]) & 0o170000 == stat.S_IFLNK
    assert fresh.fs.readlink(entry.nodeid) == target.encode()
    assert fresh.fs.getattr(entry.nodeid).attr.size == len(target.encode())


@pytest.mark.promise("r-special-1")
@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_fifos_and_sockets(fresh: Scene, kind: int) -> None:
    nodeid = fresh.fs.mknod(fresh.top, b"node", kind | 0o640).nodeid
    assert fresh.get("node") == b""
    assert fresh.meta("node")["mode"] == str(kind | 0o640)
    assert fresh.fs.lookup(fresh.top, b"node").attr.mode == kind | 0o640
    with pytest.raises(OSError, match="No such device") as caught:
        fresh.fs.open(nodeid)
    assert caught.value.errno == ENXIO


@pytest.mark.promise("r-special-1")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices(fresh: Scene, kind: int) -> None:
    with pytest.raises(PermissionError) as caught:
        fresh.fs.mknod(fresh.top, b"node", kind | 0o640, rdev=0x103)
    assert caught.value.errno == EPERM
    assert fresh.stored() == []


@pytest.mark.promise("r-link-1")
def test_no_links_and_no_files_without_name(scene: Scene) -> None:
    nodeid = scene.save("file", b"data")
    with pytest.raises(PermissionError) as caught:
        scene.fs.link(nodeid, scene.top, b"link")
    assert caught.value.errno == EPERM
    with pytest.raises(OSError, match="not supported") as refused:
        scene.fs.tmpfile(scene.top)
    assert refused.value.errno == EOPNOTSUPP
    assert scene.stored() == ["file"]


@pytest.mark.promise("r-late-1")
def test_a_file_that_is_removed_owes_nothing(fake: FakeS3, fake_share: RemoteShare) -> None:
    """Nobody is told of an upload that is not needed any more."""
    scene = fake_share.scene()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, b"data")
    scene.fs.unlink(scene.top, b"file")
    scene.fs.release(nodeid, fh)
    scene.save("file", b"other")
    eventually(lambda: fake.get(f"{scene.prefix}file") == b"other")
