# SPDX-License-Identifier: Apache-2.0
"""The cache directory: its size, what goes first, who shares it, and a disk that is full."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ovfs.errors import UsageError
from ovfs.remote.cache import Cache
from ovfs.remote.eviction import Evictor
from ovfs.remote.journal import Journal, JournalEntry
from ovfs.remote.layout import BLOCK, PAGE, SEGMENT
from tests.unit.cache_files import IDENTITY, MIB, fill, on_disk, open_cache, set_age, write_file
from tests.unit.other_daemon import OtherDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ovfs.remote.segment import Segment


@pytest.fixture
def small_disk(run_dir: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    path = run_dir / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", path], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


# -- size and order


def test_the_total_is_what_the_disk_says(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        fill(cache, "a", 3 * MIB)
        segment = cache.segment("b", "v", 0, SEGMENT)  # sparse: mostly holes
        asyncio.run(segment.add(10 * BLOCK, b"x" * BLOCK))
        segment.close()
        assert on_disk(cache) < 4 * MIB
        assert abs(cache.used() - on_disk(cache)) < 64 << 10
    with open_cache(disk_dir) as cache:
        assert cache.used() == on_disk(cache)


def test_the_oldest_go_first(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        ages = [50, 10, 40, 20, 30, 60, 70, 80]
        paths = {age: fill(cache, f"key {age}", MIB, age) for age in ages}
    with Cache(disk_dir, 4 * MIB, IDENTITY, None, reserve=0) as cache:
        cache.evict()
        assert sorted(age for age, path in paths.items() if path.exists()) == [10, 20, 30]
        assert cache.used() == on_disk(cache) <= 4 * MIB


def test_opening_makes_young(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        paths = [fill(cache, f"key {n}", MIB, 100 - n) for n in range(5)]
        cache.segment("key 0", "v", 0, MIB).close()
    with Cache(disk_dir, 3 * MIB, IDENTITY, None, reserve=0) as cache:
        cache.evict()
        assert [path.exists() for path in paths] == [True, False, False, False, True]


def test_being_read_by_the_data_plane_makes_young(disk_dir: Path) -> None:
    """Without any call here: by the access time, which (relatime) must be made to move again."""
    with open_cache(disk_dir) as cache:
        paths = [fill(cache, f"key {n}", MIB, 1000 - n) for n in range(5)]
        fd = os.open(paths[0], os.O_RDONLY)
        os.pread(fd, 1, 0)
        if os.fstat(fd).st_atime < time.time() - 500:
            pytest.skip("this file system keeps no access times")
        set_read = time.time() - 900
        os.utime(paths[0], (set_read, set_read))
        cache._evictor._scan()
        os.pread(fd, 1, 0)
        os.close(fd)
    with Cache(disk_dir, 3 * MIB, IDENTITY, None, reserve=0) as cache:
        cache.evict()
        assert [path.exists() for path in paths] == [True, False, False, False, True]


def test_a_scan_makes_access_times_move_again(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        path = fill(cache, "key", MIB, 0)
        fd = os.open(path, os.O_RDONLY)
        time.sleep(0.02)
        os.pread(fd, 1, 0)
        first = os.fstat(fd).st_atime_ns
        time.sleep(0.02)  # the clock of inodes ticks every few milliseconds
        os.pread(fd, 1, 0)
        if os.fstat(fd).st_atime_ns != first:
            pytest.skip("this file system is mounted strictatime")
        cache._evictor._scan()
        time.sleep(0.02)
        os.pread(fd, 1, 0)
        os.close(fd)
        assert path.stat().st_atime_ns > first


def test_used_since_the_scan_stays(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        paths = [fill(cache, f"key {n}", MIB, 100 - n) for n in range(4)]
        cache._evictor._scan()
        set_age(paths[0], 1)
        cache._evictor.size = 3 * MIB
        cache._evictor.evict()
        assert [path.exists() for path in paths] == [True, False, False, True]


def test_what_is_in_use_this_moment_stays(disk_dir: Path) -> None:
    with Cache(disk_dir, MIB, IDENTITY, None, reserve=0) as cache:
        path = fill(cache, "key", 2 * MIB, 0)
        cache.evict()
        assert path.exists()
        time.sleep(0.25)
        cache.evict()
        assert not path.exists()


def test_times_of_a_clock_that_was_wrong(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        path = fill(cache, "key", MIB, -86400)
        cache._evictor._scan()
        assert path.stat().st_mtime <= time.time()


def test_housekeeping_evicts_by_itself(disk_dir: Path) -> None:
    with Cache(disk_dir, 8 * MIB, IDENTITY, None, reserve=0) as cache:
        for number in range(20):
            fill(cache, f"key {number}")
        deadline = time.monotonic() + 10
        while on_disk(cache) > 8 * MIB and time.monotonic() < deadline:
            time.sleep(0.01)
        assert on_disk(cache) <= 8 * MIB


def test_a_file_larger_than_the_cache(disk_dir: Path) -> None:
    """Its own old segments go while it is read; who reads too fast waits."""
    size, limit, piece = 6 * SEGMENT, 2 * SEGMENT, 8 * MIB
    data = random.Random(3).randbytes(piece)

    async def main() -> None:
        held: dict[int, Segment] = {}
        peak = 0
        with Cache(disk_dir, limit, IDENTITY, None, reserve=0) as cache:

            def let_go(_hash: str, index: int) -> None:
                if index in held:
                    held.pop(index).close()

            cache.on_evict.append(let_go)
            for index in range(size // SEGMENT):
                held[index] = segment = cache.segment("key", "v", index, size)
                for offset in range(0, SEGMENT, piece):
                    await segment.add(offset, data)
                    assert segment.verify(offset // BLOCK, (offset + piece) // BLOCK - 1)
                    peak = max(peak, on_disk(cache))
            await asyncio.sleep(0)
            assert 5 in held
            assert 0 not in held
            for segment in held.values():
                segment.close()
        assert peak <= limit + limit // 16 + SEGMENT // 8 + MIB

    asyncio.run(main())


def test_an_evicted_segment_can_be_read_by_who_has_it(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        path = fill(cache, "key", MIB)
        segment = cache.segment("key", "v", 0, MIB)
        set_age(path, 60)
        cache._evictor.size = 0
        cache.evict()
        assert not path.exists()
        assert segment.evicted
        assert segment.verify(0, 15)
        assert cache.used() == 0
        fresh = cache.segment("key", "v", 0, MIB)
        assert fresh is not segment
        assert fresh.blocks() == []
        fresh.close()
        segment.close()


def test_hooks_are_called_on_the_loop(disk_dir: Path) -> None:
    async def main() -> None:
        calls: list[tuple[str, int, threading.Thread]] = []
        called = asyncio.Event()
        with Cache(disk_dir, MIB, IDENTITY, None, reserve=0) as cache:
            cache.on_evict.append(lambda a, b: calls.append((a, b, threading.current_thread())))
            cache.on_evict.append(lambda _a, _b: called.set())
            segment = cache.segment("key", "v", 0, 2 * MIB)
            await segment.add(0, bytes(2 * MIB))
            name = segment.hash
            segment.close()
            await asyncio.wait_for(called.wait(), 10)
        assert calls == [(name, 0, threading.main_thread())]

    asyncio.run(main())


# -- several daemons


def test_another_daemons_eviction_is_noticed(
    disk_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovfs.remote.cache._PERIOD", 0.05)
    told: list[int] = []
    with open_cache(disk_dir) as cache:
        cache.on_evict.append(lambda _hash, index: told.append(index))
        path = fill(cache, "key")
        segment = cache.segment("key", "v", 0, MIB)
        set_age(path, 60)
        with OtherDaemon(disk_dir, size=MIB // 2) as other:
            other.ask("cache.evict()")
            assert not path.exists()
            deadline = time.monotonic() + 10
            while not told and time.monotonic() < deadline:
                time.sleep(0.01)
        assert told == [0]
        assert segment.evicted
        segment.close()


def test_two_daemons_evict_at_once(disk_dir: Path) -> None:
    """Each file is counted off once by each, and no more go than must."""
    with open_cache(disk_dir) as cache:
        for number in range(200):
            fill(cache, f"key {number}", BLOCK, 1000 - number)
        total = cache.used()
        limit = total // 2
        with OtherDaemon(disk_dir) as other:
            other.ask("cache.wait_settled()")
            other.ask(f"setattr(cache._evictor, 'size', {limit})")
            cache._evictor.size = limit
            cache._evictor._scan()
            other.tell("cache.evict()")
            cache.evict()
            other._read()
            assert cache.used() <= limit
            assert int(other.ask("cache.used()")) <= limit
        left = {int(path.stat().st_mtime) for path in cache.layout.segments.glob("*/*")}
        assert limit * 0.85 < on_disk(cache) <= limit
        assert len(left) >= 80
        assert min(left) > time.time() - 1000 + 99  # the young half


def test_names_that_are_not_ours_are_left_alone(
    disk_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_cache(disk_dir) as cache:
        fill(cache, "key")
        folder = next(cache.layout.segments.iterdir())
        (folder / "notes.txt").write_text("mine")
        (cache.layout.segments / "readme").write_text("mine")
        old, new = folder / ".1-00000000-1", folder / ".1-00000000-2"
        old.touch()
        new.touch()
        set_age(old, 7200)
    with Cache(disk_dir, 0, IDENTITY, None, reserve=0) as cache:
        cache.evict()
        assert (folder / "notes.txt").exists()
        assert (cache.layout.segments / "readme").exists()
        assert not old.exists()
        assert new.exists()
    assert len([record for record in caplog.records if "not ours" in record.message]) == 1


def test_start_does_not_wait_for_the_scan(disk_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    scan = Evictor._scan

    def slow_scan(self: Evictor) -> None:
        gate.wait(30)
        scan(self)

    monkeypatch.setattr(Evictor, "_scan", slow_scan)
    with Cache(disk_dir, 1 << 30, IDENTITY, None, reserve=0) as cache:
        assert cache.used() == 0
        segment = cache.segment("key", "v", 0, BLOCK)
        asyncio.run(segment.add(0, b"x" * BLOCK))
        assert segment.verify(0, 0)
        segment.close()
        os.close(cache.new_write(cache.new_file_id(), 0))
        gate.set()
        assert cache.wait_settled()
        assert cache.used() >= BLOCK


def test_a_directory_that_cannot_be_used(disk_dir: Path) -> None:
    (disk_dir / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot use the cache directory .*Not a directory"):
        Cache(disk_dir / "file" / "cache", 1 << 30, IDENTITY, None)


def test_nobody_else_may_look(disk_dir: Path) -> None:
    with open_cache(disk_dir / "a" / "b") as cache:
        path = fill(cache, "key")
        os.close(cache.new_write(file_id := cache.new_file_id(), 0))
        for file in (path, cache.write_path(file_id, 0)):
            assert file.stat().st_mode & 0o077 == 0
        for folder in (cache.layout.root, cache.layout.segments, path.parent):
            assert folder.stat().st_mode & 0o077 == 0


# -- a full disk


def test_a_full_disk_is_enospc(small_disk: Path) -> None:
    with open_cache(small_disk, reserve=4 * MIB) as cache:
        file_id = write_file(cache, bytes(range(256)) * (10 * MIB // 256))
        write_file(cache, b"x" * 2 * MIB)
        with pytest.raises(OSError, match="full") as caught:
            cache.new_write(cache.new_file_id(), 0)
        assert caught.value.errno == errno.ENOSPC
        # The reserve is for this:
        journal = Journal(cache.layout, IDENTITY, cache.presence)
        journal.put(JournalEntry(file_id, "key", 5, {}, None, True, "file", time.time_ns()))
        cache.drop_writes(file_id)
        os.close(cache.new_write(cache.new_file_id(), 0))


def test_clean_segments_make_way_for_writes(small_disk: Path) -> None:
    with open_cache(small_disk, reserve=MIB) as cache:
        paths = [fill(cache, f"key {n}", MIB, 100 - n) for n in range(13)]
        cache._evictor._scan()
        for number in range(10):
            fd = cache.new_write(cache.new_file_id(), 0)
            os.pwrite(fd, str(number).encode() * MIB, 0)
            os.close(fd)
        assert not paths[0].exists()


def test_a_full_disk_evicts_before_a_fetch_fails(small_disk: Path) -> None:
    with open_cache(small_disk) as cache:
        for number in range(40):
            fill(cache, f"key {number}", MIB)
        segment = cache.segment("key 39", "v", 0, MIB)
        assert segment.verify(0, 15)
        segment.close()


def test_a_disk_that_others_filled(small_disk: Path) -> None:
    """What was there of the segment stays right; the error says what is wrong."""
    with open_cache(small_disk) as cache:
        segment = cache.segment("key", "v", 0, 4 * MIB)
        asyncio.run(segment.add(0, b"a" * MIB))
        disk = os.statvfs(small_disk)
        (small_disk / "other").write_bytes(bytes(disk.f_bavail * disk.f_frsize))
        with pytest.raises(OSError, match="space") as caught:
            asyncio.run(segment.add(MIB, b"b" * 3 * MIB))
        assert caught.value.errno == errno.ENOSPC
        assert segment.blocks() == [range(16)]
        assert segment.verify(0, 15)
        segment.close()


def test_no_page_of_a_hole_is_written(disk_dir: Path) -> None:
    with open_cache(disk_dir) as cache:
        segment = cache.segment("key", "v", 0, SEGMENT)
        assert os.fstat(segment.fd).st_blocks * 512 <= 2 * PAGE
        segment.close()
