# SPDX-License-Identifier: Apache-2.0
"""Guest memory and eventfds that come, go and change while the queues run."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from tests.process.place import (
    DATA,
    MIB,
    check_next_vmm,
    check_serves,
    guest,
    opened,
    wait_until,
)
from tests.vmm import BackendRefusedError, Layout, Opcode, Region, Segment
from tests.vmm import fuse_wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.vmm import FuseClient, Vmm
    from tests.vmm.daemon import Daemon

EXTRA = Region(0x2_0000_0000, 4 * MIB, 0x6100_0000_0000, 0x5000)


class Load:
    """Keeps a queue busy with reads whose bytes are compared, from a thread of its own."""

    def __init__(self, fs: FuseClient, node: int, fh: int, queue: int) -> None:
        self.done = 0
        self.failed: Exception | None = None
        self._stop = False
        self._thread = threading.Thread(target=self._run, args=(fs, node, fh, queue))

    def _run(self, fs: FuseClient, node: int, fh: int, queue: int) -> None:
        try:
            while not self._stop:
                offsets = [(self.done + at) % 200 * 8192 for at in range(16)]
                pending = [fs.submit_read(node, fh, at, 8192, queue=queue) for at in offsets]
                for at, one in zip(offsets, pending, strict=True):
                    assert fs.wait(one) == DATA[at : at + 8192]
                self.done += len(pending)
        except Exception as error:  # noqa: BLE001 (told to the test, below)
            self.failed = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop = True
        self._thread.join()
        if self.failed:
            raise self.failed

    def go_on(self) -> None:
        """Waits until more has been read."""
        before = self.done
        wait_until(lambda: self.done > before + 16 or self.failed is not None)


@contextlib.contextmanager
def loaded(fs: FuseClient) -> Iterator[Callable[[], None]]:
    """Load on queues 1 and 2; yields what waits until both have gone on."""
    node, fh = opened(fs)
    with Load(fs, node, fh, 1) as first, Load(fs, node, fh, 2) as second:

        def both_go_on() -> None:
            first.go_on()
            second.go_on()

        yield both_go_on


def _table(vmm: Vmm, *more: int) -> tuple[list[Region], list[int]]:
    indices = [0, 1, 2, *more]
    return [vmm.memory.regions[i] for i in indices], [vmm.memory.fd(i) for i in indices]


def test_the_table_is_replaced_under_load(daemon: Daemon) -> None:
    with guest(daemon, queues=2) as (vmm, fs), loaded(fs) as both_go_on:
        extra = vmm.memory.add(EXTRA, general=False)
        for turn in range(20):
            vmm.session.set_mem_table(*_table(vmm, *([extra] if turn % 2 else [])))
            if turn % 5 == 0:
                both_go_on()


def test_slots_come_and_go_under_load(daemon: Daemon) -> None:
    with guest(daemon, queues=4) as (vmm, fs), loaded(fs) as both_go_on:
        node, fh = opened(fs)
        for turn in range(15):
            added = vmm.add_region(EXTRA)
            inside = Layout(region=added)
            at = turn * 4096
            assert fs.read(node, fh, at, 4096, layout=inside, queue=3) == DATA[at : at + 4096]
            vmm.remove_region(added)
            if turn % 5 == 0:
                both_go_on()


def test_many_slots(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        fd = vmm.memory.fd(0)
        slots = [
            Region(0x4_0000_0000 + (at << 20), MIB, 0x6200_0000_0000 + (at << 24))
            for at in range(vmm.max_mem_slots - 3)
        ]
        assert len(slots) > 400
        for slot in slots:
            vmm.session.add_mem_reg(slot, fd)
        with pytest.raises(BackendRefusedError):
            vmm.session.add_mem_reg(Region(0x9_0000_0000, MIB, 0x6900_0000_0000), fd)
        check_serves(fs)
        for slot in reversed(slots):
            vmm.session.rem_mem_reg(slot)
        check_serves(fs)


def test_a_request_in_memory_that_was_removed_fails_alone(fresh: Daemon) -> None:
    with guest(fresh) as (vmm, fs):
        node, fh = opened(fs)
        added = vmm.add_region(EXTRA)
        inside = Layout(region=added)
        assert fs.read(node, fh, 0, 4096, layout=inside) == DATA[:4096]
        read = fs.submit_read(node, fh, 0, 4096, layout=inside, kick=False)
        owned = list(read.token.owned)
        read.token.owned.clear()
        good = fs.submit_read(node, fh, 4096, 4096, kick=False)
        vmm.session.rem_mem_reg(EXTRA)
        read.queue.kick()
        assert fs.wait(good) == DATA[4096:8192]
        assert read.queue.wait(read.token) == b""
        assert all(vmm.memory.read(at, 64) is not None for at in owned)
        check_serves(fs)
    wait_until(lambda: "descriptor chain cannot be followed" in fresh.log())


def test_rings_outside_the_new_table_stop_with_one_line(fresh: Daemon) -> None:
    with guest(fresh, queues=2) as (vmm, fs):
        check_serves(fs)
        regions, fds = _table(vmm)
        vmm.session.set_mem_table(regions[1:], fds[1:])
        wait_until(lambda: fresh.log().count("its rings are not in the new memory table") == 3)
        assert vmm.take_error(1)
    check_next_vmm(fresh)


def test_regions_that_cannot_be_are_refused(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        fd = vmm.memory.fd(0)
        for wrong in (
            Region(0x1000, MIB, 0x6100_0000_0000),  # overlaps
            Region(0x3_0000_0000, 0, 0x6100_0000_0000),
            Region(2**64 - MIB, 2 * MIB, 0x6100_0000_0000),
            Region(0x3_0000_0000, MIB, 2**64 - 4096),
            Region(0x3_0000_0000, 2**63, 0x6100_0000_0000, 2**63),
        ):
            with pytest.raises(BackendRefusedError):
                vmm.session.add_mem_reg(wrong, fd)
        with pytest.raises(BackendRefusedError):
            vmm.session.rem_mem_reg(EXTRA)
        check_serves(fs)


def test_the_call_eventfd_is_swapped_under_load(daemon: Daemon) -> None:
    with guest(daemon, queues=2) as (vmm, fs), loaded(fs) as both_go_on:
        node, fh = opened(fs)
        for _ in range(20):
            spare = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            vmm.session.set_vring_call(1, spare)
            # The queue's thread waits in slices, so it goes on although nobody calls it.
            wait_until(lambda fd=spare: _called(fd))  # type: ignore[misc]
            vmm.session.set_vring_call(1, vmm.queues[1].ring.call_fd)
            os.close(spare)
        both_go_on()
        vmm.session.set_vring_call(1, -1)
        vmm.session.set_vring_call(1, vmm.queues[1].ring.call_fd)
        assert fs.read(node, fh, 0, 4096) == DATA[:4096]


def _called(fd: int) -> bool:
    try:
        return os.eventfd_read(fd) > 0
    except BlockingIOError:
        return False


def test_the_kick_eventfd_is_swapped_while_running(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        for _ in range(5):
            vmm.session.set_vring_kick(1, vmm.queues[1].ring.kick_fd)
            check_serves(fs)
        vmm.session.set_vring_kick(1, -1)
        check_serves(fs)
        vmm.session.set_vring_kick(1, vmm.queues[1].ring.kick_fd)
        check_serves(fs)


def test_memory_that_shrinks_under_load_ends_that_device(fresh: Daemon) -> None:
    with guest(fresh, queues=2) as (vmm, fs):
        node, fh = opened(fs)
        for at in range(16):
            fs.submit_read(node, fh, at * 65536, 65536, queue=1 + at % 2)
        for index in vmm.memory.regions:
            os.ftruncate(vmm.memory.fd(index), 0)
        for queue in vmm.queues:
            os.eventfd_write(queue.ring.kick_fd, 1)
        vmm.session.wait_closed()
    check_next_vmm(fresh)
    assert fresh.log().count("the VMM truncated the file behind guest memory") == 1
    assert fresh.log().count("the device failed; its connection ends") == 1


def test_data_in_memory_that_shrank_is_efault(fresh: Daemon) -> None:
    """Where only the kernel meets the hole, it says so, and the request fails alone."""
    with guest(fresh) as (vmm, fs):
        node, fh = opened(fs)
        added = vmm.add_region(EXTRA)
        where = vmm.memory.alloc(4096, region=added)
        os.ftruncate(vmm.memory.fd(added), 0)
        args = wire.ReadIn(fh, 0, 4096).pack()
        queue = vmm.queues[1]
        asked = vmm.memory.alloc(128, region=2)
        answer = vmm.memory.alloc(16, region=2)
        header = wire.InHeader(40 + len(args), Opcode.READ, 99, node)
        vmm.memory.write(asked, header.pack() + args)
        token = queue.submit_segments(
            [
                Segment(asked, 40 + len(args)),
                Segment(answer, 16, writable=True),
                Segment(where, 4096, writable=True),
            ]
        )
        wait_until(lambda: queue.poll(token))
        reply = wire.OutHeader.unpack(vmm.memory.read(answer, 16))
        assert -reply.error == errno.EFAULT
        check_serves(fs)
        time.sleep(0.01)
    check_next_vmm(fresh)
