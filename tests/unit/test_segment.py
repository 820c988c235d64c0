# SPDX-License-Identifier: Apache-2.0
"""A clean segment's file: what it claims is right, and what is wrong is found before it is used."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import struct
import time
from typing import TYPE_CHECKING

import pytest

from ovfs.remote.cache import Cache
from ovfs.remote.layout import BLOCK, PAGE, SEGMENT, hash_key
from ovfs.uring import AsyncRing
from tests.unit.other_daemon import OtherDaemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IDENTITY = "x://a"
SIZE = 3 * BLOCK + 1000  # four blocks, the last one short
DATA = random.Random(1).randbytes(SIZE)


@pytest.fixture
def cache(disk_dir: Path) -> Iterator[Cache]:
    with Cache(disk_dir, 1 << 30, IDENTITY, None, reserve=0) as cache:
        assert cache.wait_settled()  # its thread opens nothing more, for those who count
        yield cache


def fill(cache: Cache, key: str = "key", data: bytes = DATA) -> Path:
    """Put a whole object of one segment into the cache; return its file."""
    segment = cache.segment(key, "v", 0, len(data))
    asyncio.run(segment.add(0, data))
    segment.close()
    return cache.layout.segment(segment.hash, 0)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_what_was_added_is_there_after_a_restart(disk_dir: Path) -> None:
    with Cache(disk_dir, 1 << 30, IDENTITY, None) as cache:
        fill(cache)
    with Cache(disk_dir, 1 << 30, IDENTITY, None) as cache:
        segment = cache.segment("key", "v", 0, SIZE)
        assert segment.blocks() == [range(4)]
        assert not segment.checked(0, 3)
        assert segment.verify(0, 3)
        assert segment.checked(0, 3)
        assert os.pread(segment.fd, SIZE, 0) == DATA
        segment.close()


def test_blocks_come_in_any_order(cache: Cache) -> None:
    segment = cache.segment("key", "v", 0, SIZE)
    assert segment.blocks() == []
    asyncio.run(segment.add(3 * BLOCK, DATA[3 * BLOCK :]))
    asyncio.run(segment.add(BLOCK, DATA[BLOCK : 2 * BLOCK]))
    assert segment.blocks() == [range(1, 2), range(3, 4)]
    assert segment.verify(1, 1)
    assert segment.verify(3, 3)
    assert not segment.verify(1, 3)
    asyncio.run(segment.add(0, DATA[: 3 * BLOCK]))
    assert segment.blocks() == [range(4)]
    assert os.pread(segment.fd, SIZE, 0) == DATA
    segment.close()


def test_data_goes_through_the_ring(disk_dir: Path) -> None:
    data = random.Random(2).randbytes(4 << 20)

    async def main() -> None:
        async with AsyncRing() as ring:
            with Cache(disk_dir, 1 << 30, IDENTITY, ring) as cache:
                segment = cache.segment("key", "v", 0, len(data))
                half = len(data) // 2
                await asyncio.gather(
                    segment.add(0, data[:half]), segment.add(half, memoryview(data)[half:])
                )
                assert ring.statistics().submitted >= 4
                assert segment.blocks() == [range(64)]
                segment.close()
        with Cache(disk_dir, 1 << 30, IDENTITY, None) as cache:
            segment = cache.segment("key", "v", 0, len(data))
            assert await segment.check(0, 63)
            segment.close()

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, PAGE, BLOCK - 1, BLOCK, BLOCK + 1])
def test_objects_of_odd_sizes(cache: Cache, size: int) -> None:
    data = b"\0" * size  # zeros are data too, unlike a hole
    segment = cache.segment("key", "v", 0, size)
    asyncio.run(segment.add(0, data))
    assert segment.verify(0, segment.name.blocks - 1)
    segment.close()
    segment = cache.segment("key", "v", 0, size)
    assert segment.verify(0, segment.name.blocks - 1)
    segment.close()


def test_a_large_object_has_several_segments(cache: Cache) -> None:
    first = cache.segment("key", "v", 0, SEGMENT + 5)
    second = cache.segment("key", "v", 1, SEGMENT + 5)
    assert (first.length, second.length) == (SEGMENT, 5)
    asyncio.run(second.add(0, b"12345"))
    assert second.verify(0, 0)
    first.close()
    second.close()
    with pytest.raises(ValueError, match="no segment 2"):
        cache.segment("key", "v", 2, SEGMENT + 5)


@pytest.mark.parametrize(
    ("offset", "length"), [(1, BLOCK), (0, BLOCK + 1), (0, BLOCK - 1), (3 * BLOCK, BLOCK)]
)
def test_only_whole_blocks_are_taken(cache: Cache, offset: int, length: int) -> None:
    segment = cache.segment("key", "v", 0, SIZE)
    with pytest.raises(ValueError, match="whole blocks"):
        asyncio.run(segment.add(offset, b"x" * length))
    assert segment.blocks() == []
    segment.close()


def test_a_flipped_bit_costs_its_block_only(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    flip(fill(cache), BLOCK + 77)
    segment = cache.segment("key", "v", 0, SIZE)
    assert not segment.verify(0, 3)
    assert len(caplog.records) == 1
    assert "1 blocks" in caplog.text
    assert segment.blocks() == [range(1), range(2, 4)]
    assert segment.checked(0, 0)
    assert segment.verify(2, 3)
    asyncio.run(segment.add(BLOCK, DATA[BLOCK : 2 * BLOCK]))
    assert segment.verify(0, 3)
    assert os.pread(segment.fd, SIZE, 0) == DATA
    segment.close()
    assert len(caplog.records) == 1


def test_a_flipped_bit_in_the_table_costs_its_block(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    path = fill(cache)
    segment = cache.segment("key", "v", 0, SIZE)
    flip(path, segment.name.table_at + 4 * 2)
    segment.close()
    segment = cache.segment("key", "v", 0, SIZE)
    assert not segment.verify(0, 3)
    assert segment.blocks() == [range(2), range(3, 4)]
    assert len(caplog.records) == 1
    segment.close()


def test_a_table_that_claims_a_hole_is_found_out(cache: Cache) -> None:
    segment = cache.segment("key", "v", 0, SIZE)
    table_at = segment.name.table_at
    segment.close()
    overwrite(cache.layout.segment(segment.hash, 0), table_at, struct.pack("=4I", 1, 2, 3, 4))
    segment = cache.segment("key", "v", 0, SIZE)
    assert segment.blocks() == [range(4)]
    assert not segment.verify(0, 3)
    assert segment.blocks() == []
    segment.close()


def link_elsewhere(path: Path) -> None:
    moved = path.with_name(".moved")
    path.rename(moved)
    path.symlink_to(moved)


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": lambda path: os.truncate(path, 0),
    "cut in the data": lambda path: os.truncate(path, BLOCK),
    "cut in the table": lambda path: os.truncate(path, path.stat().st_size - 70),
    "cut by a byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "wrong magic": lambda path: flip(path, path.stat().st_size - 64),
    "wrong index": lambda path: flip(path, path.stat().st_size - 52),
    "wrong hash": lambda path: flip(path, path.stat().st_size - 40),
    "wrong length": lambda path: flip(path, path.stat().st_size - 16),
    "wrong footer checksum": lambda path: flip(path, path.stat().st_size - 1),
    "foreign": lambda path: write(path, b"a text of somebody\n" * 100),
    "foreign, of the right length": lambda path: write(path, b"x" * path.stat().st_size),
    "a link to elsewhere": link_elsewhere,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_removed_with_one_line(
    cache: Cache, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = fill(cache)
    damage(path)
    segment = cache.segment("key", "v", 0, SIZE)
    assert segment.blocks() == []
    assert len(caplog.records) == 1
    assert "removed segment" in caplog.text
    asyncio.run(segment.add(0, DATA))
    assert segment.verify(0, 3)
    segment.close()


def test_one_objects_file_under_anothers_name_is_not_served(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = fill(cache, "mine"), fill(cache, "other", DATA[::-1])
    other.replace(mine)
    segment = cache.segment("mine", "v", 0, SIZE)
    assert segment.blocks() == []
    assert "another file's" in caplog.text
    segment.close()


def test_key_version_and_service_tell_objects_apart() -> None:
    names = {
        hash_key(identity, key, version)
        for identity in ("x://a", "x://b")
        for key in ("k", "k\udcff", "kv")
        for version in ("", "v", "1")
    }
    assert len(names) == 18


def test_cut_short_while_open(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, int]] = []
    cache.on_evict.append(lambda key_hash, index: told.append((key_hash, index)))
    path = fill(cache)
    segment = cache.segment("key", "v", 0, SIZE)
    os.truncate(path, BLOCK)
    assert not segment.verify(0, 3)
    assert segment.evicted
    assert told == [(segment.hash, 0)]
    assert not path.exists()
    assert len(caplog.records) == 1
    fresh = cache.segment("key", "v", 0, SIZE)
    assert fresh is not segment
    assert fresh.blocks() == []
    fresh.close()
    segment.close()


def test_an_object_whose_length_changed_under_its_version(cache: Cache) -> None:
    fill(cache)
    segment = cache.segment("key", "v", 0, SIZE)
    longer = cache.segment("key", "v", 0, SIZE + BLOCK)
    assert segment.evicted
    assert longer.blocks() == []
    longer.close()
    segment.close()


def test_one_segment_has_one_descriptor_in_a_process(
    cache: Cache, open_fds: Callable[[], set[str]]
) -> None:
    before = open_fds()
    first = cache.segment("key", "v", 0, SIZE)
    second = cache.segment("key", "v", 0, SIZE)
    assert first is second
    assert len(open_fds() - before) == 1
    first.close()
    assert os.fstat(second.fd).st_nlink == 1
    second.close()
    assert open_fds() == before


def test_closed_while_it_is_filled(cache: Cache, open_fds: Callable[[], set[str]]) -> None:
    before = open_fds()

    async def main() -> None:
        segment = cache.segment("key", "v", 0, 1 << 20)
        adding = asyncio.create_task(segment.add(0, b"x" * (1 << 20)))
        await asyncio.sleep(0)
        segment.close()
        await adding
        assert segment.users == 0

    asyncio.run(main())
    assert open_fds() == before
    segment = cache.segment("key", "v", 0, 1 << 20)
    assert segment.verify(0, 15)
    segment.close()


def test_daemons_share_what_they_fetch(cache: Cache, disk_dir: Path) -> None:
    segment = cache.segment("key", "v", 0, 2 * BLOCK)
    with OtherDaemon(disk_dir) as other:
        other.ask("globals().__setitem__('s', cache.segment('key', 'v', 0, 131072))")
        assert other.ask("s.blocks()") == "[]"
        asyncio.run(segment.add(0, b"a" * BLOCK))
        assert other.ask("s.blocks(), s.verify(0, 0)") == "([range(0, 1)], True)"
        other.ask("run(s.add(65536, b'b' * 65536))")
        assert segment.verify(0, 1)  # without asking for the blocks first
        assert segment.blocks() == [range(2)]
        assert os.pread(segment.fd, 2 * BLOCK, 0) == b"a" * BLOCK + b"b" * BLOCK
    segment.close()


def test_both_daemons_make_the_same_segment(cache: Cache, disk_dir: Path) -> None:
    with OtherDaemon(disk_dir) as other:
        for number in range(30):
            other.tell(f"run(cache.segment('k{number}', 'v', 0, 9).add(0, b'the bytes'))")
            segment = cache.segment(f"k{number}", "v", 0, 9)
            asyncio.run(segment.add(0, b"the bytes"))
            segment.close()
            other._read()
            assert other.ask(f"cache.segment('k{number}', 'v', 0, 9).verify(0, 0)") == "True"
    assert not list(cache.layout.segments.glob("*/.*"))


@pytest.mark.parametrize("seed", range(8))
def test_kill_while_a_segment_is_filled(cache: Cache, disk_dir: Path, seed: int) -> None:
    """What the table claims afterwards is right; the rest is fetched again."""
    size = 64 * BLOCK
    with OtherDaemon(disk_dir) as other:
        other.tell(f"fill('key', {size}, b'{seed}')")
        segment = cache.segment("key", "v", 0, size)
        deadline = time.monotonic() + 20
        while not segment.blocks() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(random.Random(seed).random() * 0.05)
        other.kill()
    claimed = segment.blocks()
    assert claimed
    for run in claimed:
        assert segment.verify(run.start, run.stop - 1)
        assert os.pread(segment.fd, len(run) * BLOCK, run.start * BLOCK) == (
            str(seed).encode() * (len(run) * BLOCK)
        )
    segment.close()


def test_what_reads_as_damaged_is_logged_as_a_warning(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    flip(fill(cache), 0)
    segment = cache.segment("key", "v", 0, SIZE)
    segment.verify(0, 3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    segment.close()
