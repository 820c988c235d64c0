# SPDX-License-Identifier: Apache-2.0
"""Descriptor chains that no driver makes: the head comes back, and the queue goes on."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import pytest

from tests.process.place import wait_until
from tests.vmm import ROOT_ID, Opcode, Ring, Vmm
from tests.vmm import fuse_wire as wire
from tests.vmm.ring import DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE

if TYPE_CHECKING:
    from tests.hostile.prey import Prey

NEXT, WRITE, INDIRECT = DESC_F_NEXT, DESC_F_WRITE, DESC_F_INDIRECT
RAW: Final = 16  # descriptors that are ours to write
RING: Final = 64
REPLY: Final = wire.OutHeader.wire_size() + wire.AttrOut.wire_size()

Desc = tuple[int, int, int, int]  # address, length, flags, next; next counts from our first one


class Forge:
    """A device whose driver writes its descriptors by hand."""

    def __init__(self, prey: Prey, *, indirect: bool = True) -> None:
        self.vmm = Vmm.connect(prey.daemon.socket, queues=2, queue_size=RING, indirect=indirect)
        self.ring: Ring = self.vmm.queues[1].ring
        self.first = self.ring.reserve(RAW)
        self.fs = self.vmm.fuse()
        self.fs.init()
        memory = self.vmm.memory
        self.asked = memory.alloc(4096, region=2)
        self.answer = memory.alloc(4096, region=2)
        self.table = memory.alloc(4096, region=0)
        memory.write(self.asked, wire.InHeader(56, Opcode.GETATTR, 1 << 20, ROOT_ID).pack())

    def __enter__(self) -> Forge:  # noqa: PYI034 (no subclasses)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.vmm.close()

    def offer(self, chain: list[Desc], heads: tuple[int, ...] = (0,)) -> list[int]:
        """Writes descriptors, offers heads, returns the used lengths once all have come back."""
        for at, (addr, length, flags, link) in enumerate(chain):
            self.ring.raw_desc(self.first + at, addr, length, flags, self.first + link)
        lengths: list[int] = []
        for head in heads:
            self.ring.raw_offer(self.first + head)
        self.ring.kick()
        while len(lengths) < len(heads):
            assert self.ring.wait(5.0), f"{len(heads) - len(lengths)} heads did not come back"
            lengths += [used.length for used in self.ring.get()]
        return lengths

    def tabled(self, table: list[Desc]) -> list[Desc]:
        """The same chain in an indirect table, whose indices are absolute."""
        packed = b"".join(struct.pack("<QIHH", *row) for row in table)
        self.vmm.memory.write(self.table, packed)
        return [(self.table, len(packed), INDIRECT, 0)]


def _cases(asked: int, answer: int) -> dict[str, list[Desc]]:
    end = 0x1_0000_0000 + (256 << 20)  # behind region 2 there is no memory
    good_out, good_in = (asked, 56, NEXT, 1), (answer, REPLY, WRITE, 0)
    return {
        "loop to itself": [(asked, 56, NEXT, 0)],
        "loop of two": [(asked, 56, NEXT, 1), (asked, 1, NEXT, 0)],
        "loop at the end": [good_out, (answer, 16, WRITE | NEXT, 2), (answer, 8, WRITE | NEXT, 1)],
        "loop of empty descriptors": [(asked, 0, NEXT, 1), (asked, 0, NEXT, 0)],
        "next beyond the table": [(asked, 56, NEXT, 9999)],
        "next at the table's end": [(asked, 56, NEXT, RAW)],
        "outside memory": [(0x8_0000_0000, 56, NEXT, 1), good_in],
        "reply outside memory": [good_out, (0x8_0000_0000, REPLY, WRITE, 0)],
        "address 2^64 - 1": [(2**64 - 1, 1, NEXT, 1), good_in],
        "wraps around": [(2**64 - 8, 56, NEXT, 1), good_in],
        "longest length": [(asked, 0xFFFF_FFFF, NEXT, 1), good_in],
        "longest reply": [good_out, (answer, 0xFFFF_FFFF, WRITE, 0)],
        "runs out of its region": [(end - 20, 56, NEXT, 1), good_in],
        "starts where its region ends": [(end, 56, NEXT, 1), good_in],
        "reply runs out of its region": [good_out, (end - 8, REPLY, WRITE, 0)],
        "reply before request": [(answer, REPLY, WRITE | NEXT, 1), (asked, 56, 0, 0)],
        "request after reply": [
            (asked, 40, NEXT, 1),
            (answer, REPLY, WRITE | NEXT, 2),
            (asked + 40, 16, 0, 0),
        ],
        "only a reply": [(answer, REPLY, WRITE, 0)],
        "only a request": [(asked, 56, 0, 0)],
        "nothing": [(asked, 0, 0, 0)],
        "nothing, writable": [(answer, 0, WRITE, 0)],
        "request of 39 bytes": [(asked, 39, NEXT, 1), good_in],
        "request of 1 byte": [(asked, 1, NEXT, 1), good_in],
        "arguments of 15 bytes": [(asked, 55, NEXT, 1), good_in],
        "reply of 15 bytes": [good_out, (answer, 15, WRITE, 0)],
        "reply of 1 byte": [good_out, (answer, 1, WRITE, 0)],
        "reply of 17 bytes": [good_out, (answer, 17, WRITE, 0)],
        "reply into the request": [good_out, (asked, REPLY, WRITE, 0)],
    }


NAMES = list(_cases(0, 0))


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_head_comes_back(name: str, indirect: bool, prey: Prey) -> None:
    with Forge(prey) as forge:
        chain = _cases(forge.asked, forge.answer)[name]
        (length,) = forge.offer(forge.tabled(chain) if indirect else chain)
        room = sum(size for _, size, flags, _ in chain if flags & WRITE)
        # Nothing, or a reply: an error, unless the chain was fit to be served after all.
        assert length in {0, 16, REPLY} or length <= room
        if length == 16:
            error = wire.OutHeader.unpack(forge.vmm.memory.read(forge.answer, 16)).error
            assert error < 0
        prey.check_serves(forge.fs)
        prey.check_serves(forge.fs, queue=2)


def _tables(forge: Forge) -> dict[str, list[Desc]]:
    table = forge.table
    packed = struct.pack("<QIHH", table, 16, INDIRECT, 0)
    forge.vmm.memory.write(table, packed + struct.pack("<QIHH", forge.asked, 56, 0, 0))
    return {
        "within itself": [(table, 16, INDIRECT, 0)],
        "empty": [(table, 0, INDIRECT, 0)],
        "of 15 bytes": [(table, 15, INDIRECT, 0)],
        "of 17 bytes": [(table, 17, INDIRECT, 0)],
        "outside memory": [(0x8_0000_0000, 64, INDIRECT, 0)],
        "at the end of memory": [(2**64 - 16, 32, INDIRECT, 0)],
        "half outside memory": [(0x1_0000_0000 + (256 << 20) - 16, 32, INDIRECT, 0)],
        "as long as can be": [(table, 0xFFFF_FFF0, INDIRECT, 0)],
        "with a next": [(table, 32, INDIRECT | NEXT, 1), (forge.answer, REPLY, WRITE, 0)],
        "writable": [(table, 16, INDIRECT | WRITE, 0)],
        "after a descriptor": [(forge.asked, 40, NEXT, 1), (table, 32, INDIRECT, 0)],
        "all flags": [(table, 32, 0xFFFF, 0)],
        "unknown flags": [(forge.asked, 56, 0xFFF8, 0)],
    }


def _table_names() -> list[str]:
    return [
        "within itself",
        "empty",
        "of 15 bytes",
        "of 17 bytes",
        "outside memory",
        "at the end of memory",
        "half outside memory",
        "as long as can be",
        "with a next",
        "writable",
        "after a descriptor",
        "all flags",
        "unknown flags",
    ]


@pytest.mark.parametrize("name", _table_names())
def test_a_bad_indirect_table(name: str, prey: Prey) -> None:
    with Forge(prey) as forge:
        cases = _tables(forge)
        assert list(cases) == _table_names()
        assert forge.offer(cases[name]) == [0]
        prey.check_serves(forge.fs)


def test_an_indirect_table_that_was_not_negotiated(prey: Prey) -> None:
    with Forge(prey, indirect=False) as forge:
        good = [(forge.asked, 56, NEXT, 1), (forge.answer, REPLY, WRITE, 0)]
        assert forge.offer(good) == [REPLY]
        assert forge.offer(forge.tabled(good)) == [0]
        prey.check_serves(forge.fs)


def test_the_longest_chains(prey: Prey) -> None:
    """A table may be longer than the ring; what is longer than any request is refused."""
    with Forge(prey) as forge:
        for count, served in ((100, True), (1000, True), (1100, False), (4000, False)):
            rows = [(forge.asked, 56, NEXT, 1)]
            rows += [(forge.answer + at % 100, 1, WRITE | NEXT, at + 2) for at in range(count)]
            rows.append((forge.answer + 200, 1, WRITE, 0))
            table = forge.vmm.memory.alloc(len(rows) * 16, region=0)
            forge.vmm.memory.write(table, b"".join(struct.pack("<QIHH", *row) for row in rows))
            (length,) = forge.offer([(table, len(rows) * 16, INDIRECT, 0)])
            assert length == (min(REPLY, 16 if count < REPLY - 1 else REPLY) if served else 0)
            prey.check_serves(forge.fs)


def test_one_head_offered_many_times(prey: Prey) -> None:
    with Forge(prey) as forge:
        good = [(forge.asked, 56, NEXT, 1), (forge.answer, REPLY, WRITE, 0)]
        assert forge.offer(good, (0,) * 30) == [REPLY] * 30
        prey.check_serves(forge.fs)


def test_a_head_that_is_no_descriptor(prey: Prey) -> None:
    with Forge(prey) as forge:
        for head in (RING, RING + 1, 0x8000, 0xFFFF):
            forge.ring.raw_offer(head)
        forge.ring.kick()
        # It cannot come back; what is offered after it does.
        prey.check_serves(forge.fs)


@pytest.mark.parametrize("jump", [RING + 1, 1000, 0x7FFF, 0x8000, -1])
def test_an_impossible_avail_index_stops_that_queue_alone(jump: int, prey: Prey) -> None:
    with Forge(prey) as forge:
        line = "queue 1 stopped: the driver's avail index is impossible"
        before = prey.daemon.log(1 << 22).count(line)
        used = forge.ring.used_idx
        forge.ring.raw_set_avail(forge.ring.stats().avail_idx + jump)
        forge.ring.kick_force()
        # Another queue goes on; it is asked until the line is there.
        while prey.daemon.log(1 << 22).count(line) == before:
            prey.check_serves(forge.fs, queue=2)
        wait_until(lambda: forge.vmm.take_error(1))
        for _ in range(3):
            forge.ring.kick_force()
            prey.check_serves(forge.fs, queue=2)
        assert forge.ring.used_idx == used
        assert prey.daemon.log(1 << 22).count(line) == before + 1
        # A ring set up anew goes on, as after a reset of the queue.
        base = forge.vmm.stop_queue(1)
        forge.ring.raw_set_avail(base)
        forge.vmm.start_queue(1, base)
    prey.check_next()


def test_a_descriptor_that_changes_while_it_is_read(prey: Prey) -> None:
    """Lengths and flags are fetched once: what changes after is the guest's own confusion."""
    with Forge(prey) as forge:
        good = [(forge.asked, 56, NEXT, 1), (forge.answer, REPLY, WRITE, 0)]
        for turn in range(300):
            for at, (addr, length, flags, link) in enumerate(good):
                forge.ring.raw_desc(forge.first + at, addr, length, flags, forge.first + link)
            forge.ring.raw_offer(forge.first)
            forge.ring.kick()
            forge.ring.raw_desc(
                forge.first + 1,
                forge.answer if turn % 2 else 0x8_0000_0000,
                turn,
                WRITE,
                0,
            )
            assert forge.ring.wait(5.0)
            assert all(used.length <= REPLY for used in forge.ring.get())
        prey.check_serves(forge.fs)
