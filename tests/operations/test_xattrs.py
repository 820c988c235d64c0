# SPDX-License-Identifier: Apache-2.0
"""Extended attributes; access control lists with the option and without."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from tests.operations.rows import ROWS
from tests.operations.scene import outcome, set_mode
from tests.operations.share import PLAIN, Share
from tests.vmm import Opcode
from tests.vmm.fuse_flags import LINUX_6_12, SETXATTR_ACL_KILL_SGID, Init

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operations.scene import Scene

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFF_FFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as the attribute has it: (tag, permissions, id) of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


LIST = acl(
    (USER_OBJ, 7, NO_ID),
    (USER, 6, 1000),
    (GROUP_OBJ, 5, NO_ID),
    (GROUP, 7, 2000),
    (MASK, 7, NO_ID),
    (OTHER, 0, NO_ID),
)


@pytest.fixture(scope="module", params=["disk", "tmpfs"])
def acl_share(request: pytest.FixtureRequest) -> Iterator[Share]:
    """A daemon with --posix-acl."""
    with Share(request.param, [*PLAIN, "--posix-acl"]) as made:
        yield made


@pytest.fixture
def acl_scene(acl_share: Share) -> Iterator[Scene]:
    """A fresh scene of it."""
    with acl_share.scene() as made:
        yield made


@pytest.mark.promise("xattr-1")
def test_size_zero_asks_for_the_size(scene: Scene) -> None:
    nodeid = scene.node(b"file")
    scene.fs.setxattr(nodeid, b"user.one", b"12345")
    scene.fs.setxattr(nodeid, b"user.empty", b"")
    assert scene.fs.getxattr_size(nodeid, b"user.one") == 5
    assert scene.fs.getxattr_size(nodeid, b"user.empty") == 0
    assert scene.fs.getxattr(nodeid, b"user.one", size=5) == b"12345"
    assert scene.fs.getxattr(nodeid, b"user.empty") == b""
    names = {b"user.one", b"user.empty"}
    assert names <= set(scene.fs.listxattr(nodeid))
    assert scene.fs.listxattr_size(nodeid) == len(b"user.one\0user.empty\0")


@pytest.mark.promise("xattr-1")
def test_nothing_to_list(scene: Scene) -> None:
    assert scene.fs.listxattr_size(scene.node(b"file")) == 0
    assert scene.fs.listxattr(scene.node(b"file"), size=1) == []


@pytest.mark.promise("xattr-1")
@pytest.mark.parametrize("size", [1, 3000, 4000, 30000, 65536])
def test_values_of_any_size_are_the_hosts(scene: Scene, size: int) -> None:
    """64 KiB are the kernel's bound; a file system may have a lower one, and that is its errno."""
    value = os.urandom(size)
    ours = outcome(lambda: scene.fs.setxattr(scene.node(b"file"), b"user.big", value))
    direct = outcome(lambda: os.setxattr(scene.twin + b"/file", b"user.big", value))
    assert ours == direct
    if ours is None:
        assert scene.fs.getxattr(scene.node(b"file"), b"user.big") == value
        assert os.getxattr(scene.path(b"file"), b"user.big") == value
    else:
        assert os.listxattr(scene.path(b"file")) == []


@pytest.mark.promise("xattr-2")
def test_create_and_replace(scene: Scene) -> None:
    nodeid = scene.node(b"dir")
    scene.fs.setxattr(nodeid, b"user.one", b"1", os.XATTR_CREATE)
    scene.fs.setxattr(nodeid, b"user.one", b"22", os.XATTR_REPLACE)
    scene.fs.setxattr(nodeid, b"user.one", b"333")
    assert os.getxattr(scene.path(b"dir"), b"user.one") == b"333"
    with pytest.raises(OSError, match="Invalid argument"):
        scene.fs.setxattr(nodeid, b"user.one", b"4", 0x80)


@pytest.mark.promise("xattr-3")
@pytest.mark.parametrize("name", [b"file", b"dir", b"link", b"fifo", b"null"])
def test_trusted_and_security_attributes_go_through(scene: Scene, name: bytes) -> None:
    nodeid = scene.node(name)
    for attribute in (b"trusted.ovfs", b"security.ovfs"):
        scene.fs.setxattr(nodeid, attribute, b"value")
        path = scene.path(name)
        assert os.getxattr(path, attribute, follow_symlinks=False) == b"value"
        assert scene.fs.getxattr(nodeid, attribute) == b"value"
        scene.fs.removexattr(nodeid, attribute)
        assert os.listxattr(path, follow_symlinks=False) == []


@pytest.mark.promise("xattr-3")
def test_the_hosts_symlinks_target_keeps_its_own(scene: Scene) -> None:
    scene.fs.setxattr(scene.node(b"link"), b"trusted.ovfs", b"of the link")
    assert os.listxattr(scene.path(b"file")) == []


def test_a_name_of_255_bytes(scene: Scene) -> None:
    name = b"user." + b"n" * 250
    scene.fs.setxattr(scene.node(b"file"), name, b"v")
    assert scene.fs.listxattr(scene.node(b"file")) == [name]
    with pytest.raises(OSError, match=r"Numerical result out of range|File name too long"):
        scene.fs.setxattr(scene.node(b"file"), name + b"n", b"v")


@pytest.mark.promise("xattr-4")
@pytest.mark.parametrize(
    "opcode", [Opcode.SETXATTR, Opcode.GETXATTR, Opcode.LISTXATTR, Opcode.REMOVEXATTR]
)
def test_without_the_option_there_are_none(opcode: Opcode) -> None:
    """ENOSYS, so that the guest asks once and not for every file it writes."""
    with Share("tmpfs", ["--entry-timeout", "0"]) as share, share.scene() as scene:
        with pytest.raises(OSError, match="Function not implemented"):
            ROWS[opcode].guest(scene, {})
        assert not share.fs.init_flags & (Init.SETXATTR_EXT | Init.SECURITY_CTX | Init.POSIX_ACL)


@pytest.mark.promise("acl-1")
@pytest.mark.parametrize("name", [ACCESS, DEFAULT])
def test_without_the_option_lists_are_not_supported(scene: Scene, name: bytes) -> None:
    """Nobody would evaluate them in the guest; the host's own are not shown either."""
    path = scene.path(b"dir")
    os.setxattr(path, name, LIST)
    nodeid = scene.node(b"dir")
    for call in (
        lambda: scene.fs.getxattr(nodeid, name),
        lambda: scene.fs.setxattr(nodeid, name, LIST),
        lambda: scene.fs.removexattr(nodeid, name),
    ):
        with pytest.raises(OSError, match="not supported"):
            call()
    assert scene.fs.listxattr(nodeid) == []
    assert os.getxattr(path, name) == LIST
    assert not scene.fs.init_flags & Init.POSIX_ACL


@pytest.mark.promise("acl-2")
def test_lists_are_the_hosts(acl_scene: Scene) -> None:
    fs = acl_scene.fs
    nodeid = acl_scene.node(b"file")
    assert fs.init_flags & Init.POSIX_ACL
    assert fs.init_flags & Init.DONT_MASK
    fs.setxattr(nodeid, ACCESS, LIST)
    assert os.getxattr(acl_scene.path(b"file"), ACCESS) == LIST
    assert fs.getxattr(nodeid, ACCESS) == LIST
    assert fs.listxattr(nodeid) == [ACCESS]
    assert stat.S_IMODE(fs.getattr(nodeid).attr.mode) == 0o770
    fs.removexattr(nodeid, ACCESS)
    assert os.listxattr(acl_scene.path(b"file")) == []


@pytest.mark.promise("acl-3")
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("kind", ["file", "dir", "fifo"])
def test_a_default_list_takes_the_umasks_place(acl_scene: Scene, kind: str, listed: bool) -> None:
    """Without one the umask counts, and it is the daemon's side that applies it."""
    default = acl(
        (USER_OBJ, 7, NO_ID),
        (USER, 7, 1000),
        (GROUP_OBJ, 7, NO_ID),
        (MASK, 7, NO_ID),
        (OTHER, 5, NO_ID),
    )

    def put(top: bytes) -> None:
        if listed:
            os.setxattr(top + b"/dir", DEFAULT, default)

    acl_scene.both(put)
    fs, parent = acl_scene.fs, acl_scene.node(b"dir")
    path = acl_scene.twin + b"/dir/new"
    previous = os.umask(0o077)
    if kind == "file":
        mode = fs.create(parent, b"new", mode=0o100666, umask=0o077)[0].attr.mode
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o666))
    elif kind == "dir":
        mode = fs.mkdir(parent, b"new", 0o777, umask=0o077).attr.mode
        os.mkdir(path, 0o777)
    else:
        mode = fs.mknod(parent, b"new", stat.S_IFIFO | 0o666, umask=0o077).attr.mode
        os.mkfifo(path, 0o666)
    os.umask(previous)
    assert oct(mode) == oct(os.lstat(path).st_mode)
    mine = acl_scene.path(b"dir/new")
    assert os.listxattr(mine) == os.listxattr(path)
    for name in os.listxattr(path):
        assert os.getxattr(mine, name) == os.getxattr(path, name)


@pytest.mark.promise("acl-4")
def test_setting_a_list_kills_setgid_where_the_guest_says_so(acl_scene: Scene) -> None:
    nodeid = acl_scene.node(b"tool")
    for flags, left in ((0, 0o2000), (SETXATTR_ACL_KILL_SGID, 0)):
        set_mode(acl_scene.path(b"tool"), 0o2755)
        acl_scene.fs.setxattr(nodeid, ACCESS, LIST, setxattr_flags=flags)
        assert os.stat(acl_scene.path(b"tool")).st_mode & 0o2000 == left


@pytest.mark.promise("acl-5")
def test_a_guest_that_cannot_have_lists_is_not_told_of_them() -> None:
    flags = LINUX_6_12 & ~Init.DONT_MASK
    with Share("tmpfs", [*PLAIN, "--posix-acl"], flags=flags) as share:
        assert not share.fs.init_flags & Init.POSIX_ACL
