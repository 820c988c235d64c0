# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: VMMs that come and go, signals, and what it needs to start."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.vmm import ROOT_ID, Session, Vmm
from tests.vmm import messages as wire
from tests.vmm.daemon import OVFS, Daemon, is_listening

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


PLAIN = "import sys; from ovfs.__main__ import main; sys.exit(main())"


@contextlib.contextmanager
def _run(script: str, sock: Path, share: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script as the daemon on a path of our choosing, until it listens and to the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(sock), f"fs://?root={share}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            deadline = time.monotonic() + 10
            while not is_listening(str(sock)):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


@pytest.fixture
def share(run_dir: Path) -> Path:
    (run_dir / "name").write_text("text")
    run_dir.chmod(0o755)
    return run_dir


@pytest.fixture
def daemon(share: Path) -> Iterator[Daemon]:
    with Daemon.start(share, command=OVFS, options=["--log-level", "debug"]) as daemon:
        yield daemon


def serves(daemon: Daemon) -> bool:
    with Vmm.connect(daemon.socket) as vmm:
        fs = vmm.fuse()
        fs.init()
        return fs.lookup(ROOT_ID, b"name").attr.size == 4


def test_one_vmm_after_another(daemon: Daemon) -> None:
    for _ in range(3):
        assert serves(daemon)
    assert daemon.stop() == 0
    assert not Path(daemon.socket).exists()


def test_it_serves_with_rings_as_old_kernels_have_them(share: Path) -> None:
    with Daemon.start(share, command=OVFS, env={"OVFS_PLAIN_RINGS": "1"}) as daemon:
        assert serves(daemon)
        assert daemon.stop() == 0


def test_tag_and_queues_are_told_to_those_who_ask(share: Path) -> None:
    options = ["--tag", "share", "--queues", "3"]
    with Daemon.start(share, command=OVFS, options=options) as daemon:
        with Session.connect(daemon.socket) as session:
            session.set_protocol_features(session.get_protocol_features())
            assert session.get_queue_num() == 4
            assert session.get_config(0, 40) == b"share".ljust(36, b"\0") + b"\3\0\0\0"
        with Vmm.connect(daemon.socket, queues=3) as vmm:
            vmm.fuse().init()
        assert daemon.stop() == 0


def test_nothing_of_a_vmm_stays(daemon: Daemon) -> None:
    assert serves(daemon)
    with Session.connect(daemon.socket) as probe:  # answered, so the one before is done with
        probe.get_features()
        before = daemon.fds()
    for _ in range(10):
        assert serves(daemon)
    with Session.connect(daemon.socket) as probe:
        probe.get_features()
        assert daemon.fds() == before
        assert len(daemon.threads()) == 1


def test_probes_and_hang_ups_are_survived(daemon: Daemon) -> None:
    for data in (b"", b"\1", b"\1\0\0\0\1\0\0\0\4\0\0\0", b"\xff" * 12, os.urandom(500)):
        with Session.connect(daemon.socket) as session:
            session.send_raw(data)
    assert serves(daemon)


def test_others_wait_their_turn(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as first, Session.connect(daemon.socket) as second:
        first.get_features()
        second.send_raw(wire.pack(wire.Request.GET_FEATURES))
        second.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.receive()
        first.close()
        second.sock.settimeout(10)
        assert second.receive().request == wire.Request.GET_FEATURES


def test_refusal_ends_the_connection_and_says_why(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as session:
        session.send_raw(wire.pack(wire.Request.SEND_RARP, bytes(8)))
        session.wait_closed()
    with Session.connect(daemon.socket) as session:
        session.set_protocol_features(session.get_protocol_features())
        session.set_owner()
        with pytest.raises(Exception, match="refused"):
            session.set_vring_num(0, 3)
        session.get_features()
    assert "SEND_RARP refused: the feature it belongs to is not offered" in daemon.log()
    assert "SET_VRING_NUM refused: 3 entries are no power of two" in daemon.log()
    assert serves(daemon)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly_with_a_vmm_connected(number: int, daemon: Daemon) -> None:
    with Vmm.connect(daemon.socket) as vmm:
        fs = vmm.fuse()
        fs.init()
        entry = fs.lookup(ROOT_ID, b"name")
        assert entry.nodeid > 0
        os.kill(daemon.pid, number)
        assert daemon.wait() == 0
    assert not Path(daemon.socket).exists()
    assert "Traceback" not in daemon.log()


def test_counters_on_request(daemon: Daemon) -> None:
    assert serves(daemon)
    os.kill(daemon.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 5
    while "info: Stats(requests=" not in daemon.log() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert re.search(r"Stats\(requests=[1-9]", daemon.log())


def test_guest_stop_and_start_keeps_its_nodes(daemon: Daemon) -> None:
    with Vmm.connect(daemon.socket) as vmm:
        fs = vmm.fuse()
        fs.init()
        entry = fs.lookup(ROOT_ID, b"name")
        vmm.start(vmm.stop())
        assert fs.getattr(entry.nodeid).attr.size == 4


def test_second_daemon_on_a_live_socket_is_refused(daemon: Daemon, share: Path) -> None:
    command = [sys.executable, "-m", "ovfs", daemon.socket, f"fs://?root={share}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 2
    assert result.stderr == (
        f"ovfs: {daemon.socket} is in use by another process: stop that or choose another path\n"
    )
    assert serves(daemon)


def test_killed_daemon_s_socket_is_taken_over(daemon: Daemon, share: Path) -> None:
    daemon.process.kill()
    daemon.wait()
    assert Path(daemon.socket).is_socket()
    with _run(PLAIN, Path(daemon.socket), share) as process:
        assert serves(daemon)
        process.terminate()
        assert process.wait(10) == 0


def test_socket_mode_and_group_reach_the_socket(share: Path) -> None:
    options = ["--socket-mode", "0640", "--socket-group", str(os.getegid())]
    with Daemon.start(share, command=OVFS, options=options) as daemon:
        status = Path(daemon.socket).stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_gid == os.getegid()
        assert daemon.stop() == 0


def test_passed_in_socket_is_served_and_left(share: Path) -> None:
    path = share / "given.sock"
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(path))
        given.listen()
        fd = given.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "ovfs", "--fd", str(fd), f"fs://?root={share}"],
            pass_fds=[fd],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
    with Vmm.connect(str(path)) as vmm:
        vmm.fuse().init()
    process.terminate()
    assert process.wait(10) == 0
    assert path.is_socket()


UNPRIVILEGED = "import sys; from tests.nobody import run; sys.exit(run())"


@needs_root
def test_unprivileged_it_serves_as_its_own_user(share: Path) -> None:
    share.chmod(0o777)
    sock = share / "s"
    with _run(UNPRIVILEGED, sock, share) as process:
        with Vmm.connect(str(sock)) as vmm:
            fs = vmm.fuse()
            fs.init()
            assert fs.lookup(ROOT_ID, b"name").attr.size == 4
        process.terminate()
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    # What it means, once each: for files it knows, and for files it makes.
    assert log.count(" warning: ") == 2, log
    assert "warning: without CAP_DAC_READ_SEARCH there are no file handles" in log
    assert "warning: not running as root" in log
    assert not sock.exists()


@needs_root
def test_mandatory_handles_need_privileges(share: Path) -> None:
    arguments = ["--inode-file-handles=mandatory", str(share / "s"), f"fs://?root={share}"]
    command = [sys.executable, "-c", UNPRIVILEGED, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "mandatory needs CAP_DAC_READ_SEARCH" in result.stderr


# What Docker's default profile does: io_uring_setup (425 on every architecture) fails with EPERM.
SECCOMP = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
filters = b"".join(struct.pack("=HBBI", *row) for row in code)
buffer = ctypes.create_string_buffer(filters)
program = struct.pack("@HP", len(code), ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execv(sys.executable, [sys.executable, "-m", "ovfs", *sys.argv[1:]])
"""


def test_forbidden_io_uring_is_one_line(share: Path) -> None:
    command = [sys.executable, "-c", SECCOMP, str(share / "s"), f"fs://?root={share}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "io_uring is forbidden by a seccomp filter" in result.stderr
    assert "--security-opt seccomp=" in result.stderr
    assert not (share / "s").exists()


# A data plane that takes its time to write back, so that a second signal finds it at that.
STUCK = """
import sys, threading
from ovfs import daemon
from ovfs.__main__ import main
daemon.Plane.sync = lambda self: (print("syncing", flush=True), threading.Event().wait())
sys.exit(main())
"""
FAILING = """
import errno, sys
from ovfs import daemon
from ovfs.__main__ import main
def sync(self):
    raise OSError(errno.EIO, "Input/output error")
daemon.Plane.sync = sync
sys.exit(main())
"""


def test_second_signal_ends_it_at_once(share: Path) -> None:
    sock = share / "s"
    with _run(STUCK, sock, share) as process, Vmm.connect(str(sock)) as vmm:
        vmm.fuse().init()
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.readline() == "syncing\n"
        assert process.poll() is None
        assert not sock.exists(), "the path is free as soon as it ends"
        process.terminate()
        assert process.wait(10) == 1


def test_data_that_cannot_be_written_back_is_exit_code_1(share: Path) -> None:
    sock = share / "s"
    with _run(FAILING, sock, share) as process, Vmm.connect(str(sock)) as vmm:
        vmm.fuse().init()
        process.terminate()
        _, log = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "error: data could not be written back: Input/output error" in log


def test_memory_that_the_vmm_takes_away_ends_its_session_only(daemon: Daemon) -> None:
    with Vmm.connect(daemon.socket, kick=False) as vmm:  # polled: the daemon looks by itself
        vmm.fuse().init()
        for index in vmm.memory.regions:
            os.ftruncate(vmm.memory.fd(index), 0)
        vmm.session.sock.settimeout(10)
        vmm.session.wait_closed()
    assert "the device failed" in daemon.log()
    assert serves(daemon)
    assert daemon.stop() == 0


@pytest.mark.skipif("OVFS_SANITIZE" in os.environ, reason="a sanitizer takes time and memory")
def test_it_listens_soon_and_stays_small(share: Path) -> None:
    """Half a second and 60 MiB are promised; the best of three, since others share the machine."""
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        with Daemon.start(share, command=OVFS) as daemon:
            seconds.append(time.monotonic() - start)
            assert daemon.rss() < 60 << 20
            assert serves(daemon)
            assert daemon.rss() < 60 << 20
    assert min(seconds) < 0.5
