# SPDX-License-Identifier: Apache-2.0
"""Other file systems below the root, and what lies outside of it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import CONTENT, make_file
from tests.operations.share import PLAIN, Share
from tests.vmm import ROOT_ID, Opcode
from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import LINUX_6_12, Attr, Init

if TYPE_CHECKING:
    from tests.operations.scene import Scene


@pytest.mark.promise("mount-1")
def test_a_mount_point_is_announced(scene: Scene) -> None:
    """The guest mounts it apart, so that inode numbers may come twice."""
    assert not scene.fs.lookup(scene.top, b"dir").attr.flags & Attr.SUBMOUNT
    scene.mount()
    entry = scene.fs.lookup(scene.top, b"dir")
    assert entry.attr.flags & Attr.SUBMOUNT
    assert entry.attr.ino == os.stat(scene.path(b"dir")).st_ino
    assert scene.fs.getattr(entry.nodeid).attr.flags & Attr.SUBMOUNT
    listed = {e.name: e.entry for e in scene.fs.readdirplus(*scene.opendir()) if e.entry}
    assert listed[b"dir"].attr.flags & Attr.SUBMOUNT
    assert not listed[b"full"].attr.flags & Attr.SUBMOUNT
    child = scene.fs.mkdir(entry.nodeid, b"child")
    assert not child.attr.flags & Attr.SUBMOUNT


@pytest.mark.promise("mount-1")
def test_not_to_a_guest_that_does_not_know_them() -> None:
    with Share("tmpfs", flags=LINUX_6_12 & ~Init.SUBMOUNTS) as share, share.scene() as scene:
        scene.mount()
        assert scene.fs.lookup(scene.top, b"dir").attr.flags == 0


@pytest.mark.promise("mount-2")
def test_all_works_below_a_mount_point(scene: Scene) -> None:
    scene.mount()
    top = scene.node(b"dir")
    entry, opened = scene.fs.create(top, b"new")
    scene.fs.write(entry.nodeid, opened.fh, 0, b"data")
    assert scene.fs.link(entry.nodeid, top, b"second").attr.nlink == 2
    scene.fs.rename(top, b"new", top, b"newer")
    scene.fs.unlink(top, b"second")
    assert scene.fs.statfs(top).blocks == (1 << 20) // 4096
    assert os.listdir(scene.path(b"dir")) == [b"newer"]
    scene.fs.syncfs(top)


@pytest.mark.promise("mount-2")
def test_what_a_mount_hides_is_another_node(scene: Scene) -> None:
    hidden = scene.node(b"dir")
    scene.mount()
    assert scene.node(b"dir") != hidden


@pytest.mark.promise("mount-3")
def test_a_file_bound_over_another(scene: Scene) -> None:
    make_file(scene.path(b"other"), b"bound")
    words = [b"mount", b"--bind", scene.path(b"other"), scene.path(b"file")]
    subprocess.run(words, check=True)
    scene.on_exit(subprocess.run, [b"umount", b"-l", scene.path(b"file")])
    nodeid, fh = scene.open(b"file")
    assert scene.fs.read(nodeid, fh, 0, 100) == b"bound"
    assert scene.fs.getattr(nodeid).attr.flags == 0


@pytest.mark.promise("mount-3")
def test_a_directory_bound_elsewhere(scene: Scene) -> None:
    """The same inodes under two mounts: changes through the one are seen through the other."""
    words = [b"mount", b"--bind", scene.path(b"full"), scene.path(b"dir")]
    subprocess.run(words, check=True)
    scene.on_exit(subprocess.run, [b"umount", b"-l", scene.path(b"dir")])
    nodeid, fh = scene.open(b"dir/child")
    scene.fs.write(nodeid, fh, 0, b"X")
    other, fh = scene.open(b"full/child")
    assert scene.fs.read(other, fh, 0, 2) == b"X1"
    assert scene.fs.getattr(other).attr.ino == scene.fs.getattr(nodeid).attr.ino
    scene.fs.unlink(scene.node(b"full"), b"child")
    assert scene.fs.getattr(nodeid).attr.nlink == 0


@pytest.mark.promise("mount-4")
def test_the_host_can_unmount_what_the_guest_has_forgotten() -> None:
    with Share("tmpfs", PLAIN) as share, share.scene() as scene:
        scene.mount()
        entry, opened = scene.fs.create(scene.node(b"dir"), b"new")
        scene.fs.release(entry.nodeid, opened.fh)
        root = scene.node(b"dir")
        busy = subprocess.run([b"umount", scene.path(b"dir")], capture_output=True, check=False)
        assert busy.returncode != 0
        scene.fs.forget(entry.nodeid)
        scene.fs.forget(root, 2)
        subprocess.run([b"umount", scene.path(b"dir")], check=True)
        assert scene.fs.lookup(scene.top, b"dir").attr.flags == 0


# What is outside.


@pytest.mark.promise("root-1")
def test_a_symlink_is_never_followed_by_the_host(scene: Scene) -> None:
    os.symlink(b"/", scene.path(b"slash"))
    os.symlink(b"../..", scene.path(b"up"))
    for name in (b"slash", b"up", b"link"):
        nodeid = scene.node(name)
        for call in (
            lambda nodeid=nodeid: scene.fs.lookup(nodeid, b"etc"),
            lambda nodeid=nodeid: scene.fs.opendir(nodeid),
            lambda nodeid=nodeid: scene.fs.mkdir(nodeid, b"new"),
            lambda nodeid=nodeid: scene.fs.create(nodeid, b"new"),
            lambda nodeid=nodeid: scene.fs.unlink(nodeid, b"x"),
            lambda nodeid=nodeid: scene.fs.rename(scene.top, b"empty", nodeid, b"x"),
        ):
            with pytest.raises(NotADirectoryError):
                call()
        with pytest.raises(OSError, match="symbolic links"):
            scene.fs.open(nodeid)
    assert scene.fs.readlink(scene.node(b"slash")) == b"/"


@pytest.mark.promise("root-1")
def test_a_symlink_in_the_place_of_a_known_file_is_not_followed(scene: Scene) -> None:
    """The host exchanges it between the guest's LOOKUP and its next request."""
    make_file(scene.twin + b"/secret", b"outside")
    nodeid = scene.node(b"file")
    os.rename(scene.path(b"file"), scene.path(b"moved"))
    os.symlink(scene.twin + b"/secret", scene.path(b"file"))
    fh = scene.fs.open(nodeid).fh
    assert scene.fs.read(nodeid, fh, 0, 100) == CONTENT
    scene.fs.setattr(nodeid, size=0)
    assert os.path.getsize(scene.twin + b"/secret") == len(b"outside")
    with pytest.raises(OSError, match="symbolic links"):
        scene.fs.create(scene.top, b"file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)


NAMED = {
    Opcode.LOOKUP: b"%s\0",
    Opcode.MKDIR: wire.MkdirIn(0o755, 0).pack() + b"%s\0",
    Opcode.MKNOD: wire.MknodIn(0o100644, 0, 0).pack() + b"%s\0",
    Opcode.SYMLINK: b"%s\0target\0",
    Opcode.UNLINK: b"%s\0",
    Opcode.RMDIR: b"%s\0",
    Opcode.CREATE: wire.CreateIn(os.O_RDWR | os.O_CREAT, 0o100644, 0).pack() + b"%s\0",
    Opcode.RENAME: wire.RenameIn(ROOT_ID).pack() + b"%s\0new\0",
    Opcode.RENAME2: wire.Rename2In(ROOT_ID, 0).pack() + b"%s\0new\0",
}
BAD_NAMES = (b"..", b".", b"../outside", b"a/../../outside", b"/etc", b"/", b"dir/", b"")


@pytest.mark.promise("root-2")
@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("opcode", NAMED)
def test_a_name_is_one_component(memory_scene: Scene, opcode: Opcode, name: bytes) -> None:
    share = memory_scene.share
    make_file(os.fsencode(share.work) + b"/outside", b"outside")
    before = sorted(os.listdir(share.work))
    args = NAMED[opcode].replace(b"%s", name)
    with pytest.raises(OSError, match=r"Invalid argument|No such file"):
        memory_scene.fs.request(opcode, ROOT_ID, args, 4096)
    assert sorted(os.listdir(share.work)) == before


@pytest.mark.promise("root-2")
@pytest.mark.parametrize("opcode", [Opcode.RENAME, Opcode.RENAME2, Opcode.LINK])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_new_name_is_one_component(memory_scene: Scene, opcode: Opcode, name: bytes) -> None:
    args = {
        Opcode.RENAME: wire.RenameIn(memory_scene.top).pack() + b"file\0" + name + b"\0",
        Opcode.RENAME2: wire.Rename2In(memory_scene.top, 0).pack() + b"file\0" + name + b"\0",
        Opcode.LINK: wire.LinkIn(memory_scene.node(b"file")).pack() + name + b"\0",
    }[opcode]
    with pytest.raises(OSError, match=r"Invalid argument|No such file"):
        memory_scene.fs.request(opcode, memory_scene.top, args, 4096)
    assert os.path.exists(memory_scene.path(b"file"))


@pytest.mark.promise("root-3")
def test_the_root_stays_when_the_host_moves_it() -> None:
    with Share("tmpfs") as share:
        os.rename(share.root, share.work / "moved")
        share.root.mkdir()
        share.fs.mkdir(ROOT_ID, b"new")
        assert os.listdir(share.work / "moved") == ["new"]
        assert os.listdir(share.root) == []
