# SPDX-License-Identifier: Apache-2.0
"""Modes, owners, times and extended attributes: user metadata, in the form of s3fs and rclone."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from errno import ENODATA, ENOSYS, EOPNOTSUPP, EPERM
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest

from tests.semantics.remote.share import FRESH, RemoteShare, eventually
from tests.services.bucket import Bucket
from tests.vmm import Init

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3
    from tests.semantics.remote.scene import Scene
    from tests.services.seaweed import SeaweedFS

NS = 10**9
WHEN = 1_700_000_000 * NS + 123_456_789
KILL_SUIDGID = 1 << 11
WRITE_KILL_SUIDGID = 1 << 2
XATTR_CREATE, XATTR_REPLACE = 1, 2


def seconds(text: str) -> float:
    """A time of the metadata."""
    return float(text)


@pytest.mark.promise("r-attr-1")
def test_inode_numbers(make_share: MakeShare) -> None:
    share = make_share()
    scene = share.scene()
    scene.save("file", b"data")
    scene.fs.mkdir(scene.top, b"dir")
    scene.save("dir/file", b"data")
    paths = ["file", "dir", "dir/file"]
    numbers = [scene.fs.getattr(scene.node(path)).attr.ino for path in paths]
    assert len(set(numbers)) == 3
    listed = {
        entry.name: entry.ino
        for entry in scene.fs.readdir(scene.top, scene.fs.opendir(scene.top).fh)
    }
    assert (listed[b"file"], listed[b"dir"]) == (numbers[0], numbers[1])
    share.stop()
    other = make_share()
    top = other.fs.lookup(1, scene.name.encode()).nodeid
    found = [other.fs.getattr(scene_node(other, top, path)).attr.ino for path in paths]
    assert found == numbers


def scene_node(share: RemoteShare, top: int, path: str) -> int:
    """A path's node in another session."""
    for part in path.split("/"):
        top = share.fs.lookup(top, part.encode()).nodeid
    return top


@pytest.mark.promise("r-attr-1")
def test_the_number_stays_through_a_rename(scene: Scene) -> None:
    nodeid = scene.save("file", b"data")
    before = scene.fs.getattr(nodeid).attr
    assert before.nlink == 1
    scene.fs.rename(scene.top, b"file", scene.top, b"moved")
    after = scene.fs.lookup(scene.top, b"moved")
    assert (after.nodeid, after.attr.ino) == (nodeid, before.ino)
    other = scene.fs.getattr(scene.save("file", b"data")).attr
    assert other.ino != before.ino


@pytest.mark.promise("r-meta-1")
@pytest.mark.parametrize("name", ["file", "dir", "link"])
def test_how_it_is_kept(fake_share: RemoteShare, name: str) -> None:
    scene = fake_share.scene()
    scene.save("file", b"data")
    scene.fs.mkdir(scene.top, b"dir")
    scene.fs.symlink(scene.top, b"link", b"file")
    nodeid = scene.node(name)
    kind = scene.fs.getattr(nodeid).attr.mode & 0o170000
    key = name + "/" if name == "dir" else name
    mode = 0o777 if name == "link" else 0o2741
    if name != "link":
        scene.fs.setattr(nodeid, mode=kind | mode)
    scene.fs.setattr(nodeid, owner=1000, group=4_000_000_000)
    scene.fs.setattr(nodeid, atime_ns=WHEN, mtime_ns=WHEN + NS)
    scene.fs.syncfs()
    meta = scene.meta(key)
    assert meta["mode"] == str(kind | mode)
    assert (meta["uid"], meta["gid"]) == ("1000", "4000000000")
    assert meta["atime"] == "1700000000.123456789"
    assert meta["mtime"] == "1700000001.123456789"
    assert abs(seconds(meta["ctime"]) - time.time()) < 60
    assert scene.get(key) == {"file": b"data", "dir": b"", "link": b"file"}[name]


@pytest.mark.promise("r-meta-1")
def test_it_comes_back(make_fake_share: MakeShare) -> None:
    share = make_fake_share()
    scene = share.scene()
    nodeid = scene.save("file", b"data")
    scene.fs.mkdir(scene.top, b"dir")
    for each in (nodeid, scene.node("dir")):
        kind = scene.fs.getattr(each).attr.mode & 0o170000
        scene.fs.setattr(each, owner=7, group=8, atime_ns=WHEN, mtime_ns=WHEN + 1)
        scene.fs.setattr(each, mode=kind | 0o4711)
    share.stop()
    other = make_fake_share()
    top = other.fs.lookup(1, scene.name.encode()).nodeid
    for name, kind in ((b"file", stat.S_IFREG), (b"dir", stat.S_IFDIR)):
        attr = other.fs.lookup(top, name).attr
        assert (attr.mode, attr.uid, attr.gid) == (kind | 0o4711, 7, 8)
        assert attr.atime * NS + attr.atimensec == WHEN
        assert attr.mtime * NS + attr.mtimensec == WHEN + 1


@pytest.mark.promise("r-meta-1")
def test_where_markers_keep_nothing(make_share: MakeShare) -> None:
    """SeaweedFS: a directory's attributes are this host's own, also after a restart."""
    share = make_share()
    scene = share.scene()
    scene.fs.mkdir(scene.top, b"dir")
    scene.fs.setattr(scene.node("dir"), mode=0o042741, owner=7)
    scene.fs.syncfs()
    assert scene.meta("dir/") == {}
    share.stop()
    share.start_again()
    top = share.fs.lookup(1, scene.name.encode()).nodeid
    attr = share.fs.lookup(top, b"dir").attr
    assert (attr.mode, attr.uid) == (0o042741, 7)


@pytest.mark.promise("r-meta-2")
def test_what_s3fs_wrote(fake_share: RemoteShare) -> None:
    """Files, directories and symlinks, in the metadata of version 1.9x."""
    fresh = fake_share.scene()
    times = {"atime": "1600000000.5", "mtime": "1600000001.25", "ctime": "1600000002"}
    owner = {"uid": "33", "gid": "44"}
    fresh.put("file", b"data", {"mode": str(0o100640), **owner, **times})
    fresh.put("dir/", b"", {"mode": str(0o040710), **owner, **times})
    fresh.put("link", b"dir/target", {"mode": str(0o120777), **owner, **times})
    time.sleep(1.1)  # the directory was made here, and nothing is in it for a second
    expected = {"file": 0o100640, "dir": 0o040710, "link": 0o120777}
    for name, mode in expected.items():
        attr = fresh.fs.lookup(fresh.top, name.encode()).attr
        assert (attr.mode, attr.uid, attr.gid) == (mode, 33, 44), name
        assert (attr.atime, attr.atimensec) == (1600000000, NS // 2)
        assert (attr.mtime, attr.mtimensec) == (1600000001, NS // 4)
        assert attr.ctime == 1600000002
    assert fresh.fs.readlink(fresh.node("link")) == b"dir/target"


@pytest.mark.promise("r-meta-2")
def test_what_rclone_wrote(fresh: Scene) -> None:
    fresh.put("file", b"data", {"mtime": "1354040105.123456789"})
    attr = fresh.fs.lookup(fresh.top, b"file").attr
    assert (attr.mtime, attr.mtimensec) == (1354040105, 123456789)
    assert attr.mode == 0o100644


@pytest.mark.promise("r-meta-2")
@pytest.mark.parametrize(
    "meta",
    [
        {"mode": "rubbish", "uid": "-1", "gid": "", "mtime": "never"},
        {"mode": "99999999999999999999", "uid": "4294967296", "mtime": "1e400"},
        {"mode": str(0o040755)},
        {"mode": str(0o020666)},
        {"xattr": "%7Bnot json"},
    ],
)
def test_what_makes_no_sense_does_no_harm(fresh: Scene, meta: dict[str, str]) -> None:
    fresh.put("file", b"data", meta)
    attr = fresh.fs.lookup(fresh.top, b"file").attr
    assert (stat.S_IFMT(attr.mode), attr.uid, attr.gid) == (stat.S_IFREG, 0, 0)
    assert abs(attr.mtime - time.time()) < 60
    assert fresh.load("file") == b"data"


@pytest.mark.promise("r-meta-3")
def test_objects_of_others(make_share: MakeShare) -> None:
    share = make_share(
        *("--default-uid", "500", "--default-gid", "600"),
        *("--default-file-mode", "0640", "--default-dir-mode", "0750", *FRESH),
    )
    share.objects.put("dir/file", b"data")
    directory = share.fs.lookup(1, b"dir")
    assert (directory.attr.mode, directory.attr.uid, directory.attr.gid) == (0o040750, 500, 600)
    attr = share.fs.lookup(directory.nodeid, b"file").attr
    assert (attr.mode, attr.uid, attr.gid, attr.size) == (0o100640, 500, 600, 4)
    assert abs(attr.mtime - time.time()) < 60


@pytest.mark.promise("r-meta-3")
def test_the_defaults_of_the_defaults(fresh: Scene) -> None:
    fresh.put("dir/file", b"data")
    attr = fresh.fs.lookup(fresh.top, b"dir").attr
    assert (attr.mode, attr.uid, attr.gid) == (0o040755, 0, 0)
    attr = fresh.fs.lookup(fresh.node("dir"), b"file").attr
    assert (attr.mode, attr.uid, attr.gid) == (0o100644, 0, 0)


@pytest.mark.promise("r-meta-4")
def test_a_change_is_there_after_two_seconds(fake: FakeS3, fake_share: RemoteShare) -> None:
    scene = fake_share.scene()
    nodeid = scene.save("file", b"data")
    before = fake.count("PUT")
    start = time.monotonic()
    scene.fs.setattr(nodeid, mode=0o100600)
    assert time.monotonic() - start < 1.0
    assert scene.fs.getattr(nodeid).attr.mode == 0o100600
    eventually(lambda: scene.meta("file")["mode"] == str(0o100600), 4.0)
    assert fake.count("PUT") == before + 1
    assert scene.get("file") == b"data"


@pytest.mark.promise("r-meta-4")
def test_a_kill_does_not_lose_it(make_share: MakeShare) -> None:
    share = make_share()
    scene = share.scene()
    nodeid = scene.save("file", b"data")
    scene.fs.setattr(nodeid, mode=0o100600, mtime_ns=WHEN)
    share.kill()
    share.start_again()
    scene.again()
    assert scene.fs.lookup(scene.top, b"file").attr.mode == 0o100600
    eventually(lambda: scene.meta("file")["mode"] == str(0o100600))
    assert scene.meta("file")["mtime"] == "1700000000.123456789"


@pytest.mark.promise("r-meta-5")
def test_changes_go_together(fake: FakeS3, fake_share: RemoteShare) -> None:
    """Three changes to each of four files; one is stored by time, the others by what follows."""
    scene = fake_share.scene()
    nodes = {how: scene.save(how, b"data") for how in ("fsync", "write", "rename", "wait")}
    handles = {how: scene.fs.open(nodes[how], os.O_RDWR).fh for how in ("fsync", "write")}
    fake.calls.clear()
    for nodeid in nodes.values():
        scene.fs.setattr(nodeid, mode=0o100600)
        scene.fs.setattr(nodeid, owner=7)
        scene.fs.setattr(nodeid, mtime_ns=WHEN)
    scene.fs.fsync(nodes["fsync"], handles["fsync"])
    scene.write(nodes["write"], handles["write"], 0, b"DATA")
    scene.fs.setattr(nodes["write"], mtime_ns=WHEN)
    scene.fs.flush(nodes["write"], handles["write"])
    scene.fs.rename(scene.top, b"rename", scene.top, b"moved")
    at_once = ("fsync", "write", "moved")
    now = {name: dict(scene.meta(name)) for name in at_once}
    eventually(lambda: scene.meta("wait").get("uid") == "7", 4.0)
    time.sleep(0.5)
    for name in (*at_once, "wait"):
        meta = now.get(name) or scene.meta(name)
        assert (meta["mode"], meta["uid"]) == (str(0o100600), "7"), name
        assert meta["mtime"] == "1700000000.123456789", name
        assert fake.count("PUT", "COPY", "START", key=scene.prefix + name) == 1, name


@pytest.fixture(params=["option", "service"])
def plain(request: pytest.FixtureRequest, make_fake_share: MakeShare) -> Iterator[RemoteShare]:
    """A share without metadata: by option, or since the service (memory) has none."""
    if request.param == "option":
        yield make_fake_share("--posix-metadata=off")
    else:
        with RemoteShare("memory://?root=/") as made:
            yield made


@pytest.mark.promise("r-meta-6")
def test_without_metadata(plain: RemoteShare) -> None:
    scene = plain.scene()
    nodeid = scene.save("file", b"data")
    attr = scene.fs.getattr(nodeid).attr
    assert (attr.mode, attr.uid, attr.gid) == (0o100644, 0, 0)
    same = scene.fs.setattr(nodeid, mode=0o100644, owner=0, group=0).attr
    assert (same.mode, same.uid, same.gid) == (0o100644, 0, 0)
    refused: list[Callable[[], object]] = [
        lambda: scene.fs.setattr(nodeid, mode=0o100600),
        lambda: scene.fs.setattr(nodeid, owner=1),
        lambda: scene.fs.setattr(nodeid, group=1),
    ]
    for change in refused:
        with pytest.raises(PermissionError) as caught:
            change()
        assert caught.value.errno == EPERM
    with pytest.raises(PermissionError):
        scene.fs.setattr(nodeid, mtime_ns=WHEN)
    special: list[Callable[[], object]] = [
        lambda: scene.fs.symlink(scene.top, b"link", b"file"),
        lambda: scene.fs.mknod(scene.top, b"fifo", stat.S_IFIFO | 0o644),
        lambda: scene.fs.mknod(scene.top, b"sock", stat.S_IFSOCK | 0o644),
    ]
    for request in special:
        with pytest.raises(PermissionError):
            request()
    assert scene.names() == ["file"]
    scene.fs.setattr(nodeid, size=2)
    assert scene.load("file") == b"da"


@pytest.mark.promise("r-meta-6")
def test_nothing_is_written_into_metadata(fake: FakeS3, make_fake_share: MakeShare) -> None:
    scene = make_fake_share("--posix-metadata=off").scene()
    scene.save("file", b"data")
    assert "mode" not in scene.meta("file")
    fake.put(f"{scene.prefix}theirs", b"1", {"mode": str(0o120777)})
    eventually(lambda: scene.node("theirs"))
    assert scene.fs.getattr(scene.node("theirs")).attr.mode == 0o100644
    assert fake.count("HEAD", key=f"{scene.prefix}theirs") == 0


@pytest.mark.promise("r-meta-7")
@pytest.mark.parametrize("what", ["create", "mkdir", "mknod", "symlink"])
def test_whose_it_is(fake_share: RemoteShare, what: str) -> None:
    """The guest's kernel has applied the umask: it does unless INIT grants DONT_MASK."""
    scene = fake_share.scene()
    assert not scene.fs.init_flags & Init.DONT_MASK
    fs, top = scene.fs, scene.top
    key, mode = "made", 0o100640
    if what == "create":
        entry, opened = fs.create(top, b"made", mode=mode, umask=0o027, uid=1000, gid=2000)
        scene.close(entry.nodeid, opened.fh)
    elif what == "mkdir":
        key, mode = "made/", 0o040750
        entry = fs.mkdir(top, b"made", 0o750, umask=0o027, uid=1000, gid=2000)
    elif what == "mknod":
        entry = fs.mknod(top, b"made", mode, umask=0o027, uid=1000, gid=2000)
    else:
        mode = 0o120777
        entry = fs.symlink(top, b"made", b"target", uid=1000, gid=2000)
    assert (entry.attr.uid, entry.attr.gid, entry.attr.mode) == (1000, 2000, mode)
    meta = scene.meta(key)
    assert (meta["uid"], meta["gid"], meta["mode"]) == ("1000", "2000", str(mode))


@pytest.fixture(scope="module")
def xattr_share(seaweed: SeaweedFS, root: str) -> Iterator[RemoteShare]:
    """A daemon with --xattr."""
    prefix = f"{root}xattr/"
    options = [*FRESH, "--xattr"]
    with RemoteShare(seaweed.url(root=prefix), Bucket(seaweed, prefix), options) as made:
        yield made


@pytest.mark.promise("r-xattr-1")
def test_extended_attributes(xattr_share: RemoteShare) -> None:
    scene = xattr_share.scene()
    nodeid = scene.save("file", b"data")
    values = {b"user.text": b"value", b"user.binary": bytes(range(256)), b"user.empty": b""}
    for name, value in values.items():
        scene.fs.setxattr(nodeid, name, value)
    assert sorted(scene.fs.listxattr(nodeid)) == sorted(values)
    for name, value in values.items():
        assert scene.fs.getxattr(nodeid, name) == value
        assert scene.fs.getxattr_size(nodeid, name) == len(value)
    with pytest.raises(OSError, match="out of range"):
        scene.fs.getxattr(nodeid, b"user.binary", 10)
    with pytest.raises(FileExistsError):
        scene.fs.setxattr(nodeid, b"user.text", b"2", XATTR_CREATE)
    with pytest.raises(OSError, match="No data") as caught:
        scene.fs.setxattr(nodeid, b"user.other", b"2", XATTR_REPLACE)
    assert caught.value.errno == ENODATA
    scene.fs.removexattr(nodeid, b"user.empty")
    with pytest.raises(OSError, match="No data"):
        scene.fs.getxattr(nodeid, b"user.empty")
    with pytest.raises(OSError, match="No data"):
        scene.fs.removexattr(nodeid, b"user.empty")
    scene.fs.syncfs()
    kept = json.loads(unquote(scene.meta("file")["xattr"]))
    assert {name.encode(): base64.b64decode(value) for name, value in kept.items()} == {
        b"user.text": b"value",
        b"user.binary": bytes(range(256)),
    }


@pytest.mark.promise("r-xattr-1")
def test_those_of_s3fs(xattr_share: RemoteShare) -> None:
    fresh = xattr_share.scene()
    text = json.dumps({"user.colour": base64.b64encode(b"blue").decode()})
    fresh.put("file", b"data", {"mode": "33188", "xattr": quote(text)})
    nodeid = fresh.node("file")
    assert fresh.fs.listxattr(nodeid) == [b"user.colour"]
    assert fresh.fs.getxattr(nodeid, b"user.colour") == b"blue"
    fresh.put("plain", b"data")
    assert fresh.fs.listxattr(fresh.node("plain")) == []


def each_xattr_request(scene: Scene, nodeid: int, error: int) -> None:
    """All four end with that error."""
    attributes: list[Callable[[], object]] = [
        lambda: scene.fs.setxattr(nodeid, b"user.a", b"1"),
        lambda: scene.fs.getxattr(nodeid, b"user.a"),
        lambda: scene.fs.listxattr(nodeid),
        lambda: scene.fs.removexattr(nodeid, b"user.a"),
    ]
    for attribute in attributes:
        with pytest.raises(OSError, match="opcode") as caught:
            attribute()
        assert caught.value.errno == error


@pytest.mark.promise("r-xattr-2")
def test_without_the_option(scene: Scene) -> None:
    each_xattr_request(scene, scene.save("file", b"data"), ENOSYS)


@pytest.mark.promise("r-xattr-2")
def test_where_there_is_no_metadata() -> None:
    with RemoteShare("memory://?root=/", options=["--xattr"]) as share:
        scene = share.scene()
        each_xattr_request(scene, scene.save("file", b"data"), EOPNOTSUPP)


@pytest.mark.promise("r-size-1")
def test_size_by_node_and_by_handle(scene: Scene) -> None:
    nodeid = scene.save("file", b"0123456789")
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    assert scene.fs.setattr(nodeid, size=4, fh=fh).attr.size == 4
    assert scene.fs.setattr(nodeid, size=8).attr.size == 8
    assert scene.read(nodeid, fh) == b"0123" + bytes(4)
    scene.close(nodeid, fh)
    assert scene.get("file") == b"0123" + bytes(4)


@pytest.mark.promise("r-size-1")
@pytest.mark.parametrize("size", [0, 3, 70_000, 300_001])
def test_truncate_without_a_handle(fresh: Scene, size: int) -> None:
    data = os.urandom(200_000)
    fresh.put("file", data)
    nodeid = fresh.node("file")
    assert fresh.fs.setattr(nodeid, size=size).attr.size == size
    expected = data[:size].ljust(size, b"\0")
    assert fresh.load("file") == expected
    eventually(lambda: fresh.get("file") == expected, 4.0)


@pytest.mark.promise("r-setid-1")
@pytest.mark.parametrize("how", ["write", "truncate"])
def test_set_id_bits(scene: Scene, how: str) -> None:
    nodeid, fh = scene.make("file")
    scene.fs.setattr(nodeid, mode=0o106755)
    if how == "write":
        scene.fs.write(nodeid, fh, 0, b"x", write_flags=WRITE_KILL_SUIDGID, uid=1000)
    else:
        scene.fs.setattr(nodeid, size=1, valid=KILL_SUIDGID, uid=1000)
    assert scene.fs.getattr(nodeid).attr.mode == 0o100755
    scene.close(nodeid, fh)
    assert scene.meta("file")["mode"] == str(0o100755)
    scene.fs.setattr(nodeid, mode=0o106755)
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    scene.fs.write(nodeid, fh, 0, b"y")
    assert scene.fs.getattr(nodeid).attr.mode == 0o106755
