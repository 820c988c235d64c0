# SPDX-License-Identifier: Apache-2.0
"""What a guest sees of changes elsewhere, and when."""

from __future__ import annotations

import os
import threading
from errno import ESTALE
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import outcome
from tests.semantics.remote.fake_s3 import Fault, writes
from tests.semantics.remote.share import FRESH, RemoteShare, eventually

if TYPE_CHECKING:
    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3
    from tests.semantics.remote.scene import Scene

KEEP_CACHE = 1 << 1
DIRECT_IO = 1 << 0
BLOCK = 1 << 16
LARGE = 24 << 20


@pytest.mark.promise("r-open-1")
def test_an_open_gets_what_was_closed_elsewhere(fresh: Scene) -> None:
    fresh.put("file", b"old")
    nodeid, fh = fresh.open("file", os.O_RDONLY)
    assert fresh.read(nodeid, fh) == b"old"
    fresh.fs.release(nodeid, fh)
    fresh.put("file", b"newer")
    opened = fresh.fs.open(nodeid, os.O_RDONLY)
    assert fresh.read(nodeid, opened.fh) == b"newer"
    assert fresh.fs.getattr(nodeid, opened.fh).attr.size == 5


@pytest.mark.promise("r-open-1")
def test_an_open_gets_what_another_guest_closed(make_share: MakeShare) -> None:
    """Two daemons with caches of their own; the second has opened the file before."""
    first, second = make_share(*FRESH), make_share(*FRESH)
    writer = first.scene()
    writer.save("file", b"one")
    nodeid = second.fs.lookup(second.fs.lookup(1, writer.name.encode()).nodeid, b"file").nodeid
    for content in (b"two", b"three"):
        writer.save("file", content)
        fh = second.fs.open(nodeid, os.O_RDONLY).fh
        assert second.fs.read(nodeid, fh, 0, 100) == content
        second.fs.release(nodeid, fh)


@pytest.mark.promise("r-open-1")
def test_the_bound_of_a_second(fake: FakeS3, make_fake_share: MakeShare) -> None:
    """With --cache auto an open right after another asks nothing; one a second later looks."""
    share = make_fake_share()
    scene = share.scene()
    scene.put("file", b"old")
    eventually(lambda: scene.node("file"))
    nodeid = scene.node("file")
    assert scene.load("file") == b"old"
    fh = scene.fs.open(nodeid, os.O_RDONLY).fh
    before = len(fake.calls)
    for _ in range(20):
        scene.fs.release(nodeid, scene.fs.open(nodeid, os.O_RDONLY).fh)
    assert len(fake.calls) - before <= 2
    scene.put("file", b"newer")

    def sees() -> bool:
        fh = scene.fs.open(nodeid, os.O_RDONLY).fh
        return scene.read(nodeid, fh) == b"newer"

    eventually(sees, 2.0)
    scene.fs.release(nodeid, fh)


@pytest.mark.promise("r-open-1")
def test_attr_timeout_changes_the_bound(fake: FakeS3, make_fake_share: MakeShare) -> None:
    share = make_fake_share("--attr-timeout", "1000", "--entry-timeout", "1000")
    fake.put("file", b"old")
    nodeid = share.fs.lookup(1, b"file").nodeid
    fh = share.fs.open(nodeid, os.O_RDONLY).fh
    assert share.fs.read(nodeid, fh, 0, 10) == b"old"
    fake.put("file", b"newer")
    before = len(fake.calls)
    fh = share.fs.open(nodeid, os.O_RDONLY).fh
    assert share.fs.read(nodeid, fh, 0, 10) == b"old"
    assert len(fake.calls) == before


@pytest.mark.promise("r-open-2")
def test_a_handle_of_an_older_version_is_stale(fresh: Scene) -> None:
    fresh.put("file", b"a" * LARGE)
    nodeid, old = fresh.open("file", os.O_RDONLY)
    assert fresh.fs.read(nodeid, old, 0, 10) == b"a" * 10
    fresh.put("file", b"b" * LARGE)
    new = fresh.fs.open(nodeid, os.O_RDONLY).fh
    assert fresh.fs.read(nodeid, new, LARGE - 10, 10) == b"b" * 10
    for offset in (0, LARGE // 2, LARGE - 10):
        with pytest.raises(OSError, match="Stale") as caught:
            fresh.fs.read(nodeid, old, offset, 10)
        assert caught.value.errno == ESTALE
    fresh.fs.release(nodeid, old)
    assert fresh.fs.read(nodeid, new, 0, 10) == b"b" * 10


@pytest.mark.promise("r-open-3")
@pytest.mark.parametrize("gone", ["replaced", "deleted"])
def test_bytes_of_a_version_that_is_gone(
    fake: FakeS3, make_fake_share: MakeShare, gone: str
) -> None:
    """What was read before reads again; no byte of the other version comes in its place."""
    share = make_fake_share("--cache", "always", "--attr-timeout", "1000")
    fake.put("file", os.urandom(BLOCK) + b"a" * (LARGE - BLOCK))
    nodeid = share.fs.lookup(1, b"file").nodeid
    fh = share.fs.open(nodeid, os.O_RDONLY).fh
    first = share.fs.read(nodeid, fh, 0, BLOCK)
    if gone == "replaced":
        fake.put("file", b"b" * LARGE)
    else:
        fake.delete("file")
    assert share.fs.read(nodeid, fh, 0, BLOCK) == first
    outcomes: set[object] = set()
    for offset in range(LARGE - BLOCK, BLOCK, -4 << 20):
        outcomes.add(outcome(partial(share.fs.read, nodeid, fh, offset, 10)))
    assert outcomes <= {b"a" * 10, os.strerror(ESTALE)}
    assert os.strerror(ESTALE) in outcomes


def opened_with(share: RemoteShare, nodeid: int) -> int:
    """The flags in the reply to an OPEN."""
    opened = share.fs.open(nodeid, os.O_RDONLY)
    assert share.fs.read(nodeid, opened.fh, 0, 100)
    share.fs.release(nodeid, opened.fh)
    return opened.open_flags


@pytest.mark.promise("r-open-4")
def test_the_guests_pages_are_kept_while_the_version_is(
    fake: FakeS3, make_fake_share: MakeShare
) -> None:
    share = make_fake_share("--attr-timeout", "0", "--entry-timeout", "0")
    fake.put("file", b"old")
    nodeid = share.fs.lookup(1, b"file").nodeid
    assert opened_with(share, nodeid) & KEEP_CACHE == 0
    assert opened_with(share, nodeid) & KEEP_CACHE
    fake.put("file", b"new")
    assert opened_with(share, nodeid) & KEEP_CACHE == 0
    assert opened_with(share, nodeid) & KEEP_CACHE


@pytest.mark.promise("r-open-4")
@pytest.mark.parametrize("policy", ["never", "metadata"])
def test_the_guest_keeps_no_pages(fake: FakeS3, make_fake_share: MakeShare, policy: str) -> None:
    share = make_fake_share("--cache", policy)
    fake.put("file", b"old")
    nodeid = share.fs.lookup(1, b"file").nodeid
    for _ in range(2):
        assert opened_with(share, nodeid) & (KEEP_CACHE | DIRECT_IO) == DIRECT_IO


@pytest.mark.promise("r-see-1")
def test_a_directory_is_listed_once(fake: FakeS3, make_fake_share: MakeShare) -> None:
    """200 names, each looked up twice and asked for its attributes, and 50 that are not there."""
    share = make_fake_share("--attr-timeout", "1000", "--entry-timeout", "1000")
    names = [f"name-{number}" for number in range(200)]
    for name in names:
        fake.put(f"dir/{name}", b"x", {"mode": "33188", "mtime": "1700000000"})
    top = share.fs.lookup(1, b"dir").nodeid
    fake.calls.clear()
    assert sorted(share.fs.list_names(top)) == sorted(name.encode() for name in names)
    first = len(fake.calls)
    nodes = [share.fs.lookup(top, name.encode()).nodeid for name in names * 2]
    for nodeid in nodes:
        assert share.fs.getattr(nodeid).attr.size == 1
    for number in range(50):
        assert share.fs.lookup(top, f"absent-{number}".encode()).nodeid == 0
    assert len(fake.calls) - first <= len(names)  # their metadata, once each, and no listing
    assert fake.count("LIST") <= 2
    before = len(fake.calls)
    for _ in range(3):
        assert len(share.fs.list_names(top)) == len(names)
        assert share.fs.lookup(top, b"name-7").attr.mode == 0o100644
    assert len(fake.calls) == before


@pytest.mark.promise("r-see-1")
def test_metadata_comes_ahead_of_a_reader_and_holds_nobody_up(
    fake: FakeS3, make_fake_share: MakeShare
) -> None:
    """One object of the first batch does not answer; others of it do, and those behind it."""
    share = make_fake_share("--attr-timeout", "1000", "--entry-timeout", "1000")
    names = [f"name-{number:03}" for number in range(400)]
    for name in names:
        fake.put(f"dir/{name}", b"x", {"mode": "33188"})
    top = share.fs.lookup(1, b"dir").nodeid
    assert len(share.fs.list_names(top)) == len(names)
    stuck, held = f"dir/{names[20]}", threading.Event()
    fake.fault = lambda call: Fault(hold=held) if call.key == stuck else None
    try:
        for name in (*names[:10], names[300], *names[21:40]):
            assert share.fs.lookup(top, name.encode(), timeout=5).attr.mode == 0o100644
        eventually(lambda: fake.count("HEAD", key=f"dir/{names[60]}") == 1)  # nobody asked for it
    finally:
        held.set()
    for name in names:
        assert share.fs.lookup(top, name.encode()).attr.mode == 0o100644
    assert {fake.count("HEAD", key=f"dir/{name}") for name in names} == {1}


@pytest.mark.promise("r-see-1")
def test_a_listing_of_known_versions_asks_for_no_metadata(
    fake: FakeS3, make_fake_share: MakeShare
) -> None:
    """The second daemon on a cache directory knows what the first one learnt."""
    for number in range(50):
        fake.put(f"name-{number}", b"%d" % number, {"mode": "33261"})
    first = make_fake_share()
    assert modes(first) == [0o100755] * 50
    first.stop()
    fake.calls.clear()
    second = make_fake_share(cache_dir=first.cache_dir)
    heads = fake.count("HEAD")
    assert modes(second) == [0o100755] * 50
    assert fake.count("HEAD") - heads <= 2


def modes(share: RemoteShare) -> list[int]:
    """Those of all that is in the root."""
    return [share.fs.lookup(1, name).attr.mode for name in share.fs.list_names(1)]


@pytest.mark.promise("r-see-2")
def test_with_never_changes_elsewhere_are_seen_at_once(fresh: Scene) -> None:
    assert fresh.names() == []
    fresh.put("made", b"1")
    assert fresh.names() == ["made"]
    nodeid = fresh.node("made")
    assert fresh.fs.getattr(nodeid).attr.size == 1
    fresh.put("made", b"22")
    assert fresh.fs.getattr(nodeid).attr.size == 2
    fresh.put("below/it", b"3")
    assert fresh.names() == ["below", "made"]
    assert fresh.names("below") == ["it"]
    fresh.delete("made")
    assert fresh.node("made") == 0
    assert fresh.names() == ["below"]


@pytest.mark.promise("r-see-2")
def test_with_auto_they_are_seen_within_a_second(scene: Scene) -> None:
    assert scene.names() == []
    assert scene.node("made") == 0
    scene.put("made", b"1")
    scene.put("other", b"1")
    eventually(lambda: scene.names() == ["made", "other"] and scene.node("made"), 2.0)
    nodeid = scene.node("made")
    scene.delete("made")
    scene.put("other", b"22")
    eventually(lambda: scene.names() == ["other"] and scene.node("made") == 0, 2.0)
    eventually(lambda: scene.fs.getattr(scene.node("other")).attr.size == 2, 2.0)
    assert nodeid != scene.node("other")


@pytest.mark.promise("r-see-3")
@pytest.mark.parametrize("policy", ["never", "auto", "always"])
def test_own_changes_are_seen_at_once(
    fake: FakeS3, make_fake_share: MakeShare, policy: str
) -> None:
    scene = make_fake_share("--cache", policy).scene()
    assert scene.names() == []
    assert scene.node("file") == 0
    nodeid, fh = scene.make("file")
    assert scene.node("file") == nodeid
    assert scene.names() == ["file"]
    scene.write(nodeid, fh, 0, b"12345")
    assert scene.fs.getattr(nodeid).attr.size == 5
    scene.close(nodeid, fh)
    scene.fs.setattr(nodeid, mode=0o600)
    assert scene.fs.lookup(scene.top, b"file").attr.mode == 0o100600
    scene.fs.mkdir(scene.top, b"dir")
    scene.fs.rename(scene.top, b"file", scene.node("dir"), b"moved")
    assert (scene.names(), scene.names("dir")) == (["dir"], ["moved"])
    assert scene.node("file") == 0
    assert scene.node("dir/moved") == nodeid
    assert scene.load("dir/moved") == b"12345"
    scene.fs.unlink(scene.node("dir"), b"moved")
    assert scene.names("dir") == []
    scene.fs.rmdir(scene.top, b"dir")
    assert scene.names() == []
    assert writes(fake.calls)
