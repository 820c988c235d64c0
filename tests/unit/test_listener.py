# SPDX-License-Identifier: Apache-2.0
"""The listening socket: whose it is, who may connect, and two daemons that want the same path."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ovfs import listener
from ovfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def listen(path: Path, mode: int = 0o600, group: str | None = None) -> listener.Listener:
    return listener.listen(str(path), mode, group)


def test_path_is_made_and_removed(run_dir: Path) -> None:
    path = run_dir / "s"
    one = listen(path)
    assert connects(path)
    assert one.name == str(path)
    one.close()
    assert os.listdir(run_dir) == []
    one.close()


def test_dead_socket_is_replaced(run_dir: Path) -> None:
    path = run_dir / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    one = listen(path)
    assert connects(path)
    one.close()


def test_live_socket_is_an_error_and_stays(run_dir: Path) -> None:
    path = run_dir / "s"
    first = listen(path)
    with pytest.raises(UsageError, match="in use by another process"):
        listen(path)
    assert connects(path)
    first.close()


def test_live_socket_with_a_full_backlog_is_still_live(run_dir: Path) -> None:
    path = run_dir / "s"
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(str(path))
        with pytest.raises(UsageError, match="in use"):
            listen(path)
    for sock in waiting:
        sock.close()


def test_live_socket_of_another_type_is_an_error(run_dir: Path) -> None:
    path = run_dir / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(UsageError, match="in use"):
            listen(path)
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "fifo"])
def test_what_is_no_socket_is_never_removed(kind: str, run_dir: Path) -> None:
    path = run_dir / "s"
    target = run_dir / "target"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "symlink":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(target))
        path.symlink_to(target)
    else:
        os.mkfifo(path)
    before = os.lstat(path)
    with pytest.raises(UsageError, match="is not a socket: remove it or choose another path"):
        listen(path)
    assert os.lstat(path).st_ino == before.st_ino


def test_path_that_somebody_else_took_is_left_alone(run_dir: Path) -> None:
    path = run_dir / "s"
    one = listen(path)
    path.unlink()
    path.write_text("another's")
    one.close()
    assert path.read_text() == "another's"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0o000])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_mode_is_as_asked_whatever_the_umask(mode: int, umask: int, run_dir: Path) -> None:
    old = os.umask(umask)
    try:
        one = listen(run_dir / "s", mode)
        assert os.umask(umask) == umask
    finally:
        os.umask(old)
    assert stat.S_IMODE((run_dir / "s").stat().st_mode) == mode
    one.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to any group")
def test_mode_and_group_hold_before_anybody_can_connect(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_dir / "s"
    seen: list[tuple[int, int]] = []
    real = socket.socket.listen

    def spy(sock: socket.socket, backlog: int) -> None:
        status = path.stat()
        seen.append((stat.S_IMODE(status.st_mode), status.st_gid))
        assert not connects(path)
        real(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", spy)
    listen(path, 0o660, "1").close()
    assert seen == [(0o660, 1)]


def test_group_may_be_named(run_dir: Path) -> None:
    name = grp.getgrgid(os.getegid()).gr_name
    one = listen(run_dir / "s", 0o660, name)
    assert (run_dir / "s").stat().st_gid == os.getegid()
    one.close()


@pytest.mark.parametrize(
    ("name", "group", "words"),
    [
        ("s", "no-such-group", "there is no group no-such-group"),
        ("x" * 108, None, "longer than 107 bytes"),
        ("missing/s", None, "cannot open the socket's directory"),
    ],
)
def test_wrong_path_or_group_is_one_line(
    name: str, group: str | None, words: str, run_dir: Path, open_fds: Callable[[], set[str]]
) -> None:
    before = open_fds()
    with pytest.raises(UsageError, match=words) as caught:
        listen(run_dir / name, 0o600, group)
    assert "\n" not in str(caught.value)
    assert os.listdir(run_dir) == []
    assert open_fds() == before


def test_two_that_race_for_one_path_get_one_winner(run_dir: Path) -> None:
    path = run_dir / "s"
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as dead:  # both find a dead one and want to replace it
            dead.bind(str(path))
        results: list[listener.Listener | UsageError] = []
        barrier = threading.Barrier(4)

        def race(barrier: threading.Barrier, results: list[listener.Listener | UsageError]) -> None:
            barrier.wait()
            try:
                results.append(listen(path))
            except UsageError as error:
                results.append(error)

        threads = [threading.Thread(target=race, args=(barrier, results)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [result for result in results if isinstance(result, listener.Listener)]
        assert len(winners) == 1, results
        assert connects(path)
        winners[0].close()


def test_lock_that_never_comes_is_an_error(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_LOCK_WAIT", 0.05)
    fd = os.open(run_dir, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="stays locked"):
        listen(run_dir / "s")
    os.close(fd)


def test_socket_passed_in_is_used_and_its_path_stays(run_dir: Path) -> None:
    path = run_dir / "s"
    given = socket.socket(socket.AF_UNIX)
    given.bind(str(path))
    given.listen()
    one = listener.adopt(given.detach())
    assert not one.sock.get_inheritable()
    assert connects(path)
    one.close()
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["closed", "file", "tcp", "datagram", "connected", "bound"])
def test_descriptor_that_nobody_can_connect_to_is_refused(
    kind: str, run_dir: Path, open_fds: Callable[[], set[str]]
) -> None:
    before = open_fds()
    other: socket.socket | None = None
    if kind == "closed":
        fd = 1023
    elif kind == "file":
        fd = os.open("/dev/null", os.O_RDONLY)
    elif kind == "tcp":
        sock = socket.socket()
        sock.listen()
        fd = sock.detach()
    elif kind == "connected":
        sock, other = socket.socketpair()
        fd = sock.detach()
    else:
        datagram = kind == "datagram"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
        sock.bind(str(run_dir / "s"))
        fd = sock.detach()
    with pytest.raises(UsageError, match=f"--fd {fd}.*; pass a listening UNIX stream socket"):
        listener.adopt(fd)
    if other is not None:
        other.close()
    if kind != "closed":
        os.close(fd)  # still the giver's
    assert open_fds() == before


def test_dead_owner_leaves_no_lock_behind(run_dir: Path) -> None:
    code = (
        "import os, sys; from ovfs import listener; "
        "listener.listen(sys.argv[1], 0o600, None); os._exit(9)"
    )
    path = run_dir / "s"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    assert path.is_socket()
    listen(path).close()
