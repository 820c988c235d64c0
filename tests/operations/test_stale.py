# SPDX-License-Identifier: Apache-2.0
"""Node ids and handles that the session does not hold: ESTALE or EBADF, whatever the opcode.

Every row of the table is asked again, with the node id or the handle of its request exchanged on
the way to the queue.
"""

from __future__ import annotations

import contextlib
import os
import struct
from errno import EBADF, ESTALE
from typing import TYPE_CHECKING, Any

import pytest

from tests.operations.rows import ROWS
from tests.operations.scene import brief, make_file, outcome
from tests.operations.share import PLAIN, Share
from tests.operations.tree import tree
from tests.vmm import FuseClient, Opcode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.operations.scene import Scene
    from tests.operations.table import Row

#: A daemon that can keep only some hundred files open.
FEW_DESCRIPTORS = [*PLAIN, "--rlimit-nofile", "512"]

WITH_NODE = [row for row in ROWS.values() if row.checks != "nothing"]
WITH_HANDLE = [row for row in ROWS.values() if row.checks == "handle"]
STALE, NOT_OPEN = os.strerror(ESTALE), os.strerror(EBADF)
OF_DIRECTORIES = {Opcode.READDIR, Opcode.READDIRPLUS, Opcode.RELEASEDIR, Opcode.FSYNCDIR}


@contextlib.contextmanager
def rewritten(
    fs: FuseClient, opcode: Opcode, change: Callable[[int, bytes], tuple[int, bytes]]
) -> Iterator[None]:
    """Requests of this opcode get another node id and other arguments before they are sent."""
    submit = fs.submit

    def forged(number: int, nodeid: int, args: bytes = b"", *rest: Any, **how: Any) -> Any:
        if number == opcode:
            nodeid, args = change(nodeid, args)
        return submit(number, nodeid, args, *rest, **how)

    fs.submit = forged  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del fs.submit


def _error(scene: Scene, row: Row, change: Callable[[int, bytes], tuple[int, bytes]]) -> str:
    with rewritten(scene.fs, row.opcode, change):
        return str(outcome(lambda: row.guest(scene, {})))


def _forgotten(scene: Scene) -> int:
    """A node id that was the session's."""
    nodeid = scene.node(b"tool")
    scene.fs.forget(nodeid)
    return nodeid


FORGED_NODES: dict[str, Callable[[Scene], int]] = {
    "zero": lambda _: 0,
    "never-given": lambda _: 0x1234_5678,
    "highest": lambda _: (1 << 64) - 1,
    "same-slot-earlier": lambda scene: scene.node(b"tool") ^ 1 << 32,
    "forgotten": _forgotten,
}


@pytest.mark.promise("stale-1")
@pytest.mark.parametrize("forged", FORGED_NODES)
@pytest.mark.parametrize("row", WITH_NODE, ids=lambda row: row.opcode.name)
def test_a_node_that_is_not_held(memory_scene: Scene, row: Row, forged: str) -> None:
    nodeid = FORGED_NODES[forged](memory_scene)
    error = _error(memory_scene, row, lambda _, args: (nodeid, args))
    # Where the handle names the file, it is the handle that does not belong to this node.
    assert error == STALE or (error == NOT_OPEN and row.checks == "handle")


def _released(scene: Scene, row: Row) -> int:
    nodeid = scene.top if row.opcode in OF_DIRECTORIES else scene.node(b"file")
    if row.opcode in OF_DIRECTORIES:
        fh = scene.fs.opendir(nodeid).fh
        scene.fs.releasedir(nodeid, fh)
    else:
        fh = scene.fs.open(nodeid).fh
        scene.fs.release(nodeid, fh)
    return fh


FORGED_HANDLES: dict[str, Callable[[Scene, Row], int]] = {
    "zero": lambda _scene, _row: 0,
    "never-given": lambda _scene, _row: 0x1234_5678,
    "highest": lambda _scene, _row: (1 << 64) - 1,
    "released": _released,
    "of-another-file": lambda scene, _row: scene.open(b"tool")[1],
    "of-another-directory": lambda scene, _row: scene.opendir(b"dir")[1],
}


@pytest.mark.promise("stale-2")
@pytest.mark.parametrize("forged", FORGED_HANDLES)
@pytest.mark.parametrize("row", WITH_HANDLE, ids=lambda row: row.opcode.name)
def test_a_handle_that_is_not_held(memory_scene: Scene, row: Row, forged: str) -> None:
    fh = FORGED_HANDLES[forged](memory_scene, row)
    packed = struct.pack("<Q", fh)
    error = _error(memory_scene, row, lambda nodeid, args: (nodeid, packed + args[8:]))
    assert error == NOT_OPEN


@pytest.mark.promise("stale-2")
@pytest.mark.parametrize("opcode", [Opcode.GETATTR, Opcode.SETATTR, Opcode.STATX])
def test_a_handle_of_another_node_tells_nothing(memory_scene: Scene, opcode: Opcode) -> None:
    """Attributes through a handle are those of the node that the request names, or none."""
    fs = memory_scene.fs
    file = memory_scene.node(b"file")
    _, other = memory_scene.open(b"tool")
    calls: dict[Opcode, Callable[[], object]] = {
        Opcode.GETATTR: lambda: fs.getattr(file, other),
        Opcode.SETATTR: lambda: fs.setattr(file, size=0, fh=other),
        Opcode.STATX: lambda: fs.statx(file, other),
    }
    with pytest.raises(OSError, match="Bad file descriptor"):
        calls[opcode]()
    assert tree(memory_scene.path()) == tree(memory_scene.twin)


@pytest.mark.promise("stale-3")
def test_a_file_that_the_host_replaced_gets_a_new_node(scene: Scene) -> None:
    """On ext4 the new file has the old one's inode number, and is another node nevertheless."""
    old = scene.fs.lookup(scene.top, b"file")
    os.unlink(scene.path(b"file"))
    make_file(scene.path(b"file"), b"another file")
    new = scene.fs.lookup(scene.top, b"file")
    assert new.nodeid != old.nodeid
    assert new.attr.size == len(b"another file")
    # The old node is the old file, without a name, or gone: never the new one.
    left = outcome(lambda: brief(scene.fs.getattr(old.nodeid).attr))
    assert left in (STALE, (0o100644, 0, 0, 0, 10, 0))


def use_other_files(scene: Scene, count: int) -> None:
    """Makes the daemon need its descriptors for others than it has them for."""
    for number in range(count):
        name = b"other-%d" % number
        make_file(scene.path(name), b"another file")
        scene.node(name)


@pytest.mark.promise("stale-3")
def test_a_file_that_the_host_removed_is_stale_once_its_descriptor_is_gone() -> None:
    """The host's file system has nothing left then, but the number, which it gives to others."""
    with Share("disk", FEW_DESCRIPTORS) as share, share.scene() as scene:
        old = scene.fs.lookup(scene.top, b"file")
        os.unlink(scene.path(b"file"))
        use_other_files(scene, 600)
        assert share.daemon.fds() < 512
        for call in (scene.fs.getattr, scene.fs.open):
            with pytest.raises(OSError, match="Stale"):
                call(old.nodeid)


@pytest.mark.promise("unlinked-1")
@pytest.mark.parametrize("how", ["unlink", "rename", "rmdir"])
def test_what_the_guest_removed_itself_is_kept_for_it(how: str) -> None:
    """However many other files it looks up: a process may still have it mapped."""
    with Share("disk", FEW_DESCRIPTORS) as share, share.scene() as scene:
        fs = scene.fs
        old = scene.node(b"dir" if how == "rmdir" else b"file")
        if how == "unlink":
            fs.unlink(scene.top, b"file")
        elif how == "rename":
            fs.rename(scene.top, b"empty", scene.top, b"file")
        else:
            fs.rmdir(scene.top, b"dir")
        use_other_files(scene, 600)
        assert fs.getattr(old).attr.nlink == 0
        if how == "rmdir":
            assert fs.opendir(old).fh
        else:
            assert fs.read(old, fs.open(old).fh, 0, 100) == b"0123456789"


@pytest.mark.promise("stale-3")
def test_fifty_replacements_are_fifty_nodes(scene: Scene) -> None:
    nodes = set()
    for number in range(50):
        path = scene.path(b"file")
        os.unlink(path)
        make_file(path, b"%d" % number)
        entry = scene.fs.lookup(scene.top, b"file")
        nodes.add(entry.nodeid)
        fh = scene.fs.open(entry.nodeid).fh
        assert scene.fs.read(entry.nodeid, fh, 0, 100) == b"%d" % number
        scene.fs.release(entry.nodeid, fh)
    assert len(nodes) == 50


@pytest.mark.promise("stale-4")
def test_a_replaced_file_lives_on_for_who_has_it_open(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    os.unlink(scene.path(b"file"))
    make_file(scene.path(b"file"), b"another file")
    assert scene.fs.read(nodeid, fh, 0, 100) == b"0123456789"
    assert scene.fs.getattr(nodeid, fh).attr.nlink == 0
    scene.fs.release(nodeid, fh)


def test_renaming_on_the_host_keeps_the_node(scene: Scene) -> None:
    nodeid = scene.node(b"file")
    os.rename(scene.path(b"file"), scene.path(b"dir/moved"))
    assert scene.node(b"dir/moved") == nodeid
    assert scene.fs.getattr(nodeid).attr.size == 10
