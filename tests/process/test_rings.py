# SPDX-License-Identifier: Apache-2.0
"""Split rings in every legal shape: sizes, features, wrap-around, and how a chain may be cut."""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process.place import (
    DATA,
    MIB,
    SANITIZED,
    check_next_vmm,
    check_serves,
    counters,
    guest,
    opened,
    wait_until,
)
from tests.vmm import ROOT_ID, Layout, Opcode, ProtocolFeature, Segment, Vmm
from tests.vmm import fuse_wire as wire
from tests.vmm.bench import run_job
from tests.vmm.daemon import Daemon
from tests.vmm.machine import WANTED
from tests.vmm.procstat import tree

if TYPE_CHECKING:
    from tests.vmm import FuseClient

FEATURES = list(itertools.product([False, True], repeat=2))
READ_HEADER = wire.InHeader.wire_size() + wire.ReadIn.wire_size()
ATTRIBUTES = wire.OutHeader.wire_size() + wire.AttrOut.wire_size()


@pytest.mark.parametrize("size", [16, 128, 1024])
@pytest.mark.parametrize(("indirect", "event_idx"), FEATURES)
def test_all_sizes_and_features(indirect: bool, event_idx: bool, size: int, daemon: Daemon) -> None:
    with guest(daemon, queue_size=size, indirect=indirect, event_idx=event_idx) as (vmm, fs):
        node, fh = opened(fs)
        layout = Layout(chunk=4096)
        # As many as the ring holds: four descriptors each, unless a table holds them.
        count = min(size if indirect else size // 5, 200)
        for turn in range(3):
            reads = [
                fs.submit_read(node, fh, at * 8192, 8192, layout=layout, kick=False)
                for at in range(count)
            ]
            vmm.queues[1].kick()
            for at, read in enumerate(reads):
                assert fs.wait(read) == DATA[at * 8192 : (at + 1) * 8192], (turn, at)
        check_serves(fs)


@pytest.mark.parametrize(("indirect", "event_idx"), FEATURES)
def test_indices_wrap_around(indirect: bool, event_idx: bool, daemon: Daemon) -> None:
    requests = 10_000 if SANITIZED else 70_000
    base = 65536 - 5000 if SANITIZED else 0
    with guest(daemon, indirect=indirect, event_idx=event_idx, base=base) as (vmm, fs):
        node, fh = opened(fs)
        result = run_job(
            vmm,
            "read",
            depth=24,
            size=512,
            ops=requests,
            nodeid=node,
            fh=fh,
            file_size=len(DATA),
            mode="sleep",
        )
        assert result.ops >= requests
        assert vmm.queues[1].ring.stats().submitted > requests
        check_serves(fs)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_rings_smaller_than_anybody_makes_them(size: int, daemon: Daemon) -> None:
    with guest(daemon, queue_size=size) as (_, fs):
        for _ in range(20):
            check_serves(fs)


def test_the_largest_ring(daemon: Daemon) -> None:
    with guest(daemon, queue_size=32768) as (vmm, fs):
        node = fs.lookup(ROOT_ID, b"data").nodeid
        pending = [
            fs.submit(Opcode.GETATTR, node, bytes(16), wire.AttrOut.wire_size(), kick=False)
            for _ in range(5000)
        ]
        vmm.queues[1].kick()
        for one in pending:
            assert wire.AttrOut.unpack(fs.wait(one)).attr.size == len(DATA)


def test_several_queues_at_once(daemon: Daemon) -> None:
    with guest(daemon, queues=4) as (vmm, fs):
        node, fh = opened(fs)
        reads = [
            (at, fs.submit_read(node, fh, at * 4096, 4096, queue=1 + at % 4, kick=False))
            for at in range(200)
        ]
        for queue in vmm.queues:
            queue.kick()
        for at, read in reads:
            assert fs.wait(read) == DATA[at * 4096 : (at + 1) * 4096]


def _read(fs: FuseClient, node: int, fh: int, layout: Layout) -> None:
    at = random.Random(str(layout)).randrange(MIB)
    assert fs.read(node, fh, at, 5000, layout=layout) == DATA[at : at + 5000], layout


def test_headers_are_cut_anywhere(daemon: Daemon) -> None:
    with guest(daemon) as (_, fs):
        node, fh = opened(fs)
        for cut in range(1, READ_HEADER):
            _read(fs, node, fh, Layout(request=(cut,), indirect=cut % 2 == 0))
        for cut in range(1, 17):
            _read(fs, node, fh, Layout(reply=(cut,), indirect=cut % 2 == 0))


@pytest.mark.parametrize("indirect", [False, True])
def test_pieces_of_one_byte(indirect: bool, daemon: Daemon) -> None:
    single = Layout(request=(), reply=(), chunk=1, indirect=indirect)
    with guest(daemon, queue_size=1024) as (_, fs):
        node, fh = opened(fs)
        assert fs.getattr(node, layout=single).attr.size == len(DATA)
        assert fs.read(node, fh, 777, 300, layout=single) == DATA[777:1077]
        entry, out = fs.create(ROOT_ID, b"pieces", layout=single)
        assert fs.write(entry.nodeid, out.fh, 0, DATA[:300], layout=single) == 300
        assert fs.read(entry.nodeid, out.fh, 0, 500) == DATA[:300]
        fs.unlink(ROOT_ID, b"pieces", layout=single)


def test_pieces_of_random_sizes(daemon: Daemon) -> None:
    """Requests, replies and data cut fifty ways, with empty descriptors among them."""
    dice = random.Random(4)
    with guest(daemon, queue_size=1024) as (_, fs):
        node, fh = opened(fs)
        copy, out = fs.create(ROOT_ID, b"pieces")
        for turn in range(50):
            layout = Layout(
                request=tuple(dice.randrange(60) for _ in range(dice.randrange(8))),
                reply=tuple(dice.randrange(30) for _ in range(dice.randrange(8))),
                chunk=dice.choice([None, 512, 4096, 1000]),
                indirect=dice.random() < 0.5,
            )
            _read(fs, node, fh, layout)
            at, size = dice.randrange(MIB), dice.randrange(1, 20000)
            data = DATA[at : at + size]
            assert fs.write(copy.nodeid, out.fh, turn, data, layout=layout) == size
            assert fs.read(copy.nodeid, out.fh, turn, size) == data
        fs.unlink(ROOT_ID, b"pieces")


@pytest.mark.parametrize("chunk", [4096, 65536, None])
@pytest.mark.parametrize("size", [MIB, 4 * MIB])
def test_a_mebibyte_and_beyond(size: int, chunk: int | None, daemon: Daemon) -> None:
    if chunk is not None and size // chunk > 1000:
        chunk = 8192  # a ring of 1024 descriptors holds no more
    layout = Layout(chunk=chunk)
    with guest(daemon, queue_size=1024) as (vmm, fs):
        node, fh = opened(fs)
        region = 2  # the only one with so much room in one piece
        large = Layout(chunk=chunk, region=region)
        got = fs.read(node, fh, 4096, size, layout=large)
        assert got == DATA[4096 : 4096 + size]
        copy, out = fs.create(ROOT_ID, b"large")
        done = fs.write(copy.nodeid, out.fh, 0, got[: fs.max_write], layout=large)
        assert done == min(size, fs.max_write)
        assert fs.read(copy.nodeid, out.fh, 0, done, layout=layout) == got[:done]
        fs.unlink(ROOT_ID, b"large")
        assert vmm.queues[1].ring.stats().free_desc == 1024


@pytest.mark.parametrize("indirect", [False, True])
def test_buffers_across_two_regions(indirect: bool, daemon: Daemon) -> None:
    with guest(daemon) as (_, fs):
        node, fh = opened(fs)
        reply = Layout(straddle="reply", indirect=indirect)
        assert fs.read(node, fh, 4096, 8192, layout=reply) == DATA[4096:12288]
        assert fs.getattr(node, layout=reply).attr.size == len(DATA)
        request = Layout(straddle="request", indirect=indirect)
        copy, out = fs.create(ROOT_ID, b"straddle", layout=request)
        assert fs.write(copy.nodeid, out.fh, 0, DATA[:9999], layout=request) == 9999
        assert fs.read(copy.nodeid, out.fh, 0, 10000, layout=reply) == DATA[:9999]
        fs.unlink(ROOT_ID, b"straddle")


def test_an_indirect_table_across_two_regions(daemon: Daemon) -> None:
    """Its descriptors, too, may lie half here and half there, and at no multiple of eight."""
    with guest(daemon) as (vmm, fs):
        node = fs.lookup(ROOT_ID, b"data").nodeid
        memory, ring = vmm.memory, vmm.queues[1].ring
        request = wire.InHeader(56, Opcode.GETATTR, 2, node).pack() + bytes(16)
        asked, answer = memory.alloc(64), memory.alloc(256)
        for shift in (0, 4, 8, 12, 16, 20):
            memory.write(asked, request)
            table = memory.boundary() - shift
            descriptors = [
                Segment(asked, 40),
                Segment(asked + 40, 16),
                Segment(answer, 16, writable=True),
                Segment(answer + 16, 104, writable=True),
            ]
            packed = b"".join(
                s.addr.to_bytes(8, "little")
                + s.length.to_bytes(4, "little")
                + (2 * s.writable | (at < 3)).to_bytes(2, "little")
                + ((at + 1) % 4).to_bytes(2, "little")
                for at, s in enumerate(descriptors)
            )
            memory.write(table, packed)
            before = ring.used_idx
            raw = ring.size - 1
            ring.raw_desc(raw, table, len(packed), 4)
            ring.raw_offer(raw)
            ring.kick()
            assert ring.wait(5)
            assert ring.used_idx == (before + 1) & 0xFFFF
            assert [used.length for used in ring.get()] == [ATTRIBUTES]
            reply = memory.read(answer + 16, 104)
            assert wire.AttrOut.unpack(reply).attr.size == len(DATA)


@pytest.mark.parametrize(("kick", "call"), [(False, True), (True, False), (False, False)])
def test_rings_without_eventfds_are_polled(kick: bool, call: bool, daemon: Daemon) -> None:
    with guest(daemon, kick=kick, call=call) as (_, fs):
        for _ in range(20):
            check_serves(fs)


def _kernel_workers(daemon: Daemon) -> list[str]:
    """Threads that io_uring has made for what would block."""
    tasks = [task for pid in tree(daemon.pid) for task in Path(f"/proc/{pid}/task").iterdir()]
    names = [(task / "comm").read_text().strip() for task in tasks]
    return [name for name in names if name.startswith("iou-wrk")]


@pytest.mark.parametrize("poll_us", [0, 100])
def test_eventfds_that_block(poll_us: int, disk_share: Path) -> None:
    options = ["--poll-us", str(poll_us)]
    with (
        Daemon.start(disk_share, options=options) as daemon,
        guest(daemon, blocking=True) as (_, fs),
    ):
        for _ in range(50):
            check_serves(fs)
        assert not _kernel_workers(daemon), "a notification by way of a kernel thread"


@pytest.mark.parametrize("poll_us", [0, 100])
def test_a_call_eventfd_that_is_full_holds_nobody_up(poll_us: int, disk_share: Path) -> None:
    options = ["--poll-us", str(poll_us)]
    with Daemon.start(disk_share, options=options) as daemon:
        with guest(daemon, blocking=True) as (vmm, fs):
            node, fh = opened(fs)
            ring = vmm.queues[1].ring
            for at in range(20):
                ring.interrupts()
                os.eventfd_write(ring.call_fd, 2**64 - 2)
                read = fs.submit_read(node, fh, at * 4096, 4096)
                wait_until(lambda: ring.used_idx != ring.stats().last_used)
                assert fs.wait(read) == DATA[at * 4096 : (at + 1) * 4096]
        check_next_vmm(daemon)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes time")
def test_polling_a_quiet_ring_is_cheap(daemon: Daemon) -> None:
    with guest(daemon, kick=False) as (_, fs):
        check_serves(fs)
        before = daemon.cpu_ns()
        time.sleep(0.5)
        # Two rings, a look each a millisecond: a few microseconds each.
        assert daemon.cpu_ns() - before < 100_000_000


def test_a_ring_without_an_error_eventfd(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        vmm.session.set_vring_err(1, -1)
        check_serves(fs)
        vmm.queues[1].ring.raw_set_avail(30000)
        vmm.queues[1].ring.kick_force()
        assert not vmm.take_error(1)
    with guest(daemon) as (_, fs):
        check_serves(fs)


def test_interrupts_are_held_back_when_nobody_wants_them(daemon: Daemon) -> None:
    with guest(daemon, event_idx=False) as (vmm, fs):
        node, fh = opened(fs)
        ring = vmm.queues[1].ring
        ring.interrupts()
        ring.raw_set_avail_flags(1)
        before = counters(daemon)["interrupts"]
        read = fs.submit_read(node, fh, 0, 4096)
        deadline = time.monotonic() + 5
        while ring.used_idx == ring.stats().last_used and time.monotonic() < deadline:
            time.sleep(0.001)
        assert counters(daemon)["interrupts"] == before
        assert fs.wait(read) == DATA[:4096]


@pytest.mark.parametrize("without", ["acknowledgements", "slots", "both"])
def test_frontends_that_know_less(without: str, daemon: Daemon) -> None:
    less = {
        "acknowledgements": ProtocolFeature.REPLY_ACK,
        "slots": ProtocolFeature.CONFIGURE_MEM_SLOTS,
        "both": ProtocolFeature.REPLY_ACK | ProtocolFeature.CONFIGURE_MEM_SLOTS,
    }[without]
    with guest(daemon, wanted=WANTED & ~less) as (_, fs):
        check_serves(fs)


def test_direct_reads_and_writes_through_the_ring(daemon: Daemon) -> None:
    """Whether the host takes O_DIRECT here or refuses it, the guest gets its data."""
    with guest(daemon) as (_, fs):
        node, fh = opened(fs, flags=os.O_RDONLY | os.O_DIRECT)
        for at, size in ((0, 4096), (1, 4096), (4096, 1000), (8192, 65536)):
            assert fs.read(node, fh, at, size) == DATA[at : at + size]


def test_the_daemon_starts_rings_in_any_order(daemon: Daemon) -> None:
    with Vmm.connect(daemon.socket, queues=4, start=False) as vmm:
        vmm.share_memory()
        for index in (3, 1, 4, 0, 2):
            vmm.start_queue(index)
        fs = vmm.fuse()
        fs.init(queue=4)
        for queue in (1, 2, 3, 4):
            assert fs.lookup(ROOT_ID, b"data", queue=queue).attr.size == len(DATA)
