# SPDX-License-Identifier: Apache-2.0
"""GET_VRING_BASE: the queue is quiet when it is answered, which takes less than a second."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.process import hanging
from tests.process.conftest import PLAIN_RINGS
from tests.process.place import (
    DATA,
    MIB,
    check_next_vmm,
    check_serves,
    counters,
    error_of,
    fill,
    guest,
    opened,
    wait_until,
)
from tests.vmm import ROOT_ID, Opcode, Vmm
from tests.vmm import fuse_wire as wire
from tests.vmm.daemon import OVFS, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITE_LOCK = wire.FileLock(0, 2**63 - 1, fcntl.F_WRLCK, 1)
UNLOCK = wire.FileLock(0, 2**63 - 1, fcntl.F_UNLCK, 1)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


def test_nothing_is_written_once_it_has_returned(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        node, fh = opened(fs)
        queue = vmm.queues[1]
        first = [fs.submit_read(node, fh, at * 4096, 4096, kick=False) for at in range(20)]
        queue.kick()
        base = vmm.stop_queue(1)
        # All that was taken is answered: the used index has come as far as the avail index read.
        assert queue.ring.used_idx == base
        second = [fs.submit_read(node, fh, at * 4096, 4096, kick=False) for at in range(20, 30)]
        queue.kick()
        queue.ring.kick_force()
        replies = [segment for pending in second for segment in pending.token.reply]
        before = [vmm.memory.read(segment.addr, segment.length) for segment in replies]
        time.sleep(0.05)
        assert queue.ring.used_idx == base
        assert [vmm.memory.read(s.addr, s.length) for s in replies] == before
        vmm.start_queue(1, base)
        for at, pending in enumerate(first + second):
            assert fs.wait(pending) == DATA[at * 4096 : (at + 1) * 4096]
        check_serves(fs)


def test_stop_and_go_on_under_load_loses_nothing(daemon: Daemon) -> None:
    with guest(daemon, queue_size=64) as (vmm, fs):
        node, fh = opened(fs)
        for turn in range(30):
            pending = [
                fs.submit_read(node, fh, (turn * 7 + at) * 4096, 4096, kick=at % 5 == 0)
                for at in range(12)
            ]
            vmm.queues[1].kick()
            vmm.start(vmm.stop())
            for at, one in enumerate(pending):
                offset = (turn * 7 + at) * 4096
                assert fs.wait(one) == DATA[offset : offset + 4096]


def test_requests_wait_for_a_ring_that_starts_with_them(daemon: Daemon) -> None:
    with Vmm.connect(daemon.socket, start=False) as vmm:
        vmm.share_memory()
        fs = vmm.fuse()
        args = wire.InitIn(7, 41, 0, 0, 0).pack()
        pending = fs.submit(Opcode.INIT, 0, args, wire.InitOut.wire_size(), kick=False)
        vmm.queues[1].kick()
        os.eventfd_read(vmm.queues[1].ring.kick_fd)  # the kick itself gets lost
        vmm.start()
        assert wire.InitOut.unpack(fs.wait(pending)).major == 7
        check_serves(fs)


def test_a_ring_goes_on_from_any_index(daemon: Daemon) -> None:
    for base in (1, 127, 128, 0x7FFF, 0xFFF0, 0xFFFF):
        with guest(daemon, base=base) as (vmm, fs):
            for _ in range(10):
                check_serves(fs)
            taken = vmm.queues[1].ring.stats().submitted
            assert vmm.stop_queue(1) == (base + taken) & 0xFFFF


def test_a_waiting_lock_ends_with_eintr(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        node, fh = opened(fs)
        fs.setlk(node, fh, 1, WRITE_LOCK)
        waiting = [fs.submit_setlkw(node, fh, owner, WRITE_LOCK) for owner in (2, 3, 4)]
        check_serves(fs)  # they hold up nobody
        start = time.monotonic()
        base = vmm.stop_queue(1)
        assert time.monotonic() - start < 1.0
        assert vmm.queues[1].ring.used_idx == base
        assert {error_of(fs, one) for one in waiting} == {errno.EINTR}
        vmm.start_queue(1, base)
        # The holder's lock outlives the stop; once given back, the next one gets it.
        with pytest.raises(BlockingIOError):
            fs.setlk(node, fh, 2, WRITE_LOCK)
        fs.setlk(node, fh, 1, UNLOCK)
        fs.setlk(node, fh, 2, WRITE_LOCK)


@pytest.fixture(params=["newest", "plain", "synchronous"])
def stuck(
    request: pytest.FixtureRequest, shm_dir: Path
) -> Iterator[tuple[Daemon, hanging.HangingFs]]:
    """A share below which a file system hangs."""
    root = fill(shm_dir / "root")
    (root / "stuck").mkdir()
    env = PLAIN_RINGS if request.param == "plain" else {}
    options = ["--queues", "2", "--log-level", "debug"]
    with (
        Daemon.start(root, command=OVFS, options=options, env=env) as daemon,
        hanging.HangingFs(root / "stuck", asynchronous=request.param != "synchronous") as disk,
    ):
        yield daemon, disk


@needs_root
def test_a_read_that_hangs_is_given_up(stuck: tuple[Daemon, hanging.HangingFs]) -> None:
    daemon, disk = stuck
    with guest(daemon, queues=2) as (vmm, fs):
        directory = fs.lookup(ROOT_ID, b"stuck").nodeid
        node = fs.lookup(directory, hanging.NAME).nodeid
        fh = fs.open(node).fh
        reads = [fs.submit_read(node, fh, at * 65536, 4096) for at in range(4)]
        wait_until(lambda: disk.reads > 0)
        check_serves(fs)  # the same queue serves on
        start = time.monotonic()
        base = vmm.stop_queue(1)
        assert time.monotonic() - start < 1.0
        assert vmm.queues[1].ring.used_idx == base
        assert {error_of(fs, read) for read in reads} <= {errno.EIO, errno.EINTR}
        node_two, fh_two = fs.lookup(ROOT_ID, b"data", queue=2).nodeid, 0
        fh_two = fs.open(node_two, queue=2).fh
        assert fs.read(node_two, fh_two, 0, 4096, queue=2) == DATA[:4096]
        vmm.start_queue(1, base)
        check_serves(fs)
        disk.release()
        assert fs.read(node, fh, 0, 4096) == hanging.FILLED_WITH * 4096
    check_next_vmm(daemon)
    assert daemon.stop() == 0
    assert "requests did not end in time and were answered EIO" in daemon.log()


@needs_root
def test_what_a_given_up_read_brings_late_stays_out_of_guest_memory(
    stuck: tuple[Daemon, hanging.HangingFs],
) -> None:
    daemon, disk = stuck
    with guest(daemon) as (vmm, fs):
        directory = fs.lookup(ROOT_ID, b"stuck").nodeid
        node = fs.lookup(directory, hanging.NAME).nodeid
        fh = fs.open(node).fh
        read = fs.submit_read(node, fh, 0, 4096)
        where = read.token.reply
        read.token.owned.clear()  # no other request gets this memory
        wait_until(lambda: disk.reads > 0)
        bases = vmm.stop()
        assert error_of(fs, read) in {errno.EIO, errno.EINTR}
        vmm.start(bases)
        # The guest takes the error and uses the page for something else.
        for segment in where:
            vmm.memory.write(segment.addr, b"mine" * (segment.length // 4))
        disk.release()
        assert fs.read(node, fh, 0, 4096) == hanging.FILLED_WITH * 4096
        time.sleep(0.1)
        for segment in where:
            assert vmm.memory.read(segment.addr, segment.length) == b"mine" * (segment.length // 4)


@needs_root
def test_copies_that_hang_are_given_up(stuck: tuple[Daemon, hanging.HangingFs]) -> None:
    """More of them than the pool has threads; they end when their VMM and its memory are gone."""
    daemon, disk = stuck
    with guest(daemon) as (vmm, fs):
        check_serves(fs)
        before = daemon.fds()
        directory = fs.lookup(ROOT_ID, b"stuck").nodeid
        node = fs.lookup(directory, hanging.NAME).nodeid
        fh = fs.open(node, os.O_RDWR).fh
        args = wire.CopyFileRangeIn(fh, 0, node, fh, 1 << 19, 4096, 0).pack()
        copies = [fs.submit(Opcode.COPY_FILE_RANGE, node, args, 8) for _ in range(7)]
        wait_until(lambda: disk.reads > 0)
        check_serves(fs)
        start = time.monotonic()
        bases = vmm.stop()
        assert time.monotonic() - start < 1.0
        assert [error_of(fs, copy) for copy in copies] == [errno.EIO] * len(copies)
        vmm.start(bases)
        check_serves(fs)
    disk.release()
    with guest(daemon) as (_, fs):
        check_serves(fs)
        wait_until(lambda: daemon.fds() <= before)
        assert counters(daemon)["handles"] == 0
    assert daemon.stop() == 0


def test_large_copies_and_a_stop(fresh: Daemon, share: Path) -> None:
    with guest(fresh) as (vmm, fs):
        node, fh = opened(fs)
        target, out = fs.create(ROOT_ID, b"copy")
        args = wire.CopyFileRangeIn(fh, 0, target.nodeid, out.fh, 0, 8 * MIB, 0).pack()
        pending = [fs.submit(Opcode.COPY_FILE_RANGE, node, args, 8) for _ in range(6)]
        start = time.monotonic()
        base = vmm.stop_queue(1)
        assert time.monotonic() - start < 1.0
        assert vmm.queues[1].ring.used_idx == base
        vmm.start_queue(1, base)  # what had not been taken is taken now
        sizes = [wire.WriteOut.unpack(fs.wait(one)).size for one in pending]
        assert all(0 < size <= 8 * MIB for size in sizes)
        got = fs.read(target.nodeid, out.fh, 0, MIB)
        assert got == DATA[: len(got)]
        fs.unlink(ROOT_ID, b"copy")
