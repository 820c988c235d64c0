# SPDX-License-Identifier: Apache-2.0
"""The fake VMM's memory and rings, proved against its null backend in echo mode.

In echo mode a reply carries the request's payload, so a layout of descriptors is right exactly if
the bytes come back.
"""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.vmm import (
    DEFAULT_REGIONS,
    NULL_ECHO,
    NULL_SINGLE,
    NULL_SLEEP,
    GuestMemory,
    Layout,
    Region,
    Segment,
    Vmm,
)
from tests.vmm.memory import EDGE, PAGE, OutOfGuestMemoryError
from tests.vmm.queue import pieces
from tests.vmm.ring import DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

ECHO = NULL_SLEEP | NULL_ECHO
ANY_OPCODE = 4711


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    with GuestMemory() as memory:
        yield memory


def echo(vmm: Vmm, payload: bytes, layout: Layout = Layout(), queue: int = 1) -> bytes:  # noqa: B008
    fs = vmm.fuse()
    return fs.request(ANY_OPCODE, 1, payload, len(payload), layout=layout, queue=queue)


def test_regions_differ_in_guest_address_user_address_and_offset(memory: GuestMemory) -> None:
    for region in DEFAULT_REGIONS:
        assert memory.user_addr(region.guest_addr + 8) == region.user_addr + 8
        assert region.user_addr != region.guest_addr
    assert len({region.mmap_offset for region in DEFAULT_REGIONS}) == len(DEFAULT_REGIONS)
    with pytest.raises(ValueError, match="no guest memory"):
        memory.user_addr(DEFAULT_REGIONS[-1].guest_end)


def test_memory_written_at_an_address_is_in_the_memfd_at_the_offset(memory: GuestMemory) -> None:
    region = DEFAULT_REGIONS[1]
    memory.write(region.guest_addr + 100, b"here")
    assert os.pread(memory.fd(1), 4, region.mmap_offset + 100) == b"here"


def test_a_write_across_two_regions_is_read_back_and_one_outside_is_refused(
    memory: GuestMemory,
) -> None:
    addr = memory.straddle(64)
    assert addr < memory.boundary() < addr + 64
    memory.write(addr, bytes(range(64)))
    assert memory.read(addr, 64) == bytes(range(64))
    with pytest.raises(OSError, match="guest write") as caught:
        memory.write(DEFAULT_REGIONS[-1].guest_end - 4, bytes(8))
    assert caught.value.errno == errno.EFAULT


def test_overlapping_regions_are_refused(memory: GuestMemory) -> None:
    with pytest.raises(FileExistsError):
        memory.add(Region(DEFAULT_REGIONS[0].guest_end - PAGE, 2 * PAGE, 1 << 40))


def test_allocations_are_disjoint_within_their_region_and_reused(memory: GuestMemory) -> None:
    rng = random.Random(1)
    taken: dict[int, int] = {}
    for _ in range(500):
        size = rng.randrange(1, 9000)
        addr = memory.alloc(size)
        assert all(addr + size <= other or other + n <= addr for other, n in taken.items())
        assert any(
            r.guest_addr + EDGE <= addr <= r.guest_end - EDGE - size for r in DEFAULT_REGIONS
        )
        taken[addr] = size
    again = memory.alloc(64, region=2)
    memory.free(again)
    assert memory.alloc(64, region=2) == again


def test_a_full_region_is_reported() -> None:
    with GuestMemory([Region(0, 2 * EDGE + PAGE, 1 << 40)]) as memory:
        memory.alloc(PAGE)
        with pytest.raises(OutOfGuestMemoryError):
            memory.alloc(PAGE)


@pytest.mark.parametrize(
    ("total", "cuts", "chunk", "sizes"),
    [
        (50, (40,), None, [40, 10]),
        (40, (40,), None, [40]),
        (30, (40,), None, [30]),
        (50, (0, 40), None, [0, 40, 10]),
        (50, (), 20, [20, 20, 10]),
        (0, (16,), None, []),
    ],
)
def test_pieces(total: int, cuts: tuple[int, ...], chunk: int | None, sizes: list[int]) -> None:
    assert pieces(total, cuts, chunk) == sizes


LAYOUTS = {
    "as linux": Layout(),
    "pages": Layout(chunk=4096),
    "one descriptor each": Layout(request=(), reply=()),
    "header in three": Layout(request=(1, 7, 32), reply=(3, 13)),
    "header and data in one": Layout(request=(41,), reply=(17, 3)),
    "byte by byte": Layout(request=(1,) * 45, reply=(1,) * 20),
    "empty descriptors": Layout(request=(0, 40, 0), reply=(0, 16, 0)),
    "request across regions": Layout(straddle="request"),
    "reply across regions": Layout(straddle="reply"),
    "above 4 GiB": Layout(region=2),
}


@pytest.mark.parametrize("event_idx", [True, False], ids=["event-idx", "flags"])
@pytest.mark.parametrize("indirect", [True, False], ids=["indirect", "direct"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_echoes(layout: Layout, indirect: bool, event_idx: bool) -> None:
    with Vmm.null(flags=ECHO, indirect=indirect, event_idx=event_idx) as vmm:
        for size in (0, 1, 100, 4096, 70000):
            payload = random.Random(size).randbytes(size)
            assert echo(vmm, payload, layout) == payload
        assert vmm.queues[1].ring.stats().free_desc == vmm.queues[1].ring.size


def test_an_echo_without_room_is_an_error() -> None:
    with Vmm.null(flags=ECHO) as vmm, pytest.raises(OSError, match="Argument list") as caught:
        vmm.fuse().request(ANY_OPCODE, 1, b"x" * 10, 9)
    assert caught.value.errno == errno.E2BIG


def test_a_mebibyte_in_page_descriptors() -> None:
    payload = random.Random(0).randbytes(1 << 20)
    with Vmm.null(flags=ECHO, queue_size=1024) as vmm:
        assert echo(vmm, payload, Layout(chunk=4096)) == payload
        assert echo(vmm, payload, Layout(chunk=4096, indirect=False)) == payload


@pytest.mark.parametrize("size", [16, 32, 256, 1024])
@pytest.mark.parametrize("base", [0, 65530])
def test_indices_wrap_at_every_queue_size(size: int, base: int) -> None:
    with Vmm.null(flags=ECHO, queue_size=size, base=base) as vmm:
        for number in range(40):
            assert echo(vmm, b"%d" % number) == b"%d" % number
        stats = vmm.queues[1].ring.stats()
        assert stats.avail_idx == stats.last_used == (base + 40) % 65536


def test_requests_overlap_and_complete_in_any_order_of_waiting() -> None:
    with Vmm.null(flags=ECHO, queues=2) as vmm:
        fs = vmm.fuse()
        pending = [
            fs.submit(ANY_OPCODE, 1, b"%d" % i, 8, queue=1 + i % 2, kick=False) for i in range(60)
        ]
        assert vmm.queues[1].in_flight == 30
        vmm.queues[1].kick()
        vmm.queues[2].kick()
        for i in reversed(range(60)):
            assert fs.wait(pending[i]) == b"%d" % i


def test_a_full_ring_is_reported_and_not_harmed() -> None:
    with Vmm.null(flags=ECHO, queue_size=16, indirect=False) as vmm:
        fs = vmm.fuse()
        pending = [fs.submit(ANY_OPCODE, 1, b"abc", 3, kick=False) for _ in range(4)]
        with pytest.raises(OSError, match="ring add") as caught:
            fs.submit(ANY_OPCODE, 1, b"abc", 3, kick=False)
        assert caught.value.errno == errno.ENOSPC
        vmm.queues[1].kick()
        assert [fs.wait(p) for p in pending] == [b"abc"] * 4
        assert echo(vmm, b"still") == b"still"


@pytest.mark.parametrize("event_idx", [True, False], ids=["event-idx", "flags"])
def test_kicks_and_calls_are_suppressed_while_the_other_side_is_awake(event_idx: bool) -> None:
    with Vmm.null(flags=NULL_ECHO, event_idx=event_idx) as vmm:  # spins, so it wants no kicks
        echo(vmm, b"first")  # from here on the backend has said so
        before = vmm.queues[1].ring.stats()
        for _ in range(10):
            echo(vmm, b"x")
        after = vmm.queues[1].ring.stats()
        assert after.kicks == before.kicks
        assert after.kicks_suppressed - before.kicks_suppressed == 10


@pytest.mark.parametrize("event_idx", [True, False], ids=["event-idx", "flags"])
def test_a_sleeping_backend_is_kicked_and_calls(event_idx: bool) -> None:
    with Vmm.null(flags=ECHO | NULL_SINGLE, event_idx=event_idx) as vmm:
        queue = vmm.queues[1]
        for _ in range(20):
            echo(vmm, b"x")
        assert 0 < queue.ring.stats().kicks <= 20
        queue.ring.interrupts()
        assert 0 < queue.ring.stats().interrupts <= 20


def test_rings_work_without_a_call_fd() -> None:
    with Vmm.null(flags=ECHO, call=False) as vmm:
        assert echo(vmm, b"quiet") == b"quiet"
        assert vmm.queues[1].ring.stats().interrupts == 0


def test_a_request_that_nobody_answers_times_out_and_can_be_waited_for_again() -> None:
    with Vmm(None) as vmm:
        fs = vmm.fuse()
        pending = fs.submit(ANY_OPCODE, 1, b"late", 4, timeout=0.05)
        with pytest.raises(TimeoutError):
            fs.wait(pending)
        vmm.null_start(ECHO)
        # The backend goes on from the used index, so it finds what was waiting before it started.
        assert fs.wait(pending) == b"late"


def test_raw_descriptors_are_sent_as_written() -> None:
    with Vmm(None, queue_size=16) as vmm:
        queue, memory = vmm.queues[1], vmm.memory
        first = queue.ring.reserve(2)
        assert first == 14
        out, into = memory.alloc(64), memory.alloc(64)
        header = (40 + 5).to_bytes(4, "little") + ANY_OPCODE.to_bytes(4, "little")
        memory.write(out, header + (77).to_bytes(8, "little") + bytes(24) + b"hello")
        queue.ring.raw_desc(14, out, 45, DESC_F_NEXT, 15)
        queue.ring.raw_desc(15, into, 64, DESC_F_WRITE)
        queue.ring.raw_offer(14)
        vmm.null_start(ECHO)
        queue.ring.kick()
        assert queue.ring.wait(5)
        (used,) = queue.ring.get()
        assert (used.head, used.length) == (14, 21)
        assert memory.read(into, 21)[16:] == b"hello"
        assert vmm.null_stop() == 1
        table = memory.read(queue.ring.desc_addr + 14 * 16, 32)
        assert table[:8] == out.to_bytes(8, "little")
        assert table[12:16] == bytes([DESC_F_NEXT, 0, 15, 0])


def test_segments_keep_their_order_and_direction_even_when_wrong() -> None:
    with Vmm(None) as vmm:
        queue, memory = vmm.queues[1], vmm.memory
        segments = [Segment(0x1000, 16, writable=True), Segment(0xDEAD0000, 0, writable=False)]
        token = queue.submit_segments(segments, indirect=False)
        table = memory.read(queue.ring.desc_addr + token.head * 16, 32)
        assert table[12] == DESC_F_WRITE | DESC_F_NEXT
        assert table[16:24] == (0xDEAD0000).to_bytes(8, "little")
        head = queue.submit_segments(segments, indirect=True).head
        assert memory.read(queue.ring.desc_addr + head * 16 + 12, 1)[0] == DESC_F_INDIRECT
