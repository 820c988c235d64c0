# SPDX-License-Identifier: Apache-2.0
"""Two daemons on one directory, each with a guest of its own: what the one does, the other sees."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.operations.share import PLAIN, Share
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operations.scene import Scene
    from tests.vmm import FuseClient


@pytest.fixture(scope="module", params=["disk", "tmpfs"])
def share(request: pytest.FixtureRequest) -> Iterator[Share]:
    """The first guest's."""
    with Share(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def second(share: Share) -> Iterator[Share]:
    """The second guest's, on the first one's directory."""
    with Share(share.place, PLAIN, directory=share.root) as made:
        yield made


def find(fs: FuseClient, scene: Scene, name: bytes) -> int:
    """The second guest's node of a name in the scene."""
    top = fs.lookup(ROOT_ID, os.path.basename(scene.path())).nodeid
    return fs.lookup(top, name).nodeid


@pytest.mark.promise("cache-3")
def test_what_one_writes_the_other_reads(scene: Scene, second: Share) -> None:
    nodeid, fh = scene.open(b"file")
    theirs = find(second.fs, scene, b"file")
    their_fh = second.fs.open(theirs, os.O_RDWR).fh
    for number in range(20):
        scene.fs.write(nodeid, fh, 0, b"%010d" % number)
        assert second.fs.read(theirs, their_fh, 0, 10) == b"%010d" % number
        second.fs.write(theirs, their_fh, 10, b"%05d" % number)
        assert scene.fs.read(nodeid, fh, 10, 5) == b"%05d" % number


@pytest.mark.promise("stale-4")
def test_what_one_unlinks_the_other_has_open(scene: Scene, second: Share) -> None:
    theirs = find(second.fs, scene, b"file")
    their_fh = second.fs.open(theirs, os.O_RDWR).fh
    scene.fs.unlink(scene.top, b"file")
    assert second.fs.write(theirs, their_fh, 0, b"X") == 1
    assert second.fs.read(theirs, their_fh, 0, 3) == b"X12"
    assert second.fs.getattr(theirs, their_fh).attr.nlink == 0
    with pytest.raises(FileNotFoundError):
        find(second.fs, scene, b"file")


@pytest.mark.promise("rename-2")
def test_what_one_renames_is_the_others_node_still(scene: Scene, second: Share) -> None:
    theirs = find(second.fs, scene, b"full")
    scene.fs.rename(scene.top, b"full", scene.node(b"dir"), b"moved")
    assert second.fs.lookup(theirs, b"child").attr.size == 10
    second.fs.mkdir(theirs, b"new")
    assert sorted(os.listdir(scene.path(b"dir/moved"))) == [b"child", b"new"]


@pytest.mark.promise("create-1")
def test_only_one_creates_exclusively(scene: Scene, second: Share) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    top = second.fs.lookup(ROOT_ID, os.path.basename(scene.path())).nodeid
    for number in range(10):
        name = b"lock-%d" % number
        winner, loser = (scene.fs, second.fs) if number % 2 else (second.fs, scene.fs)
        tops = {scene.fs: scene.top, second.fs: top}
        winner.create(tops[winner], name, flags)
        with pytest.raises(FileExistsError):
            loser.create(tops[loser], name, flags)
