# SPDX-License-Identifier: Apache-2.0
"""Renames: copies and deletes in an order that loses nothing."""

from __future__ import annotations

import os
from errno import EEXIST, EINVAL, ENOTEMPTY
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.fake_s3 import Fault, failing

if TYPE_CHECKING:
    from tests.semantics.remote.fake_s3 import Call, FakeS3
    from tests.semantics.remote.scene import Scene
    from tests.semantics.remote.share import RemoteShare

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
MIB = 1 << 20


@pytest.mark.promise("r-rename-1")
@pytest.mark.parametrize("size", [5, 12 * MIB])
@pytest.mark.parametrize("known", ["cached", "unread", "dirty"])
def test_a_file_moves(fresh: Scene, size: int, known: str) -> None:
    data = os.urandom(size)
    fresh.put("from", data, {"mode": str(0o100711), "mtime": "1700000000", "mine": "kept"})
    fresh.fs.mkdir(fresh.top, b"dir")
    nodeid = fresh.node("from")
    if known == "cached":
        assert fresh.load("from") == data
    if known == "dirty":
        handle = fresh.open("from")
        fresh.write(*handle, 0, b"D")
        data = b"D" + data[1:]
    fresh.fs.rename(fresh.top, b"from", fresh.node("dir"), b"to", timeout=30.0)
    if known == "dirty":
        fresh.close(*handle)
    assert fresh.stored() == ["dir/", "dir/to"]
    assert fresh.get("dir/to") == data
    meta = fresh.meta("dir/to")
    assert meta["mode"] == str(0o100711)
    assert meta["mine"] == "kept"
    if known != "dirty":
        assert float(meta["mtime"]) == 1700000000
    assert fresh.node("dir/to") == nodeid
    assert fresh.node("from") == 0
    assert fresh.load("dir/to") == data


@pytest.mark.promise("r-rename-1")
def test_what_had_the_name_is_replaced(scene: Scene) -> None:
    scene.save("from", b"new")
    old = scene.save("to", b"old")
    reader = scene.fs.open(old, os.O_RDONLY).fh
    scene.fs.rename(scene.top, b"from", scene.top, b"to")
    assert scene.stored() == ["to"]
    assert scene.get("to") == b"new"
    assert scene.load("to") == b"new"
    assert scene.names() == ["to"]
    assert scene.read(old, reader) == b"old"


@pytest.mark.promise("r-rename-1")
def test_rename_of_what_is_not_there(scene: Scene) -> None:
    with pytest.raises(FileNotFoundError):
        scene.fs.rename(scene.top, b"nothing", scene.top, b"to")
    scene.save("file", b"data")
    scene.fs.rename(scene.top, b"file", scene.top, b"file")
    assert scene.get("file") == b"data"


@pytest.mark.promise("r-rename-2")
@pytest.mark.parametrize("cached", [False, True])
def test_at_no_moment_neither(fake: FakeS3, fake_share: RemoteShare, cached: bool) -> None:
    """Before each request the bytes are under one of the keys, whole."""
    data = os.urandom(MIB)
    fake.put("from", data)
    nodeid = fake_share.fs.lookup(1, b"from").nodeid
    if cached:
        fh = fake_share.fs.open(nodeid).fh
        assert fake_share.fs.read(nodeid, fh, 0, MIB) == data
        fake_share.fs.release(nodeid, fh)
    states: list[set[str]] = []

    def look(_call: Call) -> Fault | None:
        there = dict(fake.objects)
        states.append({key for key, found in there.items() if found.data == data})
        return None

    fake.fault = look
    fake_share.fs.rename(1, b"from", 1, b"to")
    assert set() not in states
    assert fake.keys() == ["to"]
    kinds = [call.kind for call in fake.calls if call.key == "from"]
    assert kinds[-1] == "DELETE"


@pytest.mark.promise("r-rename-2")
@pytest.mark.parametrize("kinds", [("COPY", "PUT"), ("DELETE",)])
def test_an_error_leaves_the_old(
    fake: FakeS3, fake_share: RemoteShare, kinds: tuple[str, ...]
) -> None:
    scene = fake_share.scene()
    scene.save("from", b"data")
    fake.fault = failing(*kinds)
    with pytest.raises(PermissionError):
        scene.fs.rename(scene.top, b"from", scene.top, b"to")
    assert scene.get("from") == b"data"
    fake.fault = lambda _call: None
    assert scene.load("from") == b"data"
    scene.fs.rename(scene.top, b"from", scene.top, b"to")
    assert scene.stored() == ["to"]
    assert scene.get("to") == b"data"


def plant(fake: FakeS3, count: int) -> dict[str, bytes]:
    """A tree of objects under "old/", with a marker and two levels."""
    made = {f"old/{n % 3}/{n}": b"%d" % n for n in range(count)} | {"old/empty/": b""}
    for key, data in made.items():
        fake.put(key, data, {"mode": "33261"})
    return made


def moved(objects: dict[str, bytes]) -> dict[str, bytes]:
    """The same under "new/"."""
    return {"new/" + key.removeprefix("old/"): data for key, data in objects.items()}


def content(fake: FakeS3) -> dict[str, bytes]:
    """All objects but the markers of what had none."""
    return {key: found.data for key, found in dict(fake.objects).items()}


@pytest.mark.promise("r-rename-3")
def test_a_directory_moves(fake: FakeS3, fake_share: RemoteShare) -> None:
    objects = plant(fake, 200)
    before = fake_share.fs.lookup(1, b"old").nodeid
    fake.calls.clear()
    fake_share.fs.rename(1, b"old", 1, b"new", timeout=60.0)
    now = content(fake)
    assert {key: now.get(key) for key in moved(objects)} == moved(objects)
    assert [key for key in now if key.startswith("old")] == []
    assert fake.objects["new/1/1"].meta["mode"] == "33261"
    kinds = [call.kind for call in fake.calls]
    last_copy = max(n for n, kind in enumerate(kinds) if kind in {"COPY", "PUT"})
    assert kinds.index("DELETE") > last_copy
    entry = fake_share.fs.lookup(1, b"new")
    assert entry.nodeid == before
    assert sorted(fake_share.fs.list_names(entry.nodeid)) == [b"0", b"1", b"2", b"empty"]


@pytest.mark.promise("r-rename-4")
@pytest.mark.parametrize("kind", ["COPY", "DELETE"])
def test_a_rename_that_failed_on_its_way(fake: FakeS3, fake_share: RemoteShare, kind: str) -> None:
    objects = plant(fake, 60)
    assert fake_share.fs.lookup(1, b"old").nodeid
    done: list[str] = []

    def break_off(call: Call) -> Fault | None:
        if call.kind == kind:
            done.append(call.key)
        return Fault(status=403) if call.kind == kind and len(done) > 25 else None

    fake.fault = break_off
    with pytest.raises(PermissionError):
        fake_share.fs.rename(1, b"old", 1, b"new", timeout=60.0)
    there = content(fake)
    for key, data in objects.items():
        new = "new/" + key.removeprefix("old/")
        assert data in {there.get(key), there.get(new)}, key
    if kind == "COPY":
        assert objects.items() <= there.items()
    fake.fault = lambda _call: None
    fake_share.fs.rename(1, b"old", 1, b"new", timeout=60.0)
    there = content(fake)
    assert moved(objects).items() <= there.items()
    assert [key for key in there if key.startswith("old")] == []


@pytest.mark.promise("r-rename-5")
def test_noreplace(scene: Scene) -> None:
    scene.save("from", b"mine")
    scene.save("taken", b"taken")
    scene.put("theirs", b"theirs")  # not known here yet
    for name in (b"taken", b"theirs"):
        with pytest.raises(FileExistsError) as caught:
            scene.fs.rename2(scene.top, b"from", scene.top, name, NOREPLACE)
        assert caught.value.errno == EEXIST
    assert (scene.get("taken"), scene.get("theirs")) == (b"taken", b"theirs")
    scene.fs.rename2(scene.top, b"from", scene.top, b"free", NOREPLACE)
    assert scene.get("free") == b"mine"


@pytest.mark.promise("r-rename-5")
@pytest.mark.parametrize("flags", [EXCHANGE, WHITEOUT, WHITEOUT | NOREPLACE, 8])
def test_other_flags(scene: Scene, flags: int) -> None:
    scene.save("one", b"1")
    scene.save("two", b"2")
    with pytest.raises(OSError, match="Invalid") as caught:
        scene.fs.rename2(scene.top, b"one", scene.top, b"two", flags)
    assert caught.value.errno == EINVAL
    assert (scene.get("one"), scene.get("two")) == (b"1", b"2")


@pytest.mark.promise("r-rename-6")
def test_what_may_be_replaced(scene: Scene) -> None:
    scene.save("file", b"data")
    for name in (b"dir", b"full", b"empty"):
        scene.fs.mkdir(scene.top, name)
    scene.save("dir/in", b"in")
    assert scene.names("full") == []
    scene.put("full/theirs", b"theirs")
    with pytest.raises(OSError, match="not empty") as caught:
        scene.fs.rename(scene.top, b"dir", scene.top, b"full")
    assert caught.value.errno == ENOTEMPTY
    assert scene.get("full/theirs") == b"theirs"
    with pytest.raises(IsADirectoryError):
        scene.fs.rename(scene.top, b"file", scene.top, b"empty")
    with pytest.raises(NotADirectoryError):
        scene.fs.rename(scene.top, b"dir", scene.top, b"file")
    with pytest.raises(OSError, match="Invalid"):
        scene.fs.rename(scene.top, b"dir", scene.node("dir"), b"below")
    scene.fs.rename(scene.top, b"dir", scene.top, b"empty")
    assert scene.get("empty/in") == b"in"
    assert scene.node("dir") == 0


@pytest.mark.promise("r-rename-7")
def test_open_files_live_on(scene: Scene) -> None:
    scene.fs.mkdir(scene.top, b"a")
    scene.save("a/stored", b"stored")
    reader = scene.open("a/stored", os.O_RDONLY)
    dirty = scene.open("a/stored")
    new = scene.make("a/new")
    scene.write(*dirty, 6, b" and dirty")
    scene.write(*new, 0, b"new")
    scene.fs.rename(scene.top, b"a", scene.top, b"b")
    assert scene.read(*reader) == b"stored and dirty"
    scene.write(*new, 3, b"er")
    scene.fs.rename(scene.node("b"), b"new", scene.top, b"c")
    scene.close(*dirty)
    scene.close(*new)
    assert scene.get("b/stored") == b"stored and dirty"
    assert scene.get("c") == b"newer"
    assert [key for key in scene.stored() if key.startswith("a")] == []
    assert scene.node("b/stored") == dirty[0]
    assert scene.node("c") == new[0]
    assert scene.read(*reader) == b"stored and dirty"
