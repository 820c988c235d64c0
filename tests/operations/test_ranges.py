# SPDX-License-Identifier: Apache-2.0
"""Space, holes and copies: every mode of FALLOCATE, LSEEK's two questions, COPY_FILE_RANGE."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.operations import host
from tests.operations.scene import outcome
from tests.operations.share import Share

if TYPE_CHECKING:
    from tests.operations.scene import Scene

BLOCK = 4096
PATTERN = b"".join(bytes([ord("a") + n]) * BLOCK for n in range(8))
KEEP = host.FALLOC_KEEP_SIZE

#: Mode, offset, length: each is tried, also where the file system has no such mode.
MODES = {
    "allocate": (0, 6 * BLOCK, 4 * BLOCK),
    "keep-size": (KEEP, 6 * BLOCK, 4 * BLOCK),
    "punch": (host.FALLOC_PUNCH_HOLE | KEEP, BLOCK, 2 * BLOCK),
    "punch-part": (host.FALLOC_PUNCH_HOLE | KEEP, 100, BLOCK),
    "zero": (host.FALLOC_ZERO_RANGE, BLOCK, 9 * BLOCK),
    "zero-keep-size": (host.FALLOC_ZERO_RANGE | KEEP, BLOCK, 9 * BLOCK),
    "collapse": (host.FALLOC_COLLAPSE_RANGE, BLOCK, 2 * BLOCK),
    "collapse-unaligned": (host.FALLOC_COLLAPSE_RANGE, 1, 2 * BLOCK),
    "collapse-to-end": (host.FALLOC_COLLAPSE_RANGE, BLOCK, 7 * BLOCK),
    "insert": (host.FALLOC_INSERT_RANGE, BLOCK, 2 * BLOCK),
    "insert-beyond-end": (host.FALLOC_INSERT_RANGE, 9 * BLOCK, BLOCK),
    "unshare": (host.FALLOC_UNSHARE_RANGE, 0, BLOCK),
    "two-at-once": (host.FALLOC_COLLAPSE_RANGE | host.FALLOC_INSERT_RANGE, 0, BLOCK),
}


def pattern(scene: Scene) -> None:
    """Eight blocks of letters in "file", on both sides."""

    def put(top: bytes) -> None:
        with open(top + b"/file", "wb") as file:
            file.write(PATTERN)
            file.flush()
            os.fsync(file.fileno())

    scene.both(put)


def on_host(path: bytes, mode: int, offset: int, length: int) -> None:
    """fallocate(2) of a path."""
    fd = os.open(path, os.O_RDWR)
    try:
        host.fallocate(fd, mode, offset, length)
    finally:
        os.close(fd)


def read(path: bytes) -> bytes:
    """All of a file."""
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.promise("space-1")
@pytest.mark.parametrize("how", MODES)
def test_each_mode_is_the_hosts(scene: Scene, how: str) -> None:
    mode, offset, length = MODES[how]
    pattern(scene)
    nodeid, fh = scene.open(b"file")
    ours = outcome(lambda: scene.fs.fallocate(nodeid, fh, offset, length, mode))
    direct = outcome(lambda: on_host(scene.twin + b"/file", mode, offset, length))
    assert ours == direct
    assert read(scene.path(b"file")) == read(scene.twin + b"/file")
    mine, twin = os.stat(scene.path(b"file")), os.stat(scene.twin + b"/file")
    assert (mine.st_size, mine.st_blocks) == (twin.st_size, twin.st_blocks)


@pytest.mark.promise("space-2")
def test_holes_and_data(scene: Scene) -> None:
    pattern(scene)
    nodeid, fh = scene.open(b"file")
    scene.fs.fallocate(nodeid, fh, 2 * BLOCK, 3 * BLOCK, host.FALLOC_PUNCH_HOLE | KEEP)
    seek = scene.fs.lseek
    assert seek(nodeid, fh, 0, os.SEEK_HOLE) == 2 * BLOCK
    assert seek(nodeid, fh, 2 * BLOCK, os.SEEK_DATA) == 5 * BLOCK
    assert seek(nodeid, fh, 3 * BLOCK, os.SEEK_HOLE) == 3 * BLOCK
    assert seek(nodeid, fh, 6 * BLOCK, os.SEEK_HOLE) == 8 * BLOCK
    with pytest.raises(OSError, match="No such device or address"):
        seek(nodeid, fh, 8 * BLOCK, os.SEEK_DATA)


@pytest.mark.promise("copy-1")
@pytest.mark.parametrize(
    ("off_in", "off_out", "length"),
    [(0, 0, 10), (3, 100, 1000), (0, BLOCK, 8 * BLOCK), (8 * BLOCK, 0, 5), (1, 0, 0)],
)
def test_copies_are_the_hosts(scene: Scene, off_in: int, off_out: int, length: int) -> None:
    pattern(scene)
    copied = scene.fs.copy_file_range(
        (*scene.open(b"file"), off_in), (*scene.open(b"empty"), off_out), length
    )
    source = os.open(scene.twin + b"/file", os.O_RDONLY)
    target = os.open(scene.twin + b"/empty", os.O_RDWR)
    assert copied == os.copy_file_range(source, target, length, off_in, off_out)
    os.close(source)
    os.close(target)
    assert read(scene.path(b"empty")) == read(scene.twin + b"/empty")


@pytest.mark.promise("copy-1")
def test_a_copy_within_one_file(scene: Scene) -> None:
    pattern(scene)
    nodeid, fh = scene.open(b"file")
    assert scene.fs.copy_file_range((nodeid, fh, 0), (nodeid, fh, 9 * BLOCK), BLOCK) == BLOCK
    assert read(scene.path(b"file")) == PATTERN + bytes(BLOCK) + b"a" * BLOCK


@pytest.mark.promise("copy-2")
def test_a_copy_may_be_short() -> None:
    """One request moves at most 128 MiB, so that it ends; the guest's kernel goes on from there."""
    with Share("tmpfs") as share, share.scene() as scene:
        nodeid, fh = scene.open(b"file")
        size = (128 << 20) + 5
        scene.fs.setattr(nodeid, size=size)
        target = scene.open(b"empty")
        assert scene.fs.copy_file_range((nodeid, fh, 0), (*target, 0), size) == 128 << 20
        done = 128 << 20
        assert scene.fs.copy_file_range((nodeid, fh, done), (*target, done), size - done) == 5
        assert scene.fs.getattr(target[0]).attr.size == size


@pytest.mark.promise("copy-1")
def test_copies_across_queues_go_on_beside_each_other(scene: Scene) -> None:
    pattern(scene)
    source = scene.open(b"file")
    target = scene.open(b"empty")
    for at in range(8):
        copied = scene.fs.copy_file_range(
            (*source, at * BLOCK), (*target, at * BLOCK), BLOCK, queue=1 + at % 2
        )
        assert copied == BLOCK
    assert read(scene.path(b"empty")) == PATTERN
