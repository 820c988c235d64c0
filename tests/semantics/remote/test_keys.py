# SPDX-License-Identifier: Apache-2.0
"""Names that are keys, and keys that cannot be names."""

from __future__ import annotations

import os
from errno import EILSEQ, EINVAL, ENAMETOOLONG, ENOTEMPTY
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.share import FRESH

if TYPE_CHECKING:
    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3
    from tests.semantics.remote.scene import Scene
    from tests.semantics.remote.share import RemoteShare

NAMES = [
    "plain",
    "Plain",
    "two words",
    " before",
    "100%",
    "%41",
    "a+b",
    "quote'\"<&>",
    "#hash?query=1&x",
    "ümläut",
    "日本語",
    "🦕",
    "e\N{COMBINING ACUTE ACCENT}",
    "é",
    "~tilde",
    ".hidden",
    "...",
    "trailing.",
    "tab\tinside",
    "x" * 255,
    "colon:star*",
]


@pytest.mark.promise("r-key-1")
def test_names_come_out_as_they_went_in(scene: Scene) -> None:
    for number, name in enumerate(NAMES):
        scene.save(name, b"%d" % number)
    assert scene.names() == sorted(NAMES)
    assert sorted(scene.stored()) == sorted(NAMES)
    for number, name in enumerate(NAMES):
        assert scene.get(name) == b"%d" % number
        assert scene.load(name) == b"%d" % number


@pytest.mark.promise("r-key-1")
def test_names_of_directories_too(scene: Scene) -> None:
    for number, name in enumerate(NAMES):
        above = scene.fs.mkdir(scene.top, name.encode()).nodeid
        scene.fs.create(above, b"%d" % number)
        scene.fs.syncfs()
    assert scene.names() == sorted(NAMES)
    for number, name in enumerate(NAMES):
        assert scene.names(name) == [str(number)]


@pytest.mark.promise("r-key-1")
def test_names_made_elsewhere(fresh: Scene) -> None:
    for number, name in enumerate(NAMES):
        fresh.put(name, b"%d" % number)
    assert fresh.names() == sorted(NAMES)
    for number, name in enumerate(NAMES):
        assert fresh.load(name) == b"%d" % number


@pytest.mark.promise("r-key-1")
def test_a_backslash(fake: FakeS3, fake_share: RemoteShare) -> None:
    """Not on SeaweedFS, which makes a slash of it."""
    scene = fake_share.scene()
    scene.save("back\\slash", b"data")
    assert scene.names() == scene.stored() == ["back\\slash"]
    assert fake.get(f"{scene.prefix}back\\slash") == b"data"


@pytest.mark.promise("r-key-1")
@pytest.mark.parametrize("name", ["x" * 256, "é" * 128])
def test_a_name_that_is_too_long(scene: Scene, name: str) -> None:
    for request in (
        lambda: scene.fs.create(scene.top, name.encode()),
        lambda: scene.fs.mkdir(scene.top, name.encode()),
        lambda: scene.fs.lookup(scene.top, name.encode()),
    ):
        with pytest.raises(OSError, match="too long") as caught:
            request()
        assert caught.value.errno == ENAMETOOLONG
    assert scene.stored() == []


@pytest.mark.promise("r-key-2")
@pytest.mark.parametrize("name", [b"\xff", b"half \xc3", b"\xed\xa0\x80", b"latin-\xe9.txt"])
def test_a_name_that_is_not_utf_8(scene: Scene, name: bytes) -> None:
    source = scene.save("file", b"1")
    for request in (
        lambda: scene.fs.create(scene.top, name),
        lambda: scene.fs.mkdir(scene.top, name),
        lambda: scene.fs.mknod(scene.top, name, 0o100644),
        lambda: scene.fs.symlink(scene.top, name, b"target"),
        lambda: scene.fs.rename(scene.top, b"file", scene.top, name),
    ):
        with pytest.raises(OSError, match="multibyte") as caught:
            request()
        assert caught.value.errno == EILSEQ
    assert scene.node(os.fsdecode(name)) == 0
    assert scene.stored() == ["file"]
    assert scene.node("file") == source


@pytest.mark.promise("r-key-3")
@pytest.mark.parametrize("name", ["after ", "tab\t", "line\n", "wide\N{IDEOGRAPHIC SPACE}"])
def test_a_name_that_opendal_would_alter(fresh: Scene, name: str) -> None:
    fresh.save(name.strip(), b"the other")
    for request in (
        lambda: fresh.fs.create(fresh.top, name.encode()),
        lambda: fresh.fs.mknod(fresh.top, name.encode(), 0o100644),
        lambda: fresh.fs.symlink(fresh.top, name.encode(), b"target"),
        lambda: fresh.fs.rename(fresh.top, name.strip().encode(), fresh.top, name.encode()),
    ):
        with pytest.raises(OSError, match="Invalid") as caught:
            request()
        assert caught.value.errno == EINVAL
    assert fresh.node(name) == 0
    fresh.put(name, b"made elsewhere")
    assert fresh.names() == [name.strip()]
    assert fresh.node(name) == 0
    assert fresh.load(name.strip()) == b"the other"
    fresh.fs.unlink(fresh.top, name.strip().encode())
    assert fresh.stored() == [name]


@pytest.mark.promise("r-key-3")
def test_a_name_at_the_root_that_begins_with_white_space(share: RemoteShare) -> None:
    with pytest.raises(OSError, match="Invalid"):
        share.fs.create(1, b" before")


@pytest.mark.promise("r-key-4")
def test_an_object_beside_a_directory(make_fake_share: MakeShare) -> None:
    """Not on SeaweedFS, where an object and what is below it are one."""
    fresh = make_fake_share(*FRESH).scene()
    fresh.put("both", b"hidden")
    fresh.put("both/child", b"child")
    for _ in range(3):
        assert fresh.names() == ["both"]
        assert fresh.fs.lookup(fresh.top, b"both").attr.mode & 0o170000 == 0o040000
        assert fresh.load("both/child") == b"child"
    lines = [line for line in fresh.share.log().splitlines() if f"{fresh.prefix}both" in line]
    assert len(lines) == 1
    fresh.fs.unlink(fresh.node("both"), b"child")
    fresh.fs.rmdir(fresh.top, b"both")
    assert fresh.get("both") == b"hidden"
    assert fresh.load("both") == b"hidden"


ODD = ["a//b", "/empty", "./dot", "../dots", "c/./d", "c/../e", "y" * 256, "z" * 256 + "/below"]


@pytest.mark.promise("r-key-5")
def test_keys_that_cannot_be_names(fake: FakeS3, fake_share: RemoteShare) -> None:
    for key in (*ODD, "good", "a/good", "c/good"):
        fake.put(f"dir/{key}", key.encode())
    top = fake_share.fs.lookup(1, b"dir").nodeid
    assert sorted(fake_share.fs.list_names(top)) == [b"a", b"c", b"good"]
    for name in (b"a", b"c"):
        below = fake_share.fs.lookup(top, name).nodeid
        assert fake_share.fs.list_names(below) == [b"good"]
        fh = fake_share.fs.open(fake_share.fs.lookup(below, b"good").nodeid).fh
        assert fh
    for _ in range(2):
        assert sorted(fake_share.fs.list_names(top)) == [b"a", b"c", b"good"]
    lines = [line for line in fake_share.log().splitlines() if "dir/" in line]
    assert 1 <= len(lines) <= 3  # one each for dir/, dir/a/, dir/c/


@pytest.mark.promise("r-key-5")
@pytest.mark.parametrize("odd", ["dir//b", "dir/./b", "dir/../b", "dir/" + "y" * 256])
def test_a_directory_with_such_keys_is_not_empty(
    fake: FakeS3, fake_share: RemoteShare, odd: str
) -> None:
    fake.put(odd, b"kept")
    assert fake_share.fs.lookup(1, b"dir").nodeid != 0
    with pytest.raises(OSError, match="not empty") as caught:
        fake_share.fs.rmdir(1, b"dir")
    assert caught.value.errno == ENOTEMPTY
    assert fake.get(odd) == b"kept"


@pytest.mark.promise("r-key-6")
def test_a_marker_is_a_directory(fresh: Scene) -> None:
    fresh.put("dir/", b"")
    fresh.put("odd/", b"with content, as some programs make them")
    assert fresh.names() == ["dir", "odd"]
    assert fresh.names("dir") == fresh.names("odd") == []
    for name in ("dir", "odd"):
        assert fresh.fs.lookup(fresh.top, name.encode()).attr.mode == 0o040755
