# SPDX-License-Identifier: Apache-2.0
"""``ovfs status`` and ``ovfs drain``, and the socket at which a daemon answers them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ovfs.errors import UsageError
from ovfs.remote.cache import Cache
from ovfs.remote.control import ControlServer, QueueItem, ask
from ovfs.remote.journal import Journal, JournalEntry
from ovfs.remote.layout import Layout
from ovfs.status import drain, status
from tests.unit.cache_files import IDENTITY, fill
from tests.unit.other_daemon import OtherDaemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Daemon:
    """A daemon's end of it, on a thread of its own: a cache, a queue, and a socket."""

    def __init__(self, directory: Path, identity: str = IDENTITY) -> None:
        self.items: list[QueueItem] = []
        self.hurried = 0
        self.on_hurry: Callable[[], None] = lambda: None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self.cache = Cache(directory, 1 << 30, identity, None)
        self.journal = Journal(self.cache.layout, identity, self.cache.presence)
        self._thread.start()
        assert self._started.wait(10)

    def queue(self) -> list[QueueItem]:
        return self.items

    def hurry(self) -> None:
        self.hurried += 1
        self.on_hurry()

    def owe(self, key: str, size: int = 5, **more: object) -> JournalEntry:
        """Enter something in the journal and in the queue."""
        file_id = self.cache.new_file_id()
        entry = JournalEntry(file_id, key, size, {}, None, True, "file", time.time_ns())
        for name, value in more.items():
            setattr(entry, name, value)
        self.journal.put(entry)
        self.items.append(
            QueueItem(file_id, key, size, entry.created_ns, entry.attempts, entry.last_error)
        )
        return entry

    def store_all(self) -> None:
        """As if all were uploaded."""
        for item in self.items:
            self.journal.remove(item.file_id)
        self.items = []

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        server = ControlServer(self.cache.layout, self.cache.presence.token, self)
        await server.start()
        self._started.set()
        await self._ended.wait()
        await server.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self.cache.close()


@pytest.fixture
def daemon(disk_dir: Path) -> Iterator[Daemon]:
    with contextlib.closing(Daemon(disk_dir)) as daemon:
        yield daemon


def owe_and_die(directory: Path, key: str, identity: str = IDENTITY) -> str:
    """Leave an entry of a daemon that is no more."""
    with OtherDaemon(directory, identity) as other:
        file_id = other.ask("cache.new_file_id()").strip("'")
        other.ask(f"store.journal.put(entry({file_id!r}, {key!r}, 2048))")
        other.kill()
    return file_id


def talk(layout: Layout, token: str, *lines: bytes) -> list[dict[str, object]]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(layout.daemons / f"{token}.sock"))
        answers = sock.makefile("rb")
        found = []
        for line in lines:
            sock.sendall(line)
            found.append(json.loads(answers.readline()))
        return found


# -- the socket


def test_requests_and_answers(daemon: Daemon) -> None:
    entry = daemon.owe("key")
    layout, token = daemon.cache.layout, daemon.cache.presence.token
    answers = talk(
        layout, token, b'{"op": "status"}\n', b'{"op": "drain"}\n', b'{"op": "halt"}\n', b"hm\n"
    )
    assert [answer["ok"] for answer in answers] == [True, True, False, False]
    assert answers[0] == answers[1]
    assert answers[0]["queue"] == [
        {
            "file_id": entry.file_id,
            "key": "key",
            "size": 5,
            "created_ns": entry.created_ns,
            "attempts": 0,
            "last_error": None,
        }
    ]
    assert daemon.hurried == 1
    assert ask(layout, token, "status") == daemon.items


def test_too_long_a_line_is_hung_up_on(daemon: Daemon) -> None:
    layout, token = daemon.cache.layout, daemon.cache.presence.token
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(layout.daemons / f"{token}.sock"))
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(b"x" * 100_000)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert ask(layout, token, "status") == []


def test_a_daemon_ends_while_somebody_is_connected(disk_dir: Path) -> None:
    daemon = Daemon(disk_dir)
    path = daemon.cache.layout.daemons / f"{daemon.cache.presence.token}.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(b'{"op": "status"}\n')
        assert sock.recv(1000)
        daemon.close()
        assert sock.recv(1) == b""
    assert not path.exists()


def test_nobody_answers(disk_dir: Path) -> None:
    layout = Layout(disk_dir)
    layout.make()
    assert ask(layout, "1-00000000", "status") is None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(layout.daemons / "1-00000000.sock"))
        sock.listen()
        assert ask(layout, "1-00000000", "status", timeout=0.1) is None


def test_a_cache_directory_with_a_long_path(disk_dir: Path) -> None:
    with contextlib.closing(Daemon(disk_dir / ("long" * 50))) as daemon:
        assert ask(daemon.cache.layout, daemon.cache.presence.token, "status") == []


# -- status


def test_status_of_an_idle_directory(
    daemon: Daemon, disk_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(daemon.cache, "key")
    assert status(disk_dir) == 0
    text = capsys.readouterr().out
    assert f"1 daemons on {disk_dir}" in text
    assert f": {IDENTITY}, for 0 s, cache size 1.0 GiB\n" in text
    assert "cache: 1.0 MiB in 1 segments" in text
    assert "uploads: 0" in text


def test_status_tells_what_waits_and_why(
    daemon: Daemon, disk_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan = owe_and_die(disk_dir, "left\nbehind", "x://b")
    daemon.owe("dir/file", 3 << 20, attempts=2, last_error="503 from the server\x1b[31m")
    assert status(disk_dir) == 0
    text = capsys.readouterr().out
    assert "uploads: 2, 3.0 MiB" in text
    assert "dir/file: 3.0 MiB, waits 0 s, 2 attempts, last: 503 from the server\\x1b[31m\n" in text
    assert "left\\nbehind: 2.0 KiB" in text
    assert "no daemon serves x://b" in text
    assert status(disk_dir, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(item["key"], item["daemon"]) for item in told["uploads"]] == [
        ("left\nbehind", None),
        ("dir/file", daemon.cache.presence.token),
    ]
    assert told["uploads"][0]["file_id"] == orphan
    assert [one["token"] for one in told["daemons"]] == [daemon.cache.presence.token]
    assert told["cache"]["conflicts"] == 0


def test_status_names_a_daemon_that_does_not_answer(
    disk_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Cache(disk_dir, 1 << 30, IDENTITY, None):  # without a socket
        assert status(disk_dir) == 0
        assert "does not answer" in capsys.readouterr().out


@pytest.mark.parametrize("command", [status, lambda path: drain(path, 1.0)])
def test_no_cache_directory(disk_dir: Path, command: Callable[[Path], int]) -> None:
    with pytest.raises(UsageError, match="is no cache directory"):
        command(disk_dir / "nothing")


def test_looking_changes_nothing(daemon: Daemon, disk_dir: Path) -> None:
    owe_and_die(disk_dir, "key")
    before = sorted(disk_dir.rglob("*"))
    status(disk_dir)
    assert sorted(disk_dir.rglob("*")) == before


# -- drain


def test_nothing_to_wait_for(daemon: Daemon, disk_dir: Path) -> None:
    assert drain(disk_dir, 10.0) == 0


def test_nobody_there_and_nothing_owed(disk_dir: Path) -> None:
    Layout(disk_dir).make()
    assert drain(disk_dir, None) == 0


def test_drain_waits_for_a_daemon_that_it_hurries(daemon: Daemon, disk_dir: Path) -> None:
    daemon.owe("a")
    daemon.owe("b")
    timer = threading.Timer(0.3, daemon.store_all)
    daemon.on_hurry = timer.start
    assert drain(disk_dir, 20.0) == 0
    assert daemon.hurried == 1
    assert daemon.items == []


def test_drain_waits_for_what_is_not_in_the_journal(daemon: Daemon, disk_dir: Path) -> None:
    daemon.items.append(QueueItem("1-00000000-1", "key", 5, time.time_ns()))
    timer = threading.Timer(0.3, daemon.store_all)
    daemon.on_hurry = timer.start
    begun = time.monotonic()
    assert drain(disk_dir, 20.0) == 0
    assert time.monotonic() - begun >= 0.3


def test_drain_gives_up_in_time(
    daemon: Daemon, disk_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.owe("slow", attempts=4, last_error="403")
    begun = time.monotonic()
    assert drain(disk_dir, 0.3) == 1
    assert 0.3 <= time.monotonic() - begun < 5
    text = capsys.readouterr().out
    assert "not stored in time: 1 uploads" in text
    assert "slow: 5 bytes, waits 0 s, 4 attempts, last: 403" in text


def test_drain_names_what_nobody_stores(disk_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owe_and_die(disk_dir, "orphan")
    assert drain(disk_dir, None) == 1
    text = capsys.readouterr().out
    assert "nobody stores: 1 uploads, 2.0 KiB" in text
    assert f"orphan: 2.0 KiB, waits 0 s, no daemon serves {IDENTITY}" in text


def test_drain_stores_what_can_be_before_it_names_the_rest(
    daemon: Daemon, disk_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owe_and_die(disk_dir, "orphan", "x://b")
    daemon.owe("mine")
    timer = threading.Timer(0.3, daemon.store_all)
    daemon.on_hurry = timer.start
    assert drain(disk_dir, 20.0) == 1
    assert daemon.items == []
    text = capsys.readouterr().out
    assert "orphan" in text
    assert "mine" not in text


def test_a_living_daemon_takes_a_dead_ones_uploads(daemon: Daemon, disk_dir: Path) -> None:
    owe_and_die(disk_dir, "orphan")

    def take_over() -> None:
        for entry in daemon.journal.entries():
            daemon.journal.remove(entry.file_id)

    timer = threading.Timer(0.3, take_over)  # until then nobody has it, but somebody will
    daemon.on_hurry = timer.start
    assert drain(disk_dir, 20.0) == 0


def test_drain_does_not_trust_silence(disk_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cache(disk_dir, 1 << 30, IDENTITY, None):  # lives, and has no socket
        assert drain(disk_dir, 0.3) == 1
        assert "does not answer" in capsys.readouterr().out
