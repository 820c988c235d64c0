# SPDX-License-Identifier: Apache-2.0
"""The store: what was learnt of objects is known later, to all daemons, and bounded."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ovfs.remote.cache import Cache
from ovfs.remote.store import Store
from tests.unit.other_daemon import OtherDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDENTITY = "x://a"
META = {"mode": "33188", "mtime": "1700000000.25", "note": "gr\u00fc\u00dfe \udcff"}


@pytest.fixture
def cache(disk_dir: Path) -> Iterator[Cache]:
    with Cache(disk_dir, 1 << 30, IDENTITY, None) as cache:
        yield cache


def open_store(cache: Cache, identity: str = IDENTITY, limit: int = 1000) -> Store:
    return Store(cache.layout.root.parent, identity, cache.presence, limit=limit)


def count(cache: Cache) -> int:
    with closing(sqlite3.connect(cache.layout.store)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM memory").fetchone()
        return int(number)


def test_known_at_once_and_after_a_restart(cache: Cache) -> None:
    with open_store(cache) as store:
        assert store.recall("key", "v") is None
        store.remember("key", "v", META)
        store.remember("empty", "v", {})
        assert store.recall("key", "v") == META
    with open_store(cache) as store:
        assert store.recall("key", "v") == META
        assert store.recall("empty", "v") == {}
        assert store.recall("key", "v2") is None
        assert store.recall("other", "v") is None


def test_services_are_kept_apart(cache: Cache) -> None:
    with open_store(cache) as one, open_store(cache, "x://b") as two:
        one.remember("key", "v", META)
        assert one.flush()
        assert two.recall("key", "v") is None


def test_a_whole_listing_in_order(cache: Cache) -> None:
    with open_store(cache, limit=10_000) as store:
        for number in range(0, 3000, 2):
            store.remember(f"key {number}", "v", {"n": str(number)})
        assert store.flush()
        store.remember("key 1", "v", {"n": "pending"})
        found = store.recall_many([(f"key {number}", "v") for number in range(3000)])
        assert found[0] == {"n": "0"}
        assert found[1] == {"n": "pending"}
        assert found[3] is None
        assert [n for n, meta in enumerate(found) if meta] == sorted([1, *range(0, 3000, 2)])
        assert store.recall_many([]) == []


def test_what_is_learnt_anew_replaces(cache: Cache) -> None:
    with open_store(cache) as store:
        for value in ("a", "b"):
            store.remember("key", "v", {"n": value})
            assert store.flush()
        assert store.recall("key", "v") == {"n": "b"}
        assert count(cache) == 1


def test_the_oldest_go_beyond_the_limit(cache: Cache) -> None:
    with open_store(cache, limit=100) as store:
        for number in range(250):
            store.remember(f"key {number}", "v", META)
            if number % 50 == 49:
                assert store.flush()
        known = [n for n in range(250) if store.recall(f"key {n}", "v")]
        assert known == list(range(150, 250))
        assert count(cache) == 100


def test_another_daemon_knows_it_too(cache: Cache, disk_dir: Path) -> None:
    with open_store(cache) as store, OtherDaemon(disk_dir) as other:
        other.ask("store.remember('theirs', 'v', {'a': 'b'}) or store.flush()")
        assert store.recall("theirs", "v") == {"a": "b"}
        store.remember("ours", "v", {"c": "d"})
        assert store.flush()
        assert other.ask("store.recall('ours', 'v')") == "{'c': 'd'}"


def test_reading_does_not_wait_for_a_writer(cache: Cache) -> None:
    with open_store(cache) as store:
        store.remember("key", "v", META)
        assert store.flush()
        with closing(sqlite3.connect(cache.layout.store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM memory")
            begun = time.monotonic()
            assert store.recall("key", "v") == META
            store.remember("new", "v", META)
            assert store.recall("new", "v") == META
            assert time.monotonic() - begun < 0.5
            other.execute("ROLLBACK")
        assert store.flush()


@pytest.mark.parametrize("seed", range(5))
def test_kill_while_it_writes(cache: Cache, disk_dir: Path, seed: int) -> None:
    with open_store(cache) as store:
        with OtherDaemon(disk_dir) as other:
            other.ask("store.remember('first', 'v', {'a': 'b'}) or store.flush()")
            other.tell(
                "[(store.remember(f'{n}', 'v', {'n': f'{n}' * 500}), n % 50 or store.flush())"
                " for n in range(10**6)]"
            )
            time.sleep(random.Random(seed).random() * 0.3)
            other.kill()
        assert store.recall("first", "v") == {"a": "b"}
        for number in range(1000):
            meta = store.recall(f"{number}", "v")
            assert meta in (None, {"n": f"{number}" * 500})
        store.remember("last", "v", META)
        assert store.flush()
    with closing(sqlite3.connect(cache.layout.store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def rubbish(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE memory (something TEXT)")
        connection.execute("PRAGMA user_version = 1")


def scramble(path: Path) -> None:
    """Overwrite all but the first page, so that it opens as a database."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(random.Random(9).randbytes(size - 4096))


@pytest.mark.parametrize("damage", [rubbish, cut, foreign, scramble])
def test_a_damaged_database_is_put_aside(
    cache: Cache, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    objects = [(f"key {number}", "v") for number in range(1000)]
    with open_store(cache) as store:
        for key, version in objects:
            store.remember(key, version, META)
    assert callable(damage)
    damage(cache.layout.store)
    with open_store(cache) as store:
        assert all(meta in (None, META) for meta in store.recall_many(objects))
        store.remember("new", "v", META)
        assert store.flush()
        store.remember("new too", "v", META)
        assert store.flush()
        assert store.recall("new too", "v") == META
    assert cache.layout.store.with_name("store.sqlite.damaged").exists()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "is damaged" in lines[0]
    with open_store(cache) as store:
        assert store.recall("new too", "v") == META


def test_a_database_that_another_daemon_put_aside(cache: Cache, disk_dir: Path) -> None:
    """The new one of the other is not put aside too."""
    with open_store(cache) as store:
        store.remember("key", "v", META)
        assert store.flush()
        for suffix in ("-wal", "-shm", ""):
            path = cache.layout.store.with_name(f"store.sqlite{suffix}")
            path.rename(path.with_name(f"gone{suffix}"))
        with OtherDaemon(disk_dir) as other:
            other.ask("store.remember('theirs', 'v', {'a': 'b'}) or store.flush()")
            for database in (store._reader, store._writer):
                with database._failures("read"):
                    error = sqlite3.DatabaseError("made up")
                    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                    raise error
            assert store.recall("theirs", "v") == {"a": "b"}
    assert not cache.layout.store.with_name("store.sqlite.damaged").exists()


def test_a_database_that_cannot_be_opened(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    cache.layout.store.mkdir()
    with open_store(cache) as store:
        assert store.recall("key", "v") is None
        store.remember("key", "v", META)
        assert store.flush()
        assert store.recall("key", "v") is None
    assert all("cannot" in record.getMessage() for record in caplog.records)
    assert 1 <= len(caplog.records) <= 2


def test_it_is_quick(cache: Cache) -> None:
    """The loop thread may call it for every entry of a listing."""
    with open_store(cache, limit=100_000) as store:
        best = float("inf")
        for attempt in range(3):
            begun = time.perf_counter()
            for number in range(1000):
                store.remember(f"{attempt} {number}", "v", META)
            assert store.flush()
            objects = [(f"{attempt} {number}", "v") for number in range(1000)]
            taken = time.perf_counter()
            assert store.recall_many(objects).count(META) == 1000
            best = min(best, time.perf_counter() - taken)
            assert taken - begun < 5
        assert best < 0.1  # 100 us each; it takes 5
