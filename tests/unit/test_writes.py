# SPDX-License-Identifier: Apache-2.0
"""Write segments: private, never evicted, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest

from ovfs.remote.cache import Cache
from ovfs.remote.journal import Journal
from ovfs.remote.layout import BLOCK, SEGMENT
from ovfs.remote.segment import checksum
from tests.unit.cache_files import IDENTITY, MIB, fill, on_disk, open_cache, set_age, write_file
from tests.unit.other_daemon import OtherDaemon

if TYPE_CHECKING:
    from pathlib import Path


def test_a_write_segment_is_sparse_and_whole(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        file_id = cache.new_file_id()
        fd = cache.new_write(file_id, 3)
        assert os.fstat(fd).st_size == SEGMENT
        assert os.fstat(fd).st_blocks == 0
        os.pwrite(fd, b"hello", SEGMENT - 5)
        again = cache.new_write(file_id, 3)
        assert os.pread(again, 9, SEGMENT - 5) == b"hello"
        os.close(fd)
        os.close(again)
        os.close(cache.new_write(file_id, 1))
        assert list(cache.writes_of(file_id)) == [1, 3]
        assert cache.writes_of(file_id)[3] == cache.write_path(file_id, 3)
        cache.drop_writes(file_id)
        assert cache.writes_of(file_id) == {}
        assert list(cache.layout.writes.iterdir()) == []


def test_ids_are_new_and_checked(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        assert len({cache.new_file_id() for _ in range(100)}) == 100
        with pytest.raises(ValueError, match="no file id"):
            cache.new_write("../../etc/passwd", 0)


def test_writes_are_not_evicted(disk_dir: Path) -> None:
    with Cache(disk_dir, 0, IDENTITY, None, reserve=0) as cache:
        file_id = write_file(cache, b"dirty" * 100000)
        set_age(cache.write_path(file_id, 0), 86400)
        cache.evict()
        assert cache.write_path(file_id, 0).exists()
        assert cache.used() == 0


@pytest.mark.parametrize("given", [True, False], ids=["sums given", "sums read"])
def test_adopted_writes_are_warm(disk_dir: Path, given: bool) -> None:
    data = random.Random(5).randbytes(SEGMENT + 3 * BLOCK + 17)
    crcs = [checksum(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
    with open_cache(disk_dir) as cache:
        file_id = write_file(cache, data)
        asyncio.run(cache.adopt(file_id, "key", "v2", len(data), crcs if given else None))
        assert cache.writes_of(file_id) == {}
        assert abs(cache.used() - on_disk(cache)) < MIB
        for index in range(2):
            segment = cache.segment("key", "v2", index, len(data))
            assert segment.blocks() == [range(segment.name.blocks)]
            assert segment.verify(0, segment.name.blocks - 1)
            piece = data[index * SEGMENT : (index + 1) * SEGMENT]
            assert os.pread(segment.fd, segment.length, 0) == piece
            segment.close()


def test_adopting_with_a_wrong_sum_is_found_out(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        file_id = write_file(cache, b"x" * BLOCK * 2)
        asyncio.run(cache.adopt(file_id, "key", "v", BLOCK * 2, [1, checksum(b"x" * BLOCK)]))
        segment = cache.segment("key", "v", 0, BLOCK * 2)
        assert not segment.verify(0, 1)
        assert segment.blocks() == [range(1, 2)]
        segment.close()


def test_adopting_a_file_that_shrank(disk_dir: Path) -> None:
    """Bytes beyond the end, and whole segments there, are not part of it."""
    with open_cache(disk_dir) as cache:
        file_id = write_file(cache, b"x" * (SEGMENT + 10))
        asyncio.run(cache.adopt(file_id, "key", "v", 5, None))
        segment = cache.segment("key", "v", 0, 5)
        assert segment.verify(0, 0)
        assert os.pread(segment.fd, 4096, 0) == b"xxxxx" + bytes(4091)
        segment.close()
        assert len(list(cache.layout.segments.glob("*/*"))) == 1
        assert list(cache.layout.writes.iterdir()) == []


def test_adopting_what_is_there_already(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        path = fill(cache, "key", MIB)
        inode = path.stat().st_ino
        file_id = write_file(cache, random.Random("key").randbytes(MIB))
        asyncio.run(cache.adopt(file_id, "key", "v", MIB, None))
        assert path.stat().st_ino == inode
        assert list(cache.layout.writes.iterdir()) == []


def test_adopting_over_one_that_is_not_whole(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        partial = cache.segment("key", "v", 0, 2 * BLOCK)
        asyncio.run(partial.add(0, b"x" * BLOCK))
        file_id = write_file(cache, b"x" * 2 * BLOCK)
        asyncio.run(cache.adopt(file_id, "key", "v", 2 * BLOCK, None))
        assert partial.evicted
        whole = cache.segment("key", "v", 0, 2 * BLOCK)
        assert whole.verify(0, 1)
        assert partial.verify(0, 0)
        whole.close()
        partial.close()


def test_the_losers_bytes_are_kept_as_one_file(disk_dir: Path) -> None:
    data = random.Random(6).randbytes(1000)
    with open_cache(disk_dir) as cache:
        file_id = write_file(cache, data)
        kept = asyncio.run(cache.keep_conflict(file_id, "dir/a file", len(data)))
        assert kept.parent == cache.layout.conflicts
        assert kept.name.startswith("dir%2Fa file.")
        assert kept.read_bytes() == data
        assert list(cache.layout.writes.iterdir()) == []


def test_the_losers_large_sparse_file(disk_dir: Path) -> None:
    size = 2 * SEGMENT + 5 * BLOCK
    with open_cache(disk_dir) as cache:
        file_id = cache.new_file_id()
        for index, offset in ((0, 4096), (2, 0), (2, 4 * BLOCK)):
            fd = cache.new_write(file_id, index)
            os.pwrite(fd, f"at {index} {offset}".encode(), offset)
            os.close(fd)
        kept = asyncio.run(cache.keep_conflict(file_id, "/", size))
        assert kept.stat().st_size == size
        assert kept.stat().st_blocks * 512 < MIB
        with kept.open("rb") as file:
            for index, offset in ((0, 4096), (2, 0), (2, 4 * BLOCK)):
                text = f"at {index} {offset}".encode()
                file.seek(index * SEGMENT + offset)
                assert file.read(len(text) + 1) == text + b"\0"


def test_losers_of_one_name(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        name = "n" * 400 + "\udcff"
        kept = {
            asyncio.run(cache.keep_conflict(write_file(cache, b"%d" % n), name, 1))
            for n in range(3)
        }
        assert sorted(path.read_bytes() for path in kept) == [b"0", b"1", b"2"]


def test_dead_daemons_writes_without_an_entry_go(disk_dir: Path) -> None:
    with OtherDaemon(disk_dir) as other:
        unnamed = write_of(other)
        named = write_of(other)
        other.ask(f"store.journal.put(entry({named!r}, 'key', 5))")
        with open_cache(disk_dir) as cache:  # the other lives
            assert cache.write_path(unnamed, 0).exists()
        other.kill()
    with open_cache(disk_dir) as cache:
        assert not cache.write_path(unnamed, 0).exists()
        assert cache.write_path(named, 0).exists()
        assert len(list(cache.layout.daemons.iterdir())) == 1


def test_writes_taken_over_have_an_owner(disk_dir: Path) -> None:
    """A third daemon removes them at no moment, be their entry there or not."""
    with OtherDaemon(disk_dir) as other:
        file_id = write_of(other)
        other.ask(f"store.journal.put(entry({file_id!r}, 'key', 5))")
        other.kill()
    with open_cache(disk_dir) as cache:
        journal = Journal(cache.layout, IDENTITY, cache.presence)
        assert [entry.file_id for entry in journal.entries()] == [file_id]
        assert list(cache.writes_of(file_id)) == [0]
        journal.remove(file_id)
        with open_cache(disk_dir):
            assert cache.write_path(file_id, 0).read_bytes()[:5] == b"bytes"
        asyncio.run(cache.adopt(file_id, "key", "v", 5, None))
        segment = cache.segment("key", "v", 0, 5)
        assert segment.verify(0, 0)
        segment.close()
        assert list(cache.layout.writes.iterdir()) == []


def test_writes_that_their_new_owner_left_go(disk_dir: Path) -> None:
    with OtherDaemon(disk_dir) as other:
        file_id = write_of(other)
        other.ask(f"store.journal.put(entry({file_id!r}, 'key', 5))")
        other.kill()
    with OtherDaemon(disk_dir) as second:
        assert file_id in second.ask("store.journal.entries()")
        second.ask(f"store.journal.remove({file_id!r})")
        second.kill()
    with open_cache(disk_dir) as cache:
        assert list(cache.layout.writes.iterdir()) == []


def write_of(other: OtherDaemon) -> str:
    """Let the other daemon write a file; return its id."""
    file_id = other.ask("cache.new_file_id()").strip("'")
    other.ask(f"os.pwrite(cache.new_write({file_id!r}, 0), b'bytes', 0)")
    return file_id
