# SPDX-License-Identifier: Apache-2.0
"""SETATTR in all its combinations, and attributes of what has no name any more."""

from __future__ import annotations

import os
import time
from errno import EFBIG
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import brief, brief_stat
from tests.operations.share import Share
from tests.operations.tree import tree
from tests.vmm.fuse_flags import Setattr

if TYPE_CHECKING:
    from tests.operations.scene import Scene
    from tests.vmm.fuse_wire import Attr

NS = 10**9
#: Seconds and nanoseconds: now, the epoch, before it, and after 2038.
TIMES = (1_700_000_000 * NS + 123_456_789, 0, -5 * NS + 7, (1 << 32) * NS + 1)


def times(attr: Attr) -> tuple[int, int]:
    """Access and modification time in nanoseconds; seconds are signed on the wire."""

    def signed(value: int) -> int:
        return value - (1 << 64) if value >> 63 else value

    return (
        signed(attr.atime) * NS + attr.atimensec,
        signed(attr.mtime) * NS + attr.mtimensec,
    )


@pytest.mark.promise("attr-1")
def test_attributes_of_every_type_are_the_hosts(scene: Scene) -> None:
    for name in os.listdir(scene.path()):
        st = os.lstat(scene.path(name))
        attr = scene.fs.getattr(scene.node(name)).attr
        assert brief(attr) == brief_stat(st)
        assert (attr.ino, attr.blocks, attr.blksize) == (st.st_ino, st.st_blocks, st.st_blksize)
        assert times(attr) == (st.st_atime_ns, st.st_mtime_ns)
        assert attr.ctime * NS + attr.ctimensec == st.st_ctime_ns


@pytest.mark.promise("attr-1")
def test_statx_has_the_birth_time(scene: Scene) -> None:
    before = time.time() - 60
    sx = scene.fs.statx(scene.node(b"file")).stat
    assert before < sx.btime < time.time() + 1
    assert sx.dev_major == os.major(os.lstat(scene.path()).st_dev)
    assert sx.ino == os.lstat(scene.path(b"file")).st_ino


@pytest.mark.promise("attr-2")
@pytest.mark.parametrize("ns", TIMES)
@pytest.mark.parametrize("name", [b"file", b"dir", b"link", b"fifo"])
def test_times_are_set_to_the_nanosecond(scene: Scene, name: bytes, ns: int) -> None:
    attr = scene.fs.setattr(scene.node(name), atime_ns=ns, mtime_ns=ns + 1).attr
    os.utime(scene.twin + b"/" + name, ns=(ns, ns + 1), follow_symlinks=False)
    st = os.lstat(scene.twin + b"/" + name)
    assert times(attr) == (st.st_atime_ns, st.st_mtime_ns)
    on_host = os.lstat(scene.path(name))
    assert (on_host.st_atime_ns, on_host.st_mtime_ns) == (st.st_atime_ns, st.st_mtime_ns)


@pytest.mark.promise("attr-2")
def test_one_time_leaves_the_other(scene: Scene) -> None:
    nodeid = scene.node(b"file")
    scene.fs.setattr(nodeid, atime_ns=5 * NS, mtime_ns=6 * NS)
    assert times(scene.fs.setattr(nodeid, atime_ns=7 * NS).attr) == (7 * NS, 6 * NS)
    assert times(scene.fs.setattr(nodeid, mtime_ns=8 * NS).attr) == (7 * NS, 8 * NS)
    assert times(scene.fs.setattr(nodeid, mode=0o600).attr) == (7 * NS, 8 * NS)


@pytest.mark.promise("attr-2")
def test_now_is_the_hosts_clock(scene: Scene) -> None:
    nodeid = scene.node(b"file")
    scene.fs.setattr(nodeid, atime_ns=5 * NS, mtime_ns=6 * NS)
    # Linux sends both bits, and a time that does not count.
    now = Setattr.MTIME | Setattr.MTIME_NOW
    atime, mtime = times(scene.fs.setattr(nodeid, valid=now).attr)
    assert atime == 5 * NS
    assert abs(mtime / NS - time.time()) < 5


@pytest.mark.promise("attr-3")
def test_all_kinds_in_one_request(scene: Scene) -> None:
    attr = scene.fs.setattr(
        scene.node(b"file"),
        mode=0o4711,
        owner=1,
        group=2,
        size=3,
        atime_ns=NS,
        mtime_ns=2 * NS,
    ).attr
    # The change of owner clears the set-user-id bit which came with it, as it does after chmod.
    assert (attr.mode, attr.uid, attr.gid, attr.size) == (0o100711, 1, 2, 3)
    assert times(attr) == (NS, 2 * NS)
    assert brief(attr) == brief_stat(os.lstat(scene.path(b"file")))


def test_one_owner_leaves_the_other(scene: Scene) -> None:
    nodeid = scene.node(b"file")
    assert scene.fs.setattr(nodeid, owner=12).attr.gid == 0
    attr = scene.fs.setattr(nodeid, group=34).attr
    assert (attr.uid, attr.gid) == (12, 34)


@pytest.mark.promise("attr-4")
def test_a_symlinks_owner_is_its_own(scene: Scene) -> None:
    attr = scene.fs.setattr(scene.node(b"link"), owner=12, group=34).attr
    assert (attr.uid, attr.gid) == (12, 34)
    assert os.lstat(scene.path(b"file")).st_uid == 0


@pytest.mark.promise("size-1")
def test_size_through_a_node_and_through_a_handle(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    assert scene.fs.setattr(nodeid, size=3).attr.size == 3
    assert scene.fs.setattr(nodeid, size=6, fh=fh).attr.size == 6
    assert scene.fs.read(nodeid, fh, 0, 100) == b"012\0\0\0"


@pytest.mark.promise("size-1")
def test_size_through_a_handle_for_reading(scene: Scene) -> None:
    """open(O_RDONLY | O_TRUNC) of a guest without atomic truncation gets here so."""
    nodeid, fh = scene.open(b"file", os.O_RDONLY)
    assert scene.fs.setattr(nodeid, size=0, fh=fh).attr.size == 0


def test_size_beyond_the_file_systems_limit() -> None:
    with Share("disk") as share, share.scene() as scene:
        with pytest.raises(OSError, match="File too large") as direct:
            os.truncate(scene.twin + b"/file", 1 << 62)
        with pytest.raises(OSError, match="File too large"):
            scene.fs.setattr(scene.node(b"file"), size=1 << 62)
        assert direct.value.errno == EFBIG


@pytest.mark.promise("unlinked-1")
def test_attributes_of_an_unlinked_open_file(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    scene.fs.unlink(scene.top, b"file")
    for handle in (None, fh):
        assert scene.fs.getattr(nodeid, handle).attr.nlink == 0
        assert scene.fs.setattr(nodeid, mode=0o600, size=4, fh=handle).attr.size == 4
        assert scene.fs.setattr(nodeid, owner=5, mtime_ns=NS, fh=handle).attr.uid == 5
    assert scene.fs.read(nodeid, fh, 0, 100) == b"0123"
    assert scene.fs.write(nodeid, fh, 4, b"more") == 4
    assert scene.fs.getattr(nodeid).attr.size == 8


@pytest.mark.promise("unlinked-1")
def test_an_unlinked_file_that_nobody_has_open_can_be_opened(scene: Scene) -> None:
    """A guest process may have it mapped, or be about to open /proc/self/fd/N."""
    nodeid = scene.node(b"file")
    scene.fs.unlink(scene.top, b"file")
    assert scene.fs.getattr(nodeid).attr.nlink == 0
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    assert scene.fs.read(nodeid, fh, 0, 100) == b"0123456789"


@pytest.mark.promise("unlinked-2")
def test_an_unlinked_file_ends_with_its_last_user() -> None:
    """Its space comes back when the guest has released and forgotten it."""
    with Share("tmpfs") as share, share.scene() as scene:
        scene.mount(b"dir", "size=4m")
        entry, opened = scene.fs.create(scene.node(b"dir"), b"big")
        scene.fs.fallocate(entry.nodeid, opened.fh, 0, 2 << 20)
        scene.fs.unlink(scene.node(b"dir"), b"big")
        used = os.statvfs(scene.path(b"dir")).f_bfree
        scene.fs.release(entry.nodeid, opened.fh)
        scene.fs.forget(entry.nodeid)
        assert os.statvfs(scene.path(b"dir")).f_bfree - used == (2 << 20) // 4096


@pytest.mark.promise("unlinked-1")
def test_a_removed_directory_that_is_open(scene: Scene) -> None:
    nodeid, fh = scene.opendir(b"dir")
    scene.fs.rmdir(scene.top, b"dir")
    assert scene.fs.getattr(nodeid).attr.nlink == 0
    for _ in range(2):  # as getdents(2) on the host
        with pytest.raises(OSError, match="No such file"):
            scene.fs.readdir(nodeid, fh)
    with pytest.raises(OSError, match="No such file"):
        scene.fs.create(nodeid, b"new")


@pytest.mark.promise("rename-1")
def test_renaming_over_an_open_file(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    scene.fs.rename(scene.top, b"empty", scene.top, b"file")
    assert scene.fs.read(nodeid, fh, 0, 100) == b"0123456789"
    assert scene.fs.getattr(nodeid).attr.nlink == 0
    assert scene.fs.setattr(nodeid, size=2).attr.size == 2
    entry = scene.fs.lookup(scene.top, b"file")
    assert (entry.nodeid != nodeid, entry.attr.size) == (True, 0)


@pytest.mark.promise("rename-2")
def test_a_rename_keeps_nodes_and_handles(scene: Scene) -> None:
    nodeid, fh = scene.open(b"full/child")
    scene.fs.rename(scene.top, b"full", scene.node(b"dir"), b"moved")
    assert scene.node(b"dir/moved/child") == nodeid
    assert scene.fs.write(nodeid, fh, 0, b"X") == 1
    os.rename(scene.twin + b"/full", scene.twin + b"/dir/moved")
    with open(scene.twin + b"/dir/moved/child", "r+b") as file:
        file.write(b"X")
    assert tree(scene.path()) == tree(scene.twin)


@pytest.mark.promise("rename-2")
def test_exchange_keeps_both_nodes(scene: Scene) -> None:
    file, full = scene.node(b"file"), scene.node(b"full")
    scene.fs.rename2(scene.top, b"file", scene.top, b"full", 2)
    assert (scene.node(b"full"), scene.node(b"file")) == (file, full)
    assert scene.node(b"file/child")


@pytest.mark.promise("link-1")
def test_links_are_one_node(scene: Scene) -> None:
    nodeid = scene.node(b"file")
    entry = scene.fs.link(nodeid, scene.top, b"second")
    assert (entry.nodeid, entry.attr.nlink) == (nodeid, 2)
    scene.fs.unlink(scene.top, b"file")
    assert scene.fs.getattr(nodeid).attr.nlink == 1
    assert scene.node(b"second") == nodeid
    link = scene.fs.link(scene.node(b"link"), scene.top, b"another")
    assert os.readlink(scene.path(b"another")) == b"file"
    assert link.attr.nlink == 2
