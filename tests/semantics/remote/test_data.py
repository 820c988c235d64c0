# SPDX-License-Identifier: Apache-2.0
"""Reading and writing: any bytes anywhere, of files of any size."""

from __future__ import annotations

import os
import random
from errno import ENOSYS, ENXIO, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3
    from tests.semantics.remote.scene import Scene

MIB = 1 << 20
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT = 1, 2, 8, 16, 32


@pytest.mark.promise("r-read-1")
@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 65537, 3 * MIB + 17, 70 * MIB + 5])
def test_reads_are_short_at_the_end_only(fresh: Scene, size: int) -> None:
    """Also over the border of two cache files (64 MiB), in an order that is no order."""
    data = random.Random(size).randbytes(size)
    fresh.put("file", data)
    nodeid, fh = fresh.open("file", os.O_RDONLY)
    seeded = random.Random(1)
    borders = [0, size - 1, size, size + 1, 65536 - 10, (64 << 20) - 5000]
    for offset in [*borders, *(seeded.randrange(size + 1) for _ in range(20))]:
        if offset < 0:
            continue
        for length in (1, 4096, 100_000, MIB):
            assert fresh.fs.read(nodeid, fh, offset, length) == data[offset : offset + length]


@pytest.mark.promise("r-read-1")
def test_offsets_have_63_bits(fresh: Scene) -> None:
    fresh.put("file", b"data")
    nodeid, fh = fresh.open("file", os.O_RDONLY)
    assert fresh.fs.read(nodeid, fh, (1 << 63) - 4097, 4096) == b""


@pytest.mark.promise("r-read-2")
def test_a_file_larger_than_the_cache(fake: FakeS3, make_fake_share: MakeShare) -> None:
    share = make_fake_share("--cache-size", str(64 * MIB))
    data = random.Random(0).randbytes(MIB)
    fake.put("file", data * 150)
    nodeid = share.fs.lookup(1, b"file").nodeid
    fh = share.fs.open(nodeid).fh
    for _ in range(2):
        for offset in range(0, 150 * MIB, MIB):
            assert share.fs.read(nodeid, fh, offset, MIB) == data


@pytest.mark.promise("r-write-1")
@pytest.mark.parametrize("size", [0, 1000, 200_000, 70 * MIB])
def test_writing_anywhere(fresh: Scene, size: int) -> None:
    """Seeded random writes against bytes in memory, read back by two handles, then stored."""
    seeded = random.Random(size)
    model = bytearray(seeded.randbytes(size))
    fresh.put("file", bytes(model))
    nodeid, fh = fresh.open("file")
    other = fresh.fs.open(nodeid, os.O_RDONLY).fh
    for _ in range(40):
        offset = seeded.randrange(len(model) + 100_000)
        piece = seeded.randbytes(seeded.choice([1, 100, 4096, 70_000]))
        fresh.write(nodeid, fh, offset, piece)
        model += bytes(max(0, offset + len(piece) - len(model)))
        model[offset : offset + len(piece)] = piece
        start = max(0, offset - 5000)
        expected = bytes(model[start : start + 100_000])
        assert fresh.fs.read(nodeid, other, start, 100_000) == expected
    assert fresh.fs.getattr(nodeid).attr.size == len(model)
    fresh.close(nodeid, fh)
    assert fresh.get("file") == bytes(model)
    assert fresh.read(nodeid, other) == bytes(model)


@pytest.mark.promise("r-write-1")
def test_elsewhere_it_is_seen_once_stored(fresh: Scene) -> None:
    fresh.put("file", b"0123456789")
    nodeid, fh = fresh.open("file")
    fresh.write(nodeid, fh, 4, b"MID")
    assert fresh.get("file") == b"0123456789"
    fresh.fs.flush(nodeid, fh)
    assert fresh.get("file") == b"0123MID789"
    fresh.write(nodeid, fh, 0, b"N")
    assert fresh.get("file") == b"0123MID789"
    fresh.close(nodeid, fh)
    assert fresh.get("file") == b"N123MID789"


@pytest.mark.promise("r-write-2")
def test_dirty_data_is_not_evicted(fake: FakeS3, make_fake_share: MakeShare) -> None:
    """More of it than the cache may take, while other files come and go through the cache."""
    fake.put("other", bytes(80 * MIB))
    scene = make_fake_share("--cache-size", str(64 * MIB)).scene()
    data = random.Random(0).randbytes(MIB)
    nodeid, fh = scene.make("file")
    for offset in range(0, 100 * MIB, MIB):
        assert scene.fs.write(nodeid, fh, offset, data) == MIB
    other = scene.fs.lookup(1, b"other").nodeid
    reader = (other, scene.fs.open(other).fh)
    for offset in range(0, 80 * MIB, MIB):
        assert scene.fs.read(*reader, offset, MIB) == bytes(MIB)
    for offset in range(0, 100 * MIB, MIB):
        assert scene.fs.read(nodeid, fh, offset, MIB) == data
    scene.close(nodeid, fh)
    assert scene.get("file") == data * 100


@pytest.mark.promise("r-append-1")
def test_o_append(scene: Scene) -> None:
    """The guest's kernel keeps one size of a file, and sends each write with the end as offset."""
    nodeid = scene.save("file", b"start")
    one = scene.fs.open(nodeid, os.O_WRONLY | os.O_APPEND).fh
    two = scene.fs.open(nodeid, os.O_WRONLY | os.O_APPEND).fh
    flags = os.O_WRONLY | os.O_APPEND
    for number, fh in enumerate((one, two, two, one)):
        end = scene.fs.getattr(nodeid).attr.size
        assert end == 5 + 2 * number
        assert scene.fs.write(nodeid, fh, end, b"-%d" % number, flags=flags) == 2
    scene.close(nodeid, one)
    scene.close(nodeid, two)
    assert scene.get("file") == b"start-0-1-2-3"


@pytest.mark.promise("r-trunc-1")
def test_o_trunc(scene: Scene) -> None:
    nodeid = scene.save("file", b"old content")
    fh = scene.fs.open(nodeid, os.O_RDWR | os.O_TRUNC).fh
    assert scene.fs.getattr(nodeid).attr.size == 0
    assert scene.read(nodeid, fh) == b""
    assert scene.get("file") == b"old content"
    scene.write(nodeid, fh, 0, b"new")
    assert scene.get("file") == b"old content"
    scene.close(nodeid, fh)
    assert scene.get("file") == b"new"
    scene.close(nodeid, scene.fs.open(nodeid, os.O_RDWR | os.O_TRUNC).fh)
    assert scene.get("file") == b""


@pytest.mark.promise("r-sparse-1")
def test_holes(scene: Scene) -> None:
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 3 * MIB + 5, b"far")
    scene.fs.setattr(nodeid, size=5 * MIB, fh=fh)
    expected = bytes(3 * MIB + 5) + b"far" + bytes(2 * MIB - 8)
    assert scene.read(nodeid, fh) == expected
    scene.close(nodeid, fh)
    assert scene.get("file") == expected
    nodeid, fh = scene.open("file")
    scene.write(nodeid, fh, 5 * MIB + 70_001, b"x")
    scene.close(nodeid, fh)
    assert scene.get("file") == expected + bytes(70_001) + b"x"


@pytest.mark.promise("r-sparse-1")
def test_what_was_cut_off_does_not_come_back(scene: Scene) -> None:
    nodeid = scene.save("file", b"x" * 200_000)
    nodeid, fh = scene.open("file")
    for size in (100_001, 150_000, 10, 200_000):
        scene.fs.setattr(nodeid, size=size, fh=fh)
    assert scene.read(nodeid, fh) == b"x" * 10 + bytes(199_990)
    scene.close(nodeid, fh)
    assert scene.get("file") == b"x" * 10 + bytes(199_990)


@pytest.mark.promise("r-space-1")
def test_fallocate(scene: Scene) -> None:
    scene.save("file", b"x" * 100_000)
    nodeid, fh = scene.open("file")
    scene.fs.fallocate(nodeid, fh, 50_000, 10, 0)
    assert scene.fs.getattr(nodeid).attr.size == 100_000
    scene.fs.fallocate(nodeid, fh, 100_000, 50_000, 0)
    assert scene.fs.getattr(nodeid).attr.size == 150_000
    scene.fs.fallocate(nodeid, fh, 150_000, 50_000, KEEP_SIZE)
    assert scene.fs.getattr(nodeid).attr.size == 150_000
    scene.fs.fallocate(nodeid, fh, 1000, 20_000, PUNCH_HOLE | KEEP_SIZE)
    scene.fs.fallocate(nodeid, fh, 90_000, 5, ZERO_RANGE)
    scene.fs.fallocate(nodeid, fh, 149_999, 1000, PUNCH_HOLE | KEEP_SIZE)
    assert scene.fs.getattr(nodeid).attr.size == 150_000
    scene.fs.fallocate(nodeid, fh, 149_999, 1001, ZERO_RANGE)
    model = bytearray(b"x" * 100_000 + bytes(51_000))
    model[1000:21_000] = bytes(20_000)
    model[90_000:90_005] = bytes(5)
    assert scene.read(nodeid, fh) == bytes(model)
    scene.close(nodeid, fh)
    assert scene.get("file") == bytes(model)


@pytest.mark.promise("r-space-1")
@pytest.mark.parametrize("mode", [COLLAPSE, INSERT, PUNCH_HOLE, 0x40, 0x80])
def test_other_modes(scene: Scene, mode: int) -> None:
    scene.save("file", b"x" * 8192)
    nodeid, fh = scene.open("file")
    with pytest.raises(OSError, match="not supported") as caught:
        scene.fs.fallocate(nodeid, fh, 0, 4096, mode)
    assert caught.value.errno == EOPNOTSUPP
    assert scene.read(nodeid, fh) == b"x" * 8192


@pytest.mark.promise("r-space-2")
def test_lseek(scene: Scene) -> None:
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, MIB, b"data")
    size = MIB + 4
    for offset in (0, 1, MIB, size - 1):
        assert scene.fs.lseek(nodeid, fh, offset, os.SEEK_DATA) == offset
        assert scene.fs.lseek(nodeid, fh, offset, os.SEEK_HOLE) == size
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        with pytest.raises(OSError, match="No such device") as caught:
            scene.fs.lseek(nodeid, fh, size, whence)
        assert caught.value.errno == ENXIO


@pytest.mark.promise("r-copy-1")
def test_copy_file_range(scene: Scene) -> None:
    source = scene.open("file") if scene.save("file", b"data") else (0, 0)
    target = scene.make("copy")
    with pytest.raises(OSError, match="not implemented") as caught:
        scene.fs.copy_file_range((*source, 0), (*target, 0), 4)
    assert caught.value.errno == ENOSYS
