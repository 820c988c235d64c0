# SPDX-License-Identifier: Apache-2.0
"""VMMs that leave in the middle of everything, signals with requests in flight, the socket path."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process.conftest import PLAIN_RINGS
from tests.process.place import DATA, MIB, SANITIZED, check_next_vmm, fill, guest, opened
from tests.vmm import ROOT_ID, Session
from tests.vmm import fuse_wire as wire
from tests.vmm.daemon import OVFS, ROOT, Daemon, DaemonError, is_listening

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITE_LOCK = wire.FileLock(0, 100, fcntl.F_WRLCK, 1)


@pytest.fixture(params=["newest", "plain"])
def disk(request: pytest.FixtureRequest, disk_dir: Path) -> Iterator[Daemon]:
    """A daemon on a disk, where data goes through the rings."""
    root = fill(disk_dir / "root")
    env = PLAIN_RINGS if request.param == "plain" else {}
    options = ["--queues", "2", "--posix-lock", "--allow-direct-io", "--log-level", "debug"]
    with Daemon.start(root, command=OVFS, options=options, env=env) as daemon:
        yield daemon


def _idle_fds(daemon: Daemon) -> int:
    with Session.connect(daemon.socket) as probe:  # answered, so the one before is done with
        probe.get_features()
        return daemon.fds()


def test_a_vmm_killed_with_requests_in_flight(disk: Daemon) -> None:
    check_next_vmm(disk)
    before = _idle_fds(disk)
    for pause in (0.0, 0.02, 0.05):
        command = [sys.executable, "-m", "tests.process.victim", disk.socket]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as victim:
            try:
                assert victim.stdout is not None
                assert victim.stdout.readline() == "busy\n"
                time.sleep(pause)
            finally:
                victim.kill()
        check_next_vmm(disk)
    assert _idle_fds(disk) == before
    # Its locks went with it.
    with guest(disk) as (_, fs):
        node, fh = opened(fs)
        fs.setlk(node, fh, 7, WRITE_LOCK)
    assert disk.stop() == 0
    assert "Traceback" not in disk.log(1 << 20)


def test_a_vmm_that_leaves_at_any_point(fresh: Daemon) -> None:
    """Each start of the conversation, cut one message later than the one before."""
    check_next_vmm(fresh)
    before = _idle_fds(fresh)
    sent: list[int] = []
    original = Session.send_raw

    class CutError(Exception):
        pass

    def counted(session: Session, data: bytes, fds: tuple[int, ...] = ()) -> None:
        if len(sent) == limit:
            raise CutError
        sent.append(1)
        original(session, data, fds)

    limit, complete = 0, False
    while not complete:
        sent.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "send_raw", counted)
            try:
                with guest(fresh):
                    complete = True
            except CutError:
                limit += 1
    assert limit > 20, "that was no whole conversation"
    check_next_vmm(fresh)
    assert _idle_fds(fresh) == before


def test_nodes_handles_and_locks_go_with_the_vmm(fresh: Daemon) -> None:
    check_next_vmm(fresh)
    before = _idle_fds(fresh)
    with guest(fresh) as (_, fs):
        node, fh = opened(fs)
        handles = [fs.open(node).fh for _ in range(100)]
        assert len(set(handles)) == 100
        assert fresh.fds() >= before + 100
    with guest(fresh) as (_, fs):
        with pytest.raises(OSError, match="Stale"):
            fs.getattr(node)
        node, _ = opened(fs)
        with pytest.raises(OSError, match="Bad file descriptor"):
            fs.read(node, fh, 0, 10)
    assert _idle_fds(fresh) == before


@pytest.mark.parametrize("how", ["init", "destroy"])
def test_nodes_handles_and_locks_go_with_the_session(how: str, daemon: Daemon) -> None:
    with guest(daemon) as (_, fs):
        before = daemon.fds()
        node, fh = opened(fs)
        handles = [fs.open(node).fh for _ in range(50)]
        fs.setlk(node, fh, 1, WRITE_LOCK)
        assert daemon.fds() >= before + 50
        if how == "destroy":
            fs.destroy()
        fs.init()
        assert daemon.fds() <= before
        with pytest.raises(OSError, match="Stale"):
            fs.getattr(node)
        node, other = opened(fs)
        for old in (fh, *handles):
            if old != other:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    fs.read(node, old, 0, 10)
        fs.setlk(node, other, 2, WRITE_LOCK)


def test_stop_and_cont_keep_nodes_handles_and_locks(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        node, fh = opened(fs)
        listing = fs.opendir(ROOT_ID).fh
        fs.setlk(node, fh, 1, WRITE_LOCK)
        for _ in range(3):
            vmm.start(vmm.stop())
            vmm.session.set_status(0)
            assert fs.getattr(node, fh).attr.size == len(DATA)
            assert fs.read(node, fh, MIB, 100) == DATA[MIB : MIB + 100]
            assert {entry.name for entry in fs.readdir(ROOT_ID, listing)} >= {b"data", b"sub"}
            with pytest.raises(BlockingIOError):
                fs.setlk(node, fh, 2, WRITE_LOCK)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_answers_what_is_in_flight(number: int, disk: Daemon) -> None:
    with guest(disk, queues=2) as (_, fs):
        node, fh = opened(fs, flags=os.O_RDWR | os.O_DIRECT)
        fs.setlk(node, fh, 1, WRITE_LOCK)
        waiting = fs.submit_setlkw(node, fh, 2, WRITE_LOCK)
        writes = [
            fs.submit_write(node, fh, at << 16, bytes([at]) * 65536, queue=1 + at % 2)
            for at in range(32)
        ]
        os.kill(disk.pid, number)
        assert disk.wait() == 0
        # What was not taken is still the VMM's, to offer it again.
        answered = [at for at, write in enumerate(writes) if write.queue.poll(write.token)]
        for at in answered:
            assert wire.WriteOut.unpack(fs.wait(writes[at])).size == 65536
        assert waiting.queue.poll(waiting.token)
        with pytest.raises(InterruptedError):
            fs.wait(waiting)
    assert not Path(disk.socket).exists()
    with (Path(disk.socket).parent / "log").open() as log:
        assert "Traceback" not in log.read()
    data = (Path(_root_of(disk)) / "data").read_bytes()
    for at in answered:
        assert data[at << 16 : (at + 1) << 16] == bytes([at]) * 65536


def _root_of(daemon: Daemon) -> str:
    url = next(word for word in daemon.process.args if str(word).startswith("fs://"))  # type: ignore[union-attr]
    return str(url).partition("root=")[2]


def test_dirty_data_reaches_the_disk_before_the_end(disk_dir: Path) -> None:
    """Under strace: the file system is written back between the last answer and the exit."""
    root = fill(disk_dir / "root")
    trace = disk_dir / "trace"
    prefix = ["strace", "-f", "-qq", "-e", "trace=syncfs,fsync,exit_group", "-o", str(trace)]
    with Daemon.start(root, command=OVFS, prefix=prefix, timeout=60) as daemon:
        with guest(daemon) as (_, fs):
            node, fh = opened(fs)
            fs.write(node, fh, 0, b"dirty")
            inner = int(Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text())
            os.kill(inner, signal.SIGTERM)
            assert daemon.wait(30) == 0
        calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    done = [call.partition("(")[0] for call in calls if "= 0" in call or "exit_group" in call]
    assert done[-1] == "exit_group"
    assert "syncfs" in done


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ovfs", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=20
    )


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "symlink"])
def test_a_path_that_is_no_socket_is_refused_and_kept(
    kind: str, run_dir: Path, share: Path
) -> None:
    path = run_dir / "s"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "symlink":
            (run_dir / "target").write_text("precious")
            path.symlink_to("target")
    before = os.lstat(path)
    result = _run(str(path), f"fs://?root={share}")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "is not a socket" in result.stderr
    assert os.lstat(path) == before
    assert sorted(os.listdir(run_dir)) == (["s", "target"] if kind == "symlink" else ["s"])


def test_a_dead_socket_is_replaced_a_live_one_is_not(run_dir: Path, share: Path) -> None:
    path = run_dir / "s"
    live = socket.socket(socket.AF_UNIX)
    live.bind(str(path))
    live.listen()
    result = _run(str(path), f"fs://?root={share}")
    assert result.returncode == 2
    assert "is in use by another process" in result.stderr
    live.close()
    assert path.is_socket()
    command = [sys.executable, "-m", "ovfs", str(path), f"fs://?root={share}"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 15
        while not is_listening(str(path)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert not path.exists()


def test_two_daemons_race_for_a_path_and_one_wins(run_dir: Path, share: Path) -> None:
    command = [sys.executable, "-m", "ovfs", str(run_dir / "s"), f"fs://?root={share}"]
    racers = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        deadline = time.monotonic() + 20
        while sum(racer.poll() is not None for racer in racers) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        losers = [racer for racer in racers if racer.poll() is not None]
        assert [loser.returncode for loser in losers] == [2, 2]
        assert all("is in use" in loser.communicate()[1] for loser in losers)
        assert is_listening(str(run_dir / "s"))
    finally:
        for racer in racers:
            racer.terminate()
            racer.communicate(timeout=10)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes time and memory")
def test_an_idle_daemon_costs_next_to_nothing(disk: Daemon) -> None:
    """With a guest mounted and quiet: 60 MiB at most, and no CPU time to speak of."""
    with guest(disk, queues=2) as (_, fs):
        node, fh = opened(fs)
        fs.read(node, fh, 0, 4096)
        time.sleep(0.1)
        before = disk.cpu_ns()
        time.sleep(1.0)
        assert disk.cpu_ns() - before < 2_000_000, "more than 2 ms of CPU in an idle second"
        assert disk.rss() < 60 * MIB


def test_a_daemon_that_cannot_start_leaves_nothing(run_dir: Path) -> None:
    with pytest.raises(DaemonError, match="does not exist"):
        Daemon.start(run_dir / "missing", command=OVFS)
    assert _run(str(run_dir / "s"), f"fs://?root={run_dir}/missing").returncode == 2
    assert os.listdir(run_dir) == []
