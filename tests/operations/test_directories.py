# SPDX-License-Identifier: Apache-2.0
"""Listing: positions, small buffers, and a directory that changes meanwhile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import brief, brief_stat, make_file
from tests.operations.share import PLACES, Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operations.scene import Scene
    from tests.vmm.fuse_pack import Dirent

MANY = 10_000
DOTS = {b".", b".."}


@pytest.fixture(scope="module", params=list(PLACES))
def crowd(request: pytest.FixtureRequest) -> Iterator[Share]:
    """A share whose "crowd" has ten thousand names, of one file on disk, where making is slow."""
    with Share(request.param) as share:
        directory = share.root / "crowd"
        directory.mkdir()
        (directory / "file-00000").touch()
        for number in range(1, MANY):
            path = directory / f"file-{number:05}"
            if request.param == "disk":
                path.hardlink_to(directory / "file-00000")
            else:
                path.touch()
        yield share


def walk(scene: Scene, nodeid: int, fh: int, size: int, *, plus: bool = False) -> list[Dirent]:
    """All entries, reply by reply, from the start."""
    read = scene.fs.readdirplus if plus else scene.fs.readdir
    entries: list[Dirent] = []
    while page := read(nodeid, fh, entries[-1].off if entries else 0, size):
        entries += page
    return entries


def fill(scene: Scene, count: int) -> set[bytes]:
    """Files in "dir", with names of many lengths."""
    names = {b"%03d" % number + b"x" * (number * 7 % 250) for number in range(count)}
    for name in names:
        make_file(scene.path(b"dir/" + name))
    return names


@pytest.mark.promise("list-1")
@pytest.mark.parametrize("plus", [False, True], ids=["readdir", "readdirplus"])
@pytest.mark.parametrize("size", [450, 1000, 4096, 1 << 16])
def test_every_buffer_size_lists_each_name_once(scene: Scene, size: int, plus: bool) -> None:
    names = fill(scene, 100)
    nodeid, fh = scene.opendir(b"dir")
    listed = [entry.name for entry in walk(scene, nodeid, fh, size, plus=plus)]
    assert len(listed) == len(names) + 2
    assert set(listed) == names | DOTS


@pytest.mark.promise("list-1")
@pytest.mark.parametrize("size", [4096, 1 << 17])
def test_ten_thousand_entries(crowd: Share, size: int) -> None:
    nodeid = crowd.fs.lookup(1, b"crowd").nodeid
    names = crowd.fs.list_names(nodeid, size=size)
    assert len(names) == MANY
    assert set(names) == {b"file-%05d" % number for number in range(MANY)}


@pytest.mark.promise("list-2")
def test_ten_thousand_lookups_in_listings(crowd: Share) -> None:
    fs = crowd.fs
    nodeid = fs.lookup(1, b"crowd").nodeid
    fh = fs.opendir(nodeid).fh
    nodes: dict[bytes, int] = {}
    offset = 0
    while page := fs.readdirplus(nodeid, fh, offset, 1 << 17):
        nodes |= {e.name: e.entry.nodeid for e in page if e.entry and e.name not in DOTS}
        offset = page[-1].off
    assert len(nodes) == MANY
    assert len(set(nodes.values())) == (1 if crowd.place == "disk" else MANY)
    assert fs.lookup(nodeid, b"file-04321").nodeid == nodes[b"file-04321"]
    fs.forget(nodes[b"file-04321"])
    fs.getattr(nodes[b"file-04321"])
    fs.batch_forget([(node, 1) for node in nodes.values()])
    with pytest.raises(OSError, match="Stale"):
        fs.getattr(nodes[b"file-04321"])


@pytest.mark.promise("list-3")
def test_any_offset_can_be_returned_to(scene: Scene) -> None:
    """Telldir and seekdir: from each entry's offset on come the entries behind it."""
    fill(scene, 60)
    nodeid, fh = scene.opendir(b"dir")
    entries = walk(scene, nodeid, fh, 1000)
    for at in (40, 3, 59, 0, 17):
        page = scene.fs.readdir(nodeid, fh, entries[at].off, 1000)
        expected = entries[at + 1 : at + 1 + len(page)]
        assert [entry.name for entry in page] == [entry.name for entry in expected]


@pytest.mark.promise("list-3")
def test_offsets_are_the_same_through_another_handle(scene: Scene) -> None:
    fill(scene, 60)
    nodeid, fh = scene.opendir(b"dir")
    entries = walk(scene, nodeid, fh, 1000)
    other = scene.fs.opendir(nodeid).fh
    page = scene.fs.readdir(nodeid, other, entries[20].off, 1000)
    assert page[0].name == entries[21].name


@pytest.mark.promise("list-4")
def test_rewinding_shows_what_is_new(scene: Scene) -> None:
    nodeid, fh = scene.opendir(b"dir")
    assert {entry.name for entry in walk(scene, nodeid, fh, 1000)} == DOTS
    make_file(scene.path(b"dir/by-host"))
    scene.fs.mkdir(nodeid, b"by-guest")
    assert {entry.name for entry in walk(scene, nodeid, fh, 1000)} == DOTS | {
        b"by-host",
        b"by-guest",
    }
    os.unlink(scene.path(b"dir/by-host"))
    assert {entry.name for entry in walk(scene, nodeid, fh, 1000)} == DOTS | {b"by-guest"}


@pytest.mark.promise("list-5")
@pytest.mark.parametrize("plus", [False, True], ids=["readdir", "readdirplus"])
def test_removing_while_listing(scene: Scene, plus: bool) -> None:
    """As rm -r does it: nothing is missed, nothing comes twice."""
    names = fill(scene, 300)
    nodeid, fh = scene.opendir(b"dir")
    read = scene.fs.readdirplus if plus else scene.fs.readdir
    seen: list[bytes] = []
    offset = 0
    while page := read(nodeid, fh, offset, 2000):
        offset = page[-1].off
        for entry in page:
            if entry.name not in DOTS:
                seen.append(entry.name)
                scene.fs.unlink(nodeid, entry.name)
    assert len(seen) == len(names)
    assert set(seen) == names
    scene.fs.rmdir(scene.top, b"dir")


@pytest.mark.promise("list-5")
def test_what_the_host_removes_is_not_looked_up(scene: Scene) -> None:
    """READDIRPLUS leaves out what went between its two calls, and does not fail."""
    names = fill(scene, 50)
    nodeid, fh = scene.opendir(b"dir")
    first = scene.fs.readdirplus(nodeid, fh, 0, 2000)
    for name in names:
        os.unlink(scene.path(b"dir/" + name))
    rest = scene.fs.readdirplus(nodeid, fh, first[-1].off, 2000)
    assert {entry.name for entry in rest} <= DOTS


@pytest.mark.promise("list-2")
def test_entries_of_a_listing_are_lookups(scene: Scene) -> None:
    nodeid, fh = scene.opendir()
    for entry in walk(scene, nodeid, fh, 1000, plus=True):
        assert entry.entry is not None
        if entry.name in DOTS:
            assert entry.entry.nodeid == 0
            continue
        assert entry.entry.nodeid == scene.node(entry.name)
        assert brief(entry.entry.attr) == brief_stat(os.lstat(scene.path(entry.name)))
        scene.fs.forget(entry.entry.nodeid, 2)
        with pytest.raises(OSError, match="Stale"):
            scene.fs.getattr(entry.entry.nodeid)


@pytest.mark.promise("list-2")
def test_what_did_not_fit_is_not_counted() -> None:
    """Else the nodes of a listing in small pieces would never be forgotten."""
    with Share("tmpfs") as share, share.scene() as scene:
        names = fill(scene, 40)
        nodeid, fh = scene.opendir(b"dir")
        counts: dict[int, int] = {}
        offset = 0
        while page := scene.fs.readdirplus(nodeid, fh, offset, 700):
            offset = page[0].off  # what came behind the first is read again
            for entry in page:
                if entry.entry is not None and entry.entry.nodeid:
                    counts[entry.entry.nodeid] = counts.get(entry.entry.nodeid, 0) + 1
        assert len(counts) == len(names)
        scene.fs.batch_forget([(node, count - 1) for node, count in counts.items() if count > 1])
        for node in counts:
            scene.fs.getattr(node)
        scene.fs.batch_forget([(node, 1) for node in counts])
        for node in counts:
            with pytest.raises(OSError, match="Stale"):
                scene.fs.getattr(node)


@pytest.mark.promise("list-6")
def test_the_roots_parent_is_the_root(share: Share) -> None:
    fs = share.fs
    fh = fs.opendir(1).fh
    dots = {entry.name: entry.ino for entry in fs.readdir(1, fh) if entry.name in DOTS}
    assert dots[b".."] == dots[b"."] == os.stat(share.root).st_ino


def test_two_handles_list_by_themselves(scene: Scene) -> None:
    names = fill(scene, 60)
    nodeid, first = scene.opendir(b"dir")
    second = scene.fs.opendir(nodeid, queue=2).fh
    listed: dict[int, list[bytes]] = {first: [], second: []}
    offsets = {first: 0, second: 0}
    running = [first, second]
    while running:
        for fh in list(running):
            page = scene.fs.readdir(nodeid, fh, offsets[fh], 700, queue=1 + (fh == second))
            if not page:
                running.remove(fh)
                continue
            offsets[fh] = page[-1].off
            listed[fh] += [entry.name for entry in page]
    assert [set(found) for found in listed.values()] == [names | DOTS] * 2
