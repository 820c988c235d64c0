# SPDX-License-Identifier: Apache-2.0
"""Open flags, positions and sizes: what reading and writing do at the edges."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import outcome
from tests.operations.share import Share
from tests.operations.tree import tree

if TYPE_CHECKING:
    from tests.operations.scene import Scene

GIB = 1 << 30


def content(scene: Scene, name: bytes = b"file") -> bytes:
    """What the host reads there."""
    with open(scene.path(name), "rb") as file:
        return file.read()


@pytest.mark.promise("open-1")
def test_append_goes_to_the_end_whatever_the_offset(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file", os.O_WRONLY | os.O_APPEND)
    with open(scene.path(b"file"), "ab") as file:
        file.write(b"host")
    assert scene.fs.write(nodeid, fh, 0, b"guest") == 5
    assert content(scene) == b"0123456789hostguest"


@pytest.mark.promise("open-1")
def test_two_guests_processes_append(scene: Scene) -> None:
    nodeid, first = scene.open(b"empty", os.O_WRONLY | os.O_APPEND)
    second = scene.fs.open(nodeid, os.O_WRONLY | os.O_APPEND).fh
    for number in range(20):
        scene.fs.write(
            nodeid, (first, second)[number % 2], 0, b"%02d" % number, queue=1 + number % 2
        )
    assert content(scene, b"empty") == b"".join(b"%02d" % number for number in range(20))


@pytest.mark.promise("open-2")
def test_truncation_is_part_of_opening(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file", os.O_RDWR | os.O_TRUNC)
    assert os.path.getsize(scene.path(b"file")) == 0
    assert scene.fs.read(nodeid, fh, 0, 10) == b""


@pytest.mark.promise("create-1")
def test_exclusive_creation_excludes_the_host_too(scene: Scene) -> None:
    with open(scene.path(b"new"), "xb"):
        pass
    with pytest.raises(FileExistsError):
        scene.fs.create(scene.top, b"new", os.O_RDWR | os.O_CREAT | os.O_EXCL)


@pytest.mark.promise("create-2")
def test_creating_what_came_up_meanwhile_opens_it(scene: Scene) -> None:
    entry, opened = scene.fs.create(scene.top, b"file", os.O_RDWR | os.O_CREAT, 0o100600)
    assert entry.attr.size == 10
    assert entry.attr.mode == 0o100644
    assert scene.fs.read(entry.nodeid, opened.fh, 0, 4) == b"0123"
    assert scene.node(b"file") == entry.nodeid


@pytest.mark.promise("create-2")
def test_creating_what_came_up_meanwhile_is_subject_to_permissions(scene: Scene) -> None:
    """The guest's kernel has checked nothing of a file that it did not know."""
    os.chmod(scene.path(b"file"), 0o600)
    with pytest.raises(PermissionError):
        scene.fs.create(scene.top, b"file", os.O_RDWR | os.O_CREAT, uid=1000, gid=1000)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    with pytest.raises(PermissionError):
        scene.fs.create(scene.top, b"file", flags, uid=1000, gid=1000)
    assert content(scene) == b"0123456789"


@pytest.mark.promise("create-2")
def test_creating_with_truncation_empties_what_is_there(scene: Scene) -> None:
    entry, _ = scene.fs.create(scene.top, b"file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert scene.fs.getattr(entry.nodeid).attr.size == 0
    assert content(scene) == b""


@pytest.mark.promise("create-3")
def test_a_file_without_a_name_gets_one(scene: Scene) -> None:
    entry, opened = scene.fs.tmpfile(scene.top)
    before = set(os.listdir(scene.path()))
    scene.fs.write(entry.nodeid, opened.fh, 0, b"data")
    linked = scene.fs.link(entry.nodeid, scene.top, b"new")
    assert (linked.nodeid, linked.attr.nlink) == (entry.nodeid, 1)
    assert set(os.listdir(scene.path())) - before == {b"new"}
    scene.fs.release(entry.nodeid, opened.fh)
    assert content(scene, b"new") == b"data"
    scene.fs.unlink(scene.top, b"new")
    assert scene.fs.getattr(entry.nodeid).attr.nlink == 0


@pytest.mark.promise("read-1")
@pytest.mark.parametrize(
    ("offset", "size"), [(0, 10), (0, 4096), (9, 10), (10, 10), (4096, 10), (3, 1), (0, 1 << 20)]
)
def test_reads_end_at_the_end(scene: Scene, offset: int, size: int) -> None:
    nodeid, fh = scene.open(b"file", os.O_RDONLY)
    assert scene.fs.read(nodeid, fh, offset, size) == b"0123456789"[offset : offset + size]


@pytest.mark.promise("write-1")
def test_what_is_written_the_host_reads_at_once(scene: Scene) -> None:
    data = os.urandom(1 << 20)
    nodeid, fh = scene.open(b"file")
    assert scene.fs.write(nodeid, fh, 5, data) == len(data)
    assert content(scene) == b"01234" + data
    assert scene.fs.read(nodeid, fh, 5, len(data)) == data
    with open(scene.path(b"file"), "r+b") as file:
        file.write(b"host")
    assert scene.fs.read(nodeid, fh, 0, 5) == b"host4"


@pytest.mark.promise("write-1")
def test_an_empty_write_changes_nothing(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    before = os.stat(scene.path(b"file")).st_mtime_ns
    assert scene.fs.write(nodeid, fh, 5, b"") == 0
    assert os.stat(scene.path(b"file")).st_mtime_ns == before


@pytest.mark.promise("read-2")
@pytest.mark.parametrize("offset", [4 * GIB - 2, 4 * GIB, 5 * GIB + 123, 1 << 40])
def test_beyond_four_gigabytes(scene: Scene, offset: int) -> None:
    nodeid, fh = scene.open(b"file")
    assert scene.fs.write(nodeid, fh, offset, b"far away") == 8
    attr = scene.fs.getattr(nodeid).attr
    assert attr.size == offset + 8
    assert attr.blocks * 512 < GIB
    assert scene.fs.read(nodeid, fh, offset - 4, 100) == bytes(4) + b"far away"
    assert scene.fs.lseek(nodeid, fh, GIB, os.SEEK_DATA) == offset & ~4095
    assert os.stat(scene.path(b"file")).st_size == offset + 8
    assert scene.fs.setattr(nodeid, size=offset + 1).attr.size == offset + 1


@pytest.mark.promise("direct-1")
@pytest.mark.parametrize(("offset", "size"), [(0, 4096), (4096, 65536), (0, 1 << 20)])
def test_direct_io_aligned(scene: Scene, offset: int, size: int) -> None:
    nodeid, fh = scene.open(b"file", os.O_RDWR | os.O_DIRECT)
    data = os.urandom(size)
    assert scene.fs.write(nodeid, fh, offset, data) == size
    assert scene.fs.read(nodeid, fh, offset, size) == data
    assert content(scene)[offset : offset + size] == data


@pytest.mark.promise("direct-1")
@pytest.mark.parametrize(("offset", "size"), [(0, 10), (1, 4096), (511, 3), (4095, 1 << 16)])
def test_direct_io_not_aligned(scene: Scene, offset: int, size: int) -> None:
    """The host would refuse it, and a guest's buffers cannot know the host's alignment."""
    nodeid, fh = scene.open(b"file", os.O_RDWR | os.O_DIRECT)
    data = os.urandom(size)
    assert scene.fs.write(nodeid, fh, offset, data) == size
    assert scene.fs.read(nodeid, fh, offset, size) == data
    assert scene.fs.read(nodeid, fh, 0, 1 << 20) == content(scene)


@pytest.mark.promise("unlinked-1")
def test_data_of_an_unlinked_file(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    scene.fs.unlink(scene.top, b"file")
    assert scene.fs.write(nodeid, fh, 10, b"more", queue=2) == 4
    assert scene.fs.read(nodeid, fh, 0, 100) == b"0123456789more"
    scene.fs.fsync(nodeid, fh)
    scene.fs.fallocate(nodeid, fh, 0, 8192)
    assert scene.fs.getattr(nodeid, fh).attr.size == 8192
    scene.fs.release(nodeid, fh)


@pytest.mark.promise("open-3")
@pytest.mark.parametrize("name", [b"fifo", b"sock", b"null"])
def test_the_host_opens_no_special_file(scene: Scene, name: bytes) -> None:
    """Opening the FIFO would wait for a writer; the guest's kernel opens these by itself."""
    started = time.monotonic()
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        with pytest.raises(OSError, match="No such device"):
            scene.fs.open(scene.node(name), flags)
    assert time.monotonic() - started < 5


def test_a_running_program_is_not_written_to(scene: Scene) -> None:
    shutil.copy2(shutil.which("sleep") or "", os.fsdecode(scene.path(b"program")))
    with subprocess.Popen([scene.path(b"program"), b"60"]) as program:
        try:
            with pytest.raises(OSError, match="Text file busy"):
                scene.fs.open(scene.node(b"program"), os.O_WRONLY)
        finally:
            program.kill()


def links_until_refused(scene: Scene) -> object:
    """Links "file" on the host until that fails: why it did, None where it does not."""
    for number in range(1 << 16):
        path = scene.path(b"dir/%d" % number)
        if (refusal := outcome(partial(os.link, scene.path(b"file"), path))) is not None:
            return refusal
    return None


def test_a_file_with_all_the_links_it_may_have() -> None:
    """As many as the host's file system gives it, and no limit of our own before that."""
    with Share("disk") as share, share.scene() as scene:
        refusal = links_until_refused(scene)
        if refusal is None:
            pytest.skip(f"more than {1 << 16} links: not ext4")
        assert refusal == "Too many links"
        nodeid = scene.node(b"file")
        with pytest.raises(OSError, match="Too many links"):
            scene.fs.link(nodeid, scene.top, b"one-more")
        scene.fs.unlink(scene.node(b"dir"), b"0")
        assert scene.fs.link(nodeid, scene.top, b"one-more").attr.nlink == 65000


@pytest.mark.promise("open-4")
def test_each_open_is_a_handle_of_its_own(scene: Scene) -> None:
    nodeid, first = scene.open(b"file")
    second = scene.fs.open(nodeid, os.O_RDONLY, queue=2).fh
    assert first != second
    scene.fs.release(nodeid, first)
    assert scene.fs.read(nodeid, second, 0, 3) == b"012"
    with pytest.raises(OSError, match="Bad file descriptor"):
        scene.fs.read(nodeid, first, 0, 3)


@pytest.mark.promise("open-6")
def test_a_file_opened_again_is_read_as_it_is(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file", os.O_RDONLY)
    scene.fs.release(nodeid, fh)
    with open(scene.path(b"file"), "r+b") as host:
        host.write(b"abc")
    again = [scene.fs.open(nodeid, os.O_RDONLY, queue=queue).fh for queue in (1, 2, 1)]
    assert [scene.fs.read(nodeid, fh, 0, 5) for fh in again] == [b"abc34"] * 3
    for fh in again:
        scene.fs.release(nodeid, fh)
    nodeid, fh = scene.open(b"file", os.O_RDWR)  # what was opened for reading does not do
    scene.fs.write(nodeid, fh, 0, b"ABC")
    scene.fs.release(nodeid, fh)
    os.truncate(scene.path(b"file"), 2)
    fh = scene.fs.open(nodeid, os.O_RDONLY).fh
    assert scene.fs.read(nodeid, fh, 0, 5) == b"AB"
    scene.fs.release(nodeid, fh)


@pytest.mark.promise("open-5")
def test_the_guests_own_flags_do_not_reach_the_host(scene: Scene) -> None:
    """O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_NOCTTY and O_NONBLOCK were its kernel's."""
    flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
    nodeid, fh = scene.open(b"file", flags | os.O_CLOEXEC | os.O_DIRECTORY)
    assert scene.fs.read(nodeid, fh, 0, 3) == b"012"


@pytest.mark.promise("name-1")
@pytest.mark.parametrize(
    "name",
    [
        b"n" * 255,
        b"\xff\xfe\x80",
        b" leading and trailing ",
        b"new\nline",
        b"\\",
        b"-",
        b"...",
        b"%41",
    ],
)
def test_any_bytes_are_a_name(scene: Scene, name: bytes) -> None:
    entry, opened = scene.fs.create(scene.top, name)
    scene.fs.write(entry.nodeid, opened.fh, 0, b"data")
    assert name in os.listdir(scene.path())
    assert content(scene, name) == b"data"
    assert name in scene.fs.list_names(scene.top)
    scene.fs.rename(scene.top, name, scene.node(b"dir"), name)
    assert os.listdir(scene.path(b"dir")) == [name]
    scene.fs.unlink(scene.node(b"dir"), name)


@pytest.mark.promise("name-1")
@pytest.mark.parametrize("target", [b"x" * 4095, b"\xff\xfe", b"/etc/passwd", b"../../..", b" "])
def test_any_bytes_are_a_symlinks_target(scene: Scene, target: bytes) -> None:
    entry = scene.fs.symlink(scene.top, b"new", target)
    assert os.readlink(scene.path(b"new")) == target
    assert scene.fs.readlink(entry.nodeid) == target


def test_a_file_grows_by_pieces_from_two_queues(scene: Scene) -> None:
    """Overlapping requests on both queues: every byte where it belongs."""
    nodeid, fh = scene.open(b"empty")
    data = os.urandom(1 << 18)
    pending = [
        scene.fs.submit_write(nodeid, fh, at, data[at : at + 4096], queue=1 + at // 4096 % 2)
        for at in range(0, len(data), 4096)
    ]
    for one in pending:
        scene.fs.wait(one)
    reads = [
        scene.fs.submit_read(nodeid, fh, at, 4096, queue=1 + at // 4096 % 2)
        for at in range(0, len(data), 4096)
    ]
    assert b"".join(scene.fs.wait(one) for one in reads) == data
    with open(scene.twin + b"/empty", "wb") as file:
        file.write(data)
    assert tree(scene.path()) == tree(scene.twin)
