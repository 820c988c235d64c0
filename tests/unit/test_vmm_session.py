# SPDX-License-Identifier: Apache-2.0
"""The fake VMM against a daemon that is not ours: QEMU's virtiofsd, over its socket.

What works against a daemon with years behind it is the VMM's doing; so a test of ovfs that fails
means ovfs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.vmm import (
    ROOT_ID,
    BackendClosedError,
    BackendRefusedError,
    Feature,
    Init,
    Layout,
    ProtocolFeature,
    Region,
    Request,
    Session,
    Vmm,
    messages,
)
from tests.vmm.bench import MIB, Bench, BenchError, run_job
from tests.vmm.daemon import OVFS, VIRTIOFSD, Daemon, DaemonError, default_command, is_listening
from tests.vmm.fuse_flags import Setattr
from tests.vmm.fuse_wire import FileLock
from tests.vmm.memory import EDGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

virtiofsd = pytest.mark.skipif(
    not Path(VIRTIOFSD[0]).exists() or os.geteuid() != 0,
    reason="needs QEMU's virtiofsd (Debian: qemu-system-common) and root",
)


# Messages, against a socket pair.


@pytest.fixture
def pair() -> Iterator[tuple[Session, socket.socket]]:
    ours, theirs = socket.socketpair()
    with Session(ours, timeout=5) as session, theirs:
        yield session, theirs


def test_a_region_message_is_laid_out_as_specified() -> None:
    packed = messages.mem_table([Region(1, 2, 3, 4)])
    assert packed == b"".join(n.to_bytes(8, "little") for n in (1, 1, 2, 3, 4))
    assert messages.mem_slot(Region(1, 2, 3, 4))[:8] == bytes(8)


def test_messages_are_sent_with_their_fds(pair: tuple[Session, socket.socket]) -> None:
    session, theirs = pair
    session.set_vring_kick(3, theirs.fileno())
    data, fds, _flags, _addr = socket.recv_fds(theirs, 100, 8)
    assert data == messages.pack(Request.SET_VRING_KICK, (3).to_bytes(8, "little"))
    assert len(fds) == 1
    os.close(fds[0])
    session.set_vring_call(3, -1)
    assert theirs.recv(100)[12:] == (0x103).to_bytes(8, "little")


def test_a_refusal_is_an_exception(pair: tuple[Session, socket.socket]) -> None:
    session, theirs = pair
    session.protocol_features = ProtocolFeature.REPLY_ACK
    theirs.sendall(messages.pack(Request.SET_OWNER, messages.u64(22), 5))
    with pytest.raises(BackendRefusedError, match="SET_OWNER was refused"):
        session.set_owner()
    assert theirs.recv(100) == messages.pack(Request.SET_OWNER, b"", 0x9)


def test_a_hang_up_is_noticed(pair: tuple[Session, socket.socket]) -> None:
    session, theirs = pair
    assert session.is_open()
    theirs.close()
    assert not session.is_open()
    session.wait_closed()
    with pytest.raises((BackendClosedError, BrokenPipeError)):
        session.get_features()


# Daemons.


def test_the_environment_replaces_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVFS_COMMAND", raising=False)
    assert default_command() == OVFS
    monkeypatch.setenv("OVFS_COMMAND", "x --socket {socket} 'a b'")
    assert default_command() == ("x", "--socket", "{socket}", "a b")


def test_a_command_that_ends_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match=r"ended with 3: no luck in .*"):
        Daemon.start(tmp_path, command=["sh", "-c", "echo no luck in {dir} >&2; exit 3"])


def test_listening_is_seen_without_connecting(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert not is_listening(path)
        server.listen()
        assert is_listening(path)


# A whole device.


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Daemon, Vmm]]]:
    running: list[Daemon | Vmm] = []
    tmp_path.chmod(0o777)  # guest users create in it with their own identity

    def start(**how: Any) -> tuple[Daemon, Vmm]:
        options = ["-o", "xattr,posix_lock,flock", "-o", "writeback"]
        daemon = Daemon.start(tmp_path, command=VIRTIOFSD, options=options)
        running.append(daemon)
        vmm = Vmm.connect(daemon.socket, **how)
        running.append(vmm)
        return daemon, vmm

    yield start
    for one in reversed(running):
        one.close()


@virtiofsd
def test_handshake_and_init(start: Callable[..., tuple[Daemon, Vmm]]) -> None:
    _daemon, vmm = start()
    assert vmm.features & Feature.VERSION_1
    assert vmm.features & Feature.RING_EVENT_IDX
    assert vmm.queue_num == 2
    out = vmm.fuse().init()
    assert (out.major, out.minor) == (7, 36)
    assert vmm.fuse().init_flags & Init.ASYNC_READ


@virtiofsd
@pytest.mark.parametrize("indirect", [True, False], ids=["indirect", "direct"])
@pytest.mark.parametrize("event_idx", [True, False], ids=["event-idx", "flags"])
@pytest.mark.parametrize("base", [0, 65500])
def test_a_file_is_written_and_read(
    start: Callable[..., tuple[Daemon, Vmm]],
    tmp_path: Path,
    indirect: bool,
    event_idx: bool,
    base: int,
) -> None:
    _daemon, vmm = start(indirect=indirect, event_idx=event_idx, base=base)
    fs = vmm.fuse()
    fs.init()
    entry, opened = fs.create(ROOT_ID, b"file", mode=0o100640, uid=1000, gid=1000)
    data = os.urandom(150_000)
    layout = Layout(chunk=4096)
    assert fs.write(entry.nodeid, opened.fh, 0, data, layout=layout) == len(data)
    assert (tmp_path / "file").read_bytes() == data
    host = (tmp_path / "file").stat()
    assert (host.st_uid, host.st_gid, stat.S_IMODE(host.st_mode)) == (1000, 1000, 0o640)
    assert fs.read(entry.nodeid, opened.fh, 0, 200_000, layout=layout) == data
    # In an indirect table libvhost-user counts a descriptor in two regions twice, takes the
    # chain for a loop and stops the ring; so that is left to daemons that do better.
    across = Layout(straddle="reply", indirect=False)
    for _ in range(50):
        assert fs.read(entry.nodeid, opened.fh, 100, 5, layout=across) == data[100:105]
    fs.fsync(entry.nodeid, opened.fh)
    fs.flush(entry.nodeid, opened.fh)
    fs.release(entry.nodeid, opened.fh)
    fs.forget(entry.nodeid)


@virtiofsd
def test_every_operation_of_that_daemon(
    start: Callable[..., tuple[Daemon, Vmm]], tmp_path: Path
) -> None:
    _daemon, vmm = start()
    fs = vmm.fuse()
    fs.init()
    directory = fs.mkdir(ROOT_ID, b"dir", umask=0).nodeid
    link = fs.symlink(directory, b"link", b"target")
    assert fs.readlink(link.nodeid) == b"target"
    fifo = fs.mknod(directory, b"fifo", stat.S_IFIFO | 0o600)
    assert stat.S_ISFIFO(fifo.attr.mode)
    entry, opened = fs.create(directory, b"file")
    file, fh = entry.nodeid, opened.fh
    attr = fs.setattr(file, size=5000, mode=0o600, mtime_ns=1_500_000_000_000_000_007).attr
    assert (attr.size, attr.mtime, attr.mtimensec) == (5000, 1_500_000_000, 7)
    assert fs.setattr(file, valid=Setattr.MTIME | Setattr.MTIME_NOW).attr.mtime > 1_600_000_000
    assert fs.setattr(file, owner=5, group=6).attr.gid == 6
    assert fs.getattr(file, fh).attr == fs.getattr(file).attr
    fs.setxattr(file, b"user.a", b"value")
    assert fs.getxattr(file, b"user.a") == b"value"
    assert fs.getxattr_size(file, b"user.a") == 5
    assert fs.listxattr(file) == [b"user.a"]
    assert fs.listxattr_size(file) == 7
    fs.removexattr(file, b"user.a")
    with pytest.raises(OSError, match="No data") as caught:
        fs.getxattr(file, b"user.a")
    assert caught.value.errno == errno.ENODATA
    fs.fallocate(file, fh, 0, 10_000)
    fs.write(file, fh, 0, b"0123456789")
    assert fs.lseek(file, fh, 0, os.SEEK_DATA) == 0
    assert fs.copy_file_range((file, fh, 0), (file, fh, 9000), 10) == 10
    assert (tmp_path / "dir/file").read_bytes()[9000:9010] == b"0123456789"
    fs.link(file, directory, b"other")
    fs.rename(directory, b"other", ROOT_ID, b"moved")
    fs.rename2(ROOT_ID, b"moved", directory, b"again", 1)
    with pytest.raises(FileExistsError):
        fs.rename2(directory, b"again", directory, b"file", 1)
    handle = fs.opendir(directory).fh
    names = {b".", b"..", b"link", b"fifo", b"file", b"again"}
    assert {e.name for e in fs.readdir(directory, handle)} == names
    entries = {e.name: e.entry for e in fs.readdirplus(directory, handle)}
    assert entries[b"again"] is not None
    assert entries[b"again"].nodeid == file
    fs.fsyncdir(directory, handle)
    fs.releasedir(directory, handle)
    assert sorted(fs.list_names(directory, size=200)) == [b"again", b"fifo", b"file", b"link"]
    assert fs.statfs().namelen == 255
    fs.syncfs()
    lock = FileLock(0, 9, fcntl.F_WRLCK, 1)
    fs.setlk(file, fh, 1, lock)
    asked = FileLock(0, 9, fcntl.F_WRLCK, 0)
    assert fs.getlk(file, fh, 2, asked).type == fcntl.F_WRLCK
    with pytest.raises(BlockingIOError):
        fs.setlk(file, fh, 2, lock)
    fs.unlink(directory, b"again")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(ROOT_ID, b"dir")
    with pytest.raises(OSError, match="not implemented"):
        fs.access(file, os.R_OK)
    with pytest.raises(OSError, match="not implemented"):
        fs.tmpfile(directory)
    with pytest.raises(OSError, match="not implemented"):
        fs.statx(file)
    fs.release(file, fh)
    fs.batch_forget([(file, 3), (directory, 1)])
    with pytest.raises(FileNotFoundError):
        fs.lookup(ROOT_ID, b"none")
    fs.destroy()


@virtiofsd
def test_a_ring_is_stopped_and_goes_on_where_it_was(
    start: Callable[..., tuple[Daemon, Vmm]],
) -> None:
    _daemon, vmm = start(base=65534)
    fs = vmm.fuse()
    fs.init()
    for _ in range(3):
        fs.getattr(ROOT_ID)
    bases = vmm.stop()
    assert bases == [65534, (65534 + 4) % 65536]
    pending = fs.submit(3, ROOT_ID, bytes(16), 104, timeout=0.1)
    with pytest.raises(TimeoutError):
        fs.wait(pending)
    vmm.start(bases)
    vmm.queues[1].ring.kick_force()
    assert len(fs.wait(pending)) == 104


@virtiofsd
def test_memory_slots_come_and_go(start: Callable[..., tuple[Daemon, Vmm]]) -> None:
    _daemon, vmm = start()
    assert vmm.max_mem_slots > 3
    fs = vmm.fuse()
    fs.init()
    region = Region(1 << 40, 4 * EDGE, 0x6600_0000_0000, 0x5000)
    index = vmm.add_region(region)
    assert fs.getattr(ROOT_ID, layout=Layout(region=index)).attr.nlink >= 2
    vmm.remove_region(index)
    assert fs.getattr(ROOT_ID).attr.nlink >= 2


@virtiofsd
def test_a_memory_table_in_one_message(start: Callable[..., tuple[Daemon, Vmm]]) -> None:
    _daemon, vmm = start(wanted=ProtocolFeature.MQ)
    vmm.fuse().init()
    assert vmm.fuse().list_names(ROOT_ID) == []


@virtiofsd
def test_the_daemon_is_watched_and_ends(start: Callable[..., tuple[Daemon, Vmm]]) -> None:
    daemon, vmm = start()
    fs = vmm.fuse()
    fs.init()
    before = daemon.cpu_ns()
    for _ in range(200):
        fs.getattr(ROOT_ID)
    assert daemon.cpu_ns() > before
    # All of guest memory is touched through the daemon's mapping or ours; none of it is counted.
    assert 1 * MIB < daemon.rss() < 64 * MIB
    assert daemon.fds() > 5
    assert "virtiofsd" in daemon.threads()
    assert daemon.running
    vmm.close()
    daemon.wait()
    assert not daemon.running


@virtiofsd
@pytest.mark.slow
def test_every_workload_runs_and_leaves_nothing(
    start: Callable[..., tuple[Daemon, Vmm]], tmp_path: Path
) -> None:
    daemon, vmm = start()
    vmm.fuse().init()
    with Bench(vmm, daemon.pid, file_size=MIB, names=64) as bench:
        fds = daemon.fds()
        for workload in (
            "read",
            "write",
            "mixed",
            "getattr",
            "lookup",
            "open_release",
            "create_unlink",
            "rename",
            "readdirplus",
            "small_file",
        ):
            result = bench.run(workload, ops=200, depth=8)
            assert result.ops == 200
            assert result.daemon_cpu_ns is not None
            assert result.daemon_cpu_ns > 0
        # Every handle is released and every lookup given back, but for the handles Bench keeps.
        assert daemon.fds() <= fds + 1 + 8
    assert os.listdir(tmp_path) == []


@virtiofsd
@pytest.mark.slow
def test_files_are_stored_under_names_of_the_callers_choice(
    start: Callable[..., tuple[Daemon, Vmm]], tmp_path: Path
) -> None:
    daemon, vmm = start()
    vmm.fuse().init()
    names = [b"file-%d" % number for number in range(50)]
    job: dict[str, Any] = {
        "names": names,
        "size": 4096,
        "depth": 8,
        "ops": 50,
        "flags": os.O_WRONLY | os.O_CREAT,
    }
    fds = daemon.fds()
    result = run_job(vmm, "store_file", **job)
    assert (result.ops, result.requests) == (50, 250)
    assert daemon.fds() <= fds + 1
    assert sorted(os.listdir(tmp_path)) == sorted(os.fsdecode(name) for name in names)
    assert {(tmp_path / name.decode()).read_bytes() for name in names} == {b"\xa5" * 4096}
    with pytest.raises(BenchError):  # they are there already
        run_job(vmm, "store_file", **job)


@virtiofsd
def test_threads_share_a_device_on_queues_of_their_own(
    start: Callable[..., tuple[Daemon, Vmm]],
) -> None:
    _daemon, vmm = start()
    fs = vmm.fuse()
    fs.init()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(100):
                assert fs.getattr(ROOT_ID).attr.nlink >= 2
        except BaseException as error:  # noqa: BLE001 (handed to the test's thread)
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
