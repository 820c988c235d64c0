# SPDX-License-Identifier: Apache-2.0
"""Set-id bits: gone when the guest's kernel says that they must go, left when it does not.

The daemon is root, whose own writes would leave them. The flag is set by a guest's kernel when the
process that writes, truncates or gives away has no CAP_FSETID there.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.operations.host import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE
from tests.operations.scene import set_mode
from tests.vmm import FuseClient, Opcode
from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import OPEN_KILL_SUIDGID, Setattr, Write

if TYPE_CHECKING:
    from tests.operations.scene import Scene

ALL = 0o6755
#: Mode before, mode after a write without CAP_FSETID: POSIX clears set-group-id only where it is
#: one, with group execution; without, it once meant mandatory locking.
KILLED = {0o6755: 0o755, 0o4755: 0o755, 0o2755: 0o755, 0o2745: 0o2745, 0o4644: 0o644}


def mode(scene: Scene, name: bytes = b"tool") -> int:
    """Permission and set-id bits on the host."""
    return stat.S_IMODE(os.lstat(scene.path(name)).st_mode)


def tool(scene: Scene, bits: int) -> int:
    """The node of a file with these bits."""
    os.chmod(scene.path(b"tool"), bits)
    return scene.node(b"tool")


def open_truncating(fs: FuseClient, nodeid: int, open_flags: int) -> None:
    """OPEN with O_TRUNC."""
    args = wire.OpenIn(os.O_WRONLY | os.O_TRUNC, open_flags).pack()
    fs.exact(Opcode.OPEN, nodeid, args, wire.OpenOut.wire_size())


@pytest.mark.promise("setid-1")
@pytest.mark.parametrize("queue", [1, 2])
@pytest.mark.parametrize(("before", "after"), KILLED.items(), ids=oct)
def test_write_kills(scene: Scene, before: int, after: int, queue: int) -> None:
    nodeid = tool(scene, before)
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    kill = Write.KILL_SUIDGID
    assert scene.fs.write(nodeid, fh, 0, b"x", write_flags=kill, uid=1000, queue=queue) == 1
    assert mode(scene) == after


@pytest.mark.promise("setid-2")
@pytest.mark.parametrize("bits", KILLED, ids=oct)
def test_write_without_the_flag_keeps(scene: Scene, bits: int) -> None:
    nodeid = tool(scene, bits)
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    assert scene.fs.write(nodeid, fh, 0, b"x") == 1
    assert mode(scene) == bits


@pytest.mark.promise("setid-1")
def test_flags_alternate_on_one_queue(scene: Scene) -> None:
    """The thread's capability is raised again after a request without it, and the other way."""
    nodeid = tool(scene, 0o4755)
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    for _ in range(3):
        set_mode(scene.path(b"tool"), 0o4755)
        scene.fs.write(nodeid, fh, 0, b"x")
        assert mode(scene) == 0o4755
        scene.fs.write(nodeid, fh, 0, b"x", write_flags=Write.KILL_SUIDGID)
        assert mode(scene) == 0o755


@pytest.mark.promise("setid-1")
@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_direct_and_large_writes_kill(scene: Scene, size: int) -> None:
    """These may go another way through the daemon: the ring, with rights of its own."""
    nodeid = tool(scene, 0o6755)
    fh = scene.fs.open(nodeid, os.O_RDWR | os.O_DIRECT).fh
    for _ in range(2):  # the second time the thread has just written without its capability
        os.chmod(scene.path(b"tool"), ALL)
        scene.fs.write(nodeid, fh, 0, b"x" * size)
        assert mode(scene) == ALL
        scene.fs.write(nodeid, fh, 0, b"x" * size, write_flags=Write.KILL_SUIDGID)
        assert mode(scene) == 0o755


@pytest.mark.promise("setid-1")
@pytest.mark.parametrize(("before", "after"), KILLED.items(), ids=oct)
def test_truncation_kills(scene: Scene, before: int, after: int) -> None:
    nodeid = tool(scene, before)
    scene.fs.setattr(nodeid, size=5)
    assert mode(scene) == before
    attr = scene.fs.setattr(nodeid, size=4, valid=Setattr.KILL_SUIDGID, uid=1000).attr
    assert stat.S_IMODE(attr.mode) == after


@pytest.mark.promise("setid-1")
def test_truncation_through_a_handle_kills(scene: Scene) -> None:
    nodeid = tool(scene, 0o6755)
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    scene.fs.setattr(nodeid, size=5, fh=fh)
    assert mode(scene) == 0o6755
    scene.fs.setattr(nodeid, size=4, fh=fh, valid=Setattr.KILL_SUIDGID)
    assert mode(scene) == 0o755


@pytest.mark.promise("setid-1")
@pytest.mark.parametrize(("before", "after"), KILLED.items(), ids=oct)
def test_opening_with_truncation_kills(scene: Scene, before: int, after: int) -> None:
    nodeid = tool(scene, before)
    open_truncating(scene.fs, nodeid, 0)
    assert mode(scene) == before
    scene.fs.setattr(nodeid, size=5)
    open_truncating(scene.fs, nodeid, OPEN_KILL_SUIDGID)
    assert mode(scene) == after


@pytest.mark.promise("setid-3")
@pytest.mark.parametrize("bits", KILLED, ids=oct)
def test_changing_the_owner_is_as_on_the_host(scene: Scene, bits: int) -> None:
    nodeid = tool(scene, bits)
    os.chmod(scene.twin + b"/tool", bits)
    scene.fs.setattr(nodeid, owner=1000, group=1000)
    os.chown(scene.twin + b"/tool", 1000, 1000)
    assert mode(scene) == stat.S_IMODE(os.lstat(scene.twin + b"/tool").st_mode)


@pytest.mark.promise("setid-3")
def test_changing_the_group_as_a_user_kills(scene: Scene) -> None:
    nodeid = tool(scene, 0o6755)
    kill = Setattr.KILL_SUIDGID
    attr = scene.fs.setattr(nodeid, group=1000, valid=kill, uid=1000, gid=1000).attr
    assert stat.S_IMODE(attr.mode) == 0o755


@pytest.mark.promise("setid-4")
@pytest.mark.parametrize("bits", [0o6755, 0o2755, 0o1777, 0o7777], ids=oct)
def test_chmod_sets_what_it_says(scene: Scene, bits: int) -> None:
    """Also for a group that the daemon is not in: the guest's kernel has decided."""
    os.chown(scene.path(b"tool"), 1000, 4242)
    attr = scene.fs.setattr(scene.node(b"tool"), mode=0o100000 | bits, uid=1000, gid=1000).attr
    assert stat.S_IMODE(attr.mode) == bits


@pytest.mark.promise("setid-5")
@pytest.mark.parametrize("before", [0, Write.KILL_SUIDGID])
@pytest.mark.parametrize(("uid", "left"), [(0, 0o6755), (1000, 0o755)])
def test_space_and_copies_go_by_the_caller(
    scene: Scene, uid: int, left: int, before: Write
) -> None:
    """Whatever the thread has written for whom before."""
    nodeid = tool(scene, 0o6755)
    fh = scene.fs.open(nodeid, os.O_RDWR).fh
    scene.fs.write(*scene.open(b"file"), 0, b"x", write_flags=before)
    punch = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE
    scene.fs.fallocate(nodeid, fh, 0, 4, punch, uid=uid)
    assert oct(mode(scene)) == oct(left)
    os.chmod(scene.path(b"tool"), ALL)
    scene.fs.copy_file_range((*scene.open(b"file"), 0), (nodeid, fh, 0), 5, uid=uid)
    assert oct(mode(scene)) == oct(left)
