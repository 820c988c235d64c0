# SPDX-License-Identifier: Apache-2.0
"""Promises that no test of an operation shows by the way."""

from __future__ import annotations

import os
from errno import ENOSPC
from typing import TYPE_CHECKING

import pytest

from ovfs.native.plane import opcode
from tests.operations.test_table import UNSERVED
from tests.vmm import Opcode

if TYPE_CHECKING:
    from tests.operations.scene import Scene
    from tests.operations.share import Share


@pytest.mark.promise("write-2")
def test_a_write_that_fails_in_part(scene: Scene) -> None:
    """A file system of 64 KiB takes the first part of a larger write; the second meets ENOSPC."""
    scene.mount(b"dir", "size=64k")
    entry, opened = scene.fs.create(scene.node(b"dir"), b"new")
    data = os.urandom(256 << 10)
    written = scene.fs.write(entry.nodeid, opened.fh, 0, data)
    assert 0 < written < len(data)
    assert scene.fs.getattr(entry.nodeid).attr.size == written
    assert scene.fs.read(entry.nodeid, opened.fh, 0, len(data)) == data[:written]
    with pytest.raises(OSError, match="No space left") as caught:
        scene.fs.write(entry.nodeid, opened.fh, written, data[written:])
    assert caught.value.errno == ENOSPC


@pytest.mark.promise("statfs-1")
def test_statfs_tells_of_the_nodes_file_system(scene: Scene) -> None:
    scene.mount(b"dir", "size=2m,nr_inodes=77")
    scene.mount(b"full", "size=1m")
    first = scene.fs.statfs(scene.node(b"dir"))
    assert (first.blocks * first.bsize, first.files) == (2 << 20, 77)
    second = scene.fs.statfs(scene.node(b"full"))
    assert second.blocks * second.bsize == 1 << 20
    outer = os.statvfs(scene.path())
    assert scene.fs.statfs(scene.node(b"file")).blocks == outer.f_blocks


@pytest.mark.promise("access-1")
@pytest.mark.parametrize(
    ("uid", "gid", "allowed"),
    [(0, 0, 0o6), (1000, 9, 0o7), (9, 1000, 0o4), (9, 9, 0o1)],
    ids=["root", "owner", "group", "others"],
)
def test_access_goes_by_the_mode(scene: Scene, uid: int, gid: int, allowed: int) -> None:
    """Of a file with mode 0741, or 0640 for root, whom it takes an x-bit to let run something."""
    os.chown(scene.path(b"file"), 1000, 1000)
    os.chmod(scene.path(b"file"), 0o640 if uid == 0 else 0o741)
    nodeid = scene.node(b"file")
    for mask in range(8):
        if mask & ~allowed:
            with pytest.raises(PermissionError):
                scene.fs.access(nodeid, mask, uid=uid, gid=gid)
        else:
            scene.fs.access(nodeid, mask, uid=uid, gid=gid)


@pytest.mark.promise("enosys-1")
def test_the_list_of_what_is_not_served_is_whole(memory_share: Share) -> None:
    named = {
        Opcode.BMAP,
        Opcode.POLL,
        Opcode.SETUPMAPPING,
        Opcode.REMOVEMAPPING,
        Opcode.NOTIFY_REPLY,
    }
    assert {number for number in UNSERVED if opcode(number) is not None} == named
    for number in named - {Opcode.NOTIFY_REPLY} | {0, 7, 19, 53, 4096, 0xFFFF_FFFF}:
        with pytest.raises(OSError, match="Function not implemented"):
            memory_share.fs.request(number, 1, bytes(64), 4096)
