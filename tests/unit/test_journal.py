# SPDX-License-Identifier: Apache-2.0
"""The journal: no entry is lost, half-written, or in the hands of two daemons."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from ovfs.remote import presence
from ovfs.remote.cache import Cache
from ovfs.remote.journal import Journal, JournalEntry, all_entries, is_orphan
from tests.unit.other_daemon import OtherDaemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IDENTITY = "x://a"


@pytest.fixture
def cache(disk_dir: Path) -> Iterator[Cache]:
    with Cache(disk_dir, 1 << 30, IDENTITY, None) as cache:
        assert cache.wait_settled()
        yield cache


@pytest.fixture
def journal(cache: Cache) -> Journal:
    return Journal(cache.layout, IDENTITY, cache.presence)


def make_entry(cache: Cache, key: str = "key", **changes: object) -> JournalEntry:
    entry = JournalEntry(
        file_id=cache.new_file_id(),
        key=key,
        size=12,
        meta={"mode": "33188", "odd": "\udcff\0\n"},
        base_etag='"abc"',
        if_none=False,
        kind="file",
        created_ns=time.time_ns(),
    )
    for name, value in changes.items():
        setattr(entry, name, value)
    return entry


def entry_of(other: OtherDaemon, key: str) -> str:
    """Let the other daemon enter something; return its file id."""
    file_id = other.ask("cache.new_file_id()").strip("'")
    other.ask(f"store.journal.put(entry({file_id!r}, {key!r}))")
    return file_id


def test_an_entry_comes_back_as_it_was(cache: Cache, journal: Journal) -> None:
    entries = [
        make_entry(cache, "a/b \udcff"),
        make_entry(cache, "dir/", kind="dir", size=0, base_etag=None, if_none=True),
        make_entry(cache, "m", kind="meta", attempts=3, last_error="server said 503\n"),
    ]
    for entry in entries:
        journal.put(entry)
    assert journal.all_entries() == entries
    assert {entry.identity for entry in entries} == {IDENTITY}
    assert {entry.owner for entry in entries} == {cache.presence.token}
    journal.remove(entries[1].file_id)
    journal.remove(entries[1].file_id)
    assert journal.all_entries() == [entries[0], entries[2]]


def test_an_entry_can_be_changed(cache: Cache, journal: Journal) -> None:
    entry = make_entry(cache)
    journal.put(entry)
    entry.attempts, entry.last_error = 1, "EIO"
    journal.put(entry)
    assert journal.all_entries() == [entry]


def test_a_living_daemons_entries_are_its_own(
    cache: Cache, journal: Journal, disk_dir: Path
) -> None:
    own = make_entry(cache)
    journal.put(own)
    with OtherDaemon(disk_dir) as other:
        entry_of(other, "theirs")
        assert journal.entries() == []
        assert other.ask("store.journal.entries()") == "[]"


def test_a_dead_daemons_entries_are_taken_over_once(
    cache: Cache, journal: Journal, disk_dir: Path
) -> None:
    with OtherDaemon(disk_dir) as other:
        names = [entry_of(other, f"key {number}") for number in range(5)]
        other.kill()
    taken = journal.entries()
    assert [entry.file_id for entry in taken] == names
    assert {entry.owner for entry in taken} == {cache.presence.token}
    assert journal.entries() == []
    with OtherDaemon(disk_dir) as third:
        assert third.ask("store.journal.entries()") == "[]"


def test_entries_that_were_taken_over_can_be_again(
    cache: Cache, journal: Journal, disk_dir: Path
) -> None:
    with OtherDaemon(disk_dir) as first:
        file_id = entry_of(first, "key")
        first.kill()
    with OtherDaemon(disk_dir) as second:
        assert file_id in second.ask("store.journal.entries()")
        assert journal.entries() == []
        second.ask(f"store.journal.put(entry({file_id!r}, 'key', 77))")
        second.kill()
    (taken,) = journal.entries()
    assert (taken.file_id, taken.size) == (file_id, 77)


def test_of_many_daemons_one_gets_an_entry(cache: Cache, disk_dir: Path) -> None:
    with OtherDaemon(disk_dir) as dead:
        names = {entry_of(dead, f"key {number}") for number in range(100)}
        with OtherDaemon(disk_dir) as one, OtherDaemon(disk_dir) as two:
            dead.kill()
            for daemon in (one, two):
                daemon.tell("[e.file_id for e in store.journal.entries()]")
            shares = [json.loads(daemon._read().replace("'", '"')) for daemon in (one, two)]
            owners = {entry.owner for entry in all_entries(cache.layout)}
            living = {info.token for info in presence.living(cache.layout)}
            assert owners <= living
    assert sorted(shares[0] + shares[1]) == sorted(names)


def test_another_services_entries_wait(cache: Cache, journal: Journal, disk_dir: Path) -> None:
    with OtherDaemon(disk_dir, identity="x://b") as other:
        entry_of(other, "theirs")
        other.kill()
    assert journal.entries() == []
    (entry,) = journal.all_entries()
    assert entry.identity == "x://b"
    assert is_orphan(cache.layout, entry)
    with OtherDaemon(disk_dir, identity="x://b") as other:
        assert "theirs" in other.ask("store.journal.entries()")


@pytest.mark.parametrize("seed", range(10))
def test_kill_at_any_moment_leaves_a_whole_entry(
    cache: Cache, journal: Journal, disk_dir: Path, seed: int
) -> None:
    with OtherDaemon(disk_dir) as other:
        file_id = entry_of(other, "key")
        other.tell(f"put_for_ever({file_id!r})")
        time.sleep(random.Random(seed).random() * 0.1)
        other.kill()
    (entry,) = journal.entries()
    assert entry.file_id == file_id
    assert entry.key in ("key", f"key {entry.size}" + "x" * (entry.size % 5000))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _text: b"",
    "cut": lambda text: text[: len(text) // 2],
    "no JSON": lambda _text: b"\xff\xfe",
    "no object": lambda _text: b"[1]",
    "a field too few": lambda text: text.replace(b'"size"', b'"sise"'),
    "a field of another kind": lambda text: text.replace(b'"size": 12', b'"size": "12"'),
    "metadata of another kind": lambda text: text.replace(b'"33188"', b"33188"),
    "an unknown kind": lambda text: text.replace(b'"kind": "file"', b'"kind": "pipe"'),
    "another's": lambda text: text.replace(b'"file_id": "', b'"file_id": "9'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_named_and_its_data_kept(
    cache: Cache, journal: Journal, disk_dir: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    with OtherDaemon(disk_dir) as other:
        whole, broken = entry_of(other, "whole"), entry_of(other, "broken")
        for file_id in (whole, broken):
            other.ask(f"os.pwrite(cache.new_write({file_id!r}, 0), b'bytes', 0)")
        other.kill()
    path = cache.layout.write(broken, "json")
    entry = make_entry(cache, file_id=broken, identity=IDENTITY)
    text = json.dumps({name: getattr(entry, name) for name in JournalEntry.__slots__}).encode()
    path.write_bytes(text)
    assert len(journal.all_entries()) == 2
    path.write_bytes(DAMAGES[damage](text))
    assert [entry.file_id for entry in journal.entries()] == [whole]
    assert len([line for line in caplog.records if "damaged" in line.getMessage()]) == 1
    cache._writes.remove_stale()
    assert cache.write_path(broken, 0).read_bytes()[:5] == b"bytes"


def test_a_failed_write_leaves_the_entry_as_it_was(
    cache: Cache, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = make_entry(cache)
    journal.put(entry)
    before = journal.all_entries()
    (cache.layout.write(entry.file_id, "json").with_name(f".{entry.file_id}.json")).mkdir()
    entry.size = 99
    with pytest.raises(OSError, match="directory"):
        journal.put(entry)
    assert journal.all_entries() == before


def test_names_are_checked(journal: Journal, cache: Cache) -> None:
    with pytest.raises(ValueError, match="no file id"):
        journal.put(make_entry(cache, file_id="../x"))


def test_sync_reaches_the_files(
    cache: Cache, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [make_entry(cache) for _ in range(2)]
    for entry in entries:
        fd = cache.new_write(entry.file_id, 0)
        os.pwrite(fd, b"bytes", 0)
        os.close(fd)
        journal.put(entry)
    synced: list[str] = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    one, two = (entry.file_id for entry in entries)
    asyncio.run(journal.sync(one))
    assert sorted(synced) == sorted([f"{one}.0", f"{one}.json", "writes"])
    synced.clear()
    asyncio.run(journal.sync())
    assert sorted(synced) == sorted(
        [f"{one}.0", f"{one}.json", f"{two}.0", f"{two}.json", "writes"]
    )


def test_who_lives(cache: Cache, disk_dir: Path) -> None:
    with OtherDaemon(disk_dir, identity="x://b") as other:
        infos = presence.living(cache.layout)
        assert [info.pid for info in infos] == [os.getpid(), other.pid]
        assert [info.identity for info in infos] == [IDENTITY, "x://b"]
        assert all(presence.alive(cache.layout, info.token) for info in infos)
        dead = infos[1].token
        other.kill()
    assert not presence.alive(cache.layout, dead)
    assert [info.pid for info in presence.living(cache.layout)] == [os.getpid()]
    assert not presence.alive(cache.layout, "1-00000000")
