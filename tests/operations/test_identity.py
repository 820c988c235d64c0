# SPDX-License-Identifier: Apache-2.0
"""Whose are the things a guest makes: owners, groups, modes, as on a local disk.

The twin's call is made by a process that has become the caller. For the daemon the guest's kernel
has checked permissions already; what is left to the host is what hangs on the caller's ids.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import set_mode
from tests.operations.share import Share
from tests.vmm.fuse_flags import LINUX_6_12, Init

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.operations.scene import Scene
    from tests.vmm.requests import How

ALICE, STAFF, OTHERS = 1000, 1000, 2000
SETGID_DIR = 0o2777


def make(
    scene: Scene,
    kind: str,
    parent: int,
    *,
    umask: int = 0o022,
    group: int | None = None,
    gid: int = STAFF,
) -> int:
    """Makes an object named "new" as Alice; returns its mode, as the reply says."""
    fs = scene.fs
    groups = [] if group is None else [group]
    who: How = {"uid": ALICE, "gid": gid}
    # Unless told that the server masks, the guest's kernel has done so.
    allowed = ~0 if fs.init_flags & Init.DONT_MASK else ~umask
    if kind == "symlink":
        return fs.symlink(parent, b"new", b"target", groups=groups, **who).attr.mode
    if kind == "dir":
        mode = 0o777 & allowed
        return fs.mkdir(parent, b"new", mode, umask=umask, groups=groups, **who).attr.mode
    if kind == "fifo":
        mode = stat.S_IFIFO | (0o777 & allowed)
        return fs.mknod(parent, b"new", mode, umask=umask, groups=groups, **who).attr.mode
    mode = stat.S_IFREG | (0o2777 & allowed)
    entry, opened = fs.create(parent, b"new", mode=mode, umask=umask, groups=groups, **who)
    fs.release(entry.nodeid, opened.fh)
    return entry.attr.mode


def host_make(top: bytes, kind: str) -> None:
    """The same in a directory of the host."""
    path = top + b"/new"
    if kind == "file":
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o2777))
    elif kind == "dir":
        os.mkdir(path, 0o777)
    elif kind == "fifo":
        os.mknod(path, stat.S_IFIFO | 0o777)
    else:
        os.symlink(b"target", path)


def as_caller(
    call: Callable[[], object], *, groups: list[int], umask: int = 0o022, gid: int = STAFF
) -> None:
    """Runs a call in a process that is Alice."""
    child = os.fork()
    if child == 0:
        try:
            os.umask(umask)
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(ALICE, ALICE, ALICE)
            call()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not return into pytest
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def owner(path: bytes) -> tuple[int, int, int]:
    """Mode, user, group."""
    st = os.lstat(path)
    return (st.st_mode, st.st_uid, st.st_gid)


def prepared(scene: Scene, bits: int, gid: int = OTHERS) -> int:
    """A directory "dir" with this mode and group, on both sides; its node."""

    def put(top: bytes) -> None:
        os.chown(top + b"/dir", 0, gid)
        os.chmod(top + b"/dir", bits)
        set_mode(top, 0o755)

    scene.both(put)
    return scene.node(b"dir")


KINDS = ("file", "dir", "fifo", "symlink")


@pytest.mark.promise("owner-1")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077], ids=oct)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_is_the_callers(scene: Scene, kind: str, umask: int) -> None:
    parent = prepared(scene, 0o777)
    mode = make(scene, kind, parent, umask=umask)
    as_caller(lambda: host_make(scene.twin + b"/dir", kind), groups=[], umask=umask)
    assert owner(scene.path(b"dir/new")) == owner(scene.twin + b"/dir/new")
    assert mode == os.lstat(scene.path(b"dir/new")).st_mode


@pytest.mark.promise("owner-2")
@pytest.mark.parametrize("group", [None, OTHERS])
@pytest.mark.parametrize("kind", KINDS)
def test_setgid_directories_hand_on_their_group(scene: Scene, kind: str, group: int | None) -> None:
    """With the group among the caller's supplementary ones, or not (and then no S_ISGID file)."""
    parent = prepared(scene, SETGID_DIR)
    make(scene, kind, parent, group=group)
    groups = [] if group is None else [group]
    as_caller(lambda: host_make(scene.twin + b"/dir", kind), groups=groups)
    assert owner(scene.path(b"dir/new")) == owner(scene.twin + b"/dir/new")


@pytest.mark.promise("owner-3")
@pytest.mark.parametrize("kind", KINDS)
def test_a_supplementary_group_opens_a_directory(scene: Scene, kind: str) -> None:
    parent = prepared(scene, 0o770)
    make(scene, kind, parent, group=OTHERS)
    as_caller(lambda: host_make(scene.twin + b"/dir", kind), groups=[OTHERS])
    assert owner(scene.path(b"dir/new")) == owner(scene.twin + b"/dir/new")


@pytest.mark.promise("owner-3")
def test_a_guest_that_sends_no_groups_is_believed() -> None:
    """An older kernel has checked them, and cannot say which it was."""
    flags = LINUX_6_12 & ~Init.CREATE_SUPP_GROUP
    with Share("tmpfs", flags=flags) as share, share.scene() as scene:
        parent = prepared(scene, 0o770)
        make(scene, "file", parent)
        assert owner(scene.path(b"dir/new"))[1:] == (ALICE, STAFF)


@pytest.mark.promise("owner-4")
def test_sticky_directories_do_not_bind_the_daemon(scene: Scene) -> None:
    """Who may remove what there is the guest's kernel's to say; it has said so."""
    parent = prepared(scene, 0o1777)
    make(scene, "file", parent)
    scene.fs.rename(parent, b"new", parent, b"newer", uid=OTHERS, gid=OTHERS)
    scene.fs.unlink(parent, b"newer", uid=OTHERS, gid=OTHERS)
    assert os.listdir(scene.path(b"dir")) == []


@pytest.mark.promise("owner-4")
def test_permissions_are_the_guests_to_check(scene: Scene) -> None:
    """A file nobody may touch is opened, read and written for whom the guest's kernel lets."""
    os.chmod(scene.path(b"file"), 0)
    nodeid = scene.node(b"file")
    fh = scene.fs.open(nodeid, os.O_RDWR, uid=ALICE, gid=STAFF).fh
    assert scene.fs.write(nodeid, fh, 0, b"X", uid=ALICE, gid=STAFF) == 1
    assert scene.fs.read(nodeid, fh, 0, 2, uid=ALICE, gid=STAFF) == b"X1"


@pytest.mark.promise("owner-1")
def test_the_callers_identity_does_not_stick(scene: Scene) -> None:
    """Callers alternate on one queue; each gets its own, root too."""
    parent = prepared(scene, 0o777)
    for number, uid in enumerate([ALICE, 0, OTHERS, 0, ALICE, ALICE]):
        name = b"n%d" % number
        entry = scene.fs.mkdir(parent, name, uid=uid, gid=uid)
        assert (entry.attr.uid, entry.attr.gid) == (uid, uid)
        assert owner(scene.path(b"dir/" + name))[1:] == (uid, uid)


@pytest.mark.promise("owner-1")
def test_tmpfile_is_the_callers(scene: Scene) -> None:
    parent = prepared(scene, 0o777)
    entry, opened = scene.fs.tmpfile(parent, mode=0o100640, uid=ALICE, gid=STAFF)
    assert (entry.attr.uid, entry.attr.gid) == (ALICE, STAFF)
    assert stat.S_IMODE(entry.attr.mode) == 0o640
    scene.fs.link(entry.nodeid, parent, b"new")
    scene.fs.release(entry.nodeid, opened.fh)
    assert owner(scene.path(b"dir/new"))[1:] == (ALICE, STAFF)


@pytest.mark.promise("owner-5")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFREG])
def test_special_files_are_made_and_never_opened(scene: Scene, kind: int) -> None:
    rdev = os.makedev(300, 70000)
    packed = (70000 & 0xFF) | 300 << 8 | (70000 & ~0xFF) << 12
    entry = scene.fs.mknod(scene.top, b"new", kind | 0o600, rdev=packed)
    os.mknod(scene.twin + b"/new", kind | 0o600, rdev)
    st = os.lstat(scene.path(b"new"))
    host = os.lstat(scene.twin + b"/new")
    assert (st.st_mode, st.st_rdev) == (host.st_mode, host.st_rdev)
    assert entry.attr.rdev == (packed if host.st_rdev else 0)
    if kind == stat.S_IFREG:
        return
    with pytest.raises(OSError, match="No such device or address"):
        scene.fs.open(entry.nodeid)


@pytest.mark.promise("owner-6")
def test_a_security_context_is_on_the_object_when_the_reply_comes(scene: Scene) -> None:
    label = b"system_u:object_r:user_home_t:s0\0"
    extension = scene.fs.create_extension(contexts=[(b"security.ovfs", label)])
    scene.fs.mkdir(scene.top, b"new-dir", extension=extension)
    scene.fs.create(scene.top, b"new-file", extension=extension)
    scene.fs.mknod(scene.top, b"new-fifo", stat.S_IFIFO | 0o600, extension=extension)
    scene.fs.symlink(scene.top, b"new-link", b"x", extension=extension)
    for name in (b"new-dir", b"new-file", b"new-fifo", b"new-link"):
        assert os.getxattr(scene.path(name), "security.ovfs", follow_symlinks=False) == label


@pytest.mark.promise("owner-6")
def test_an_object_that_cannot_have_its_context_is_not_made(scene: Scene) -> None:
    extension = scene.fs.create_extension(contexts=[(b"user.not-security", b"x")])
    with pytest.raises(OSError, match="Invalid argument"):
        scene.fs.mkdir(scene.top, b"new", extension=extension)
    with pytest.raises(OSError, match="Invalid argument"):
        scene.fs.create(scene.top, b"new", extension=extension)
    assert not os.path.lexists(scene.path(b"new"))
