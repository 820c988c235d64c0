# SPDX-License-Identifier: Apache-2.0
"""The fake VMM: guest memory, virtqueues, and the connection that hands both to a daemon."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, Self

from tests.vmm.client import FuseClient
from tests.vmm.memory import DEFAULT_REGIONS, GuestMemory, Region
from tests.vmm.messages import Feature, ProtocolFeature
from tests.vmm.native import check_pointer, ffi, lib
from tests.vmm.queue import Queue
from tests.vmm.ring import Ring
from tests.vmm.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

HIPRIO: Final = 0
#: Memory regions of each ring's descriptor table, avail ring and used ring: not all in one.
RING_REGIONS: Final = (0, 1, 0)
WANTED: Final = (
    ProtocolFeature.MQ
    | ProtocolFeature.REPLY_ACK
    | ProtocolFeature.CONFIG
    | ProtocolFeature.RESET_DEVICE
    | ProtocolFeature.STATUS
    | ProtocolFeature.CONFIGURE_MEM_SLOTS
)

NULL_SLEEP: Final = 1
NULL_ECHO: Final = 2
NULL_SINGLE: Final = 4


class Vmm:
    """A virtual machine monitor without a machine.

    `Vmm.connect` does what QEMU does until the guest's driver is up; `Vmm.null` has an instant
    backend inside instead of a daemon. Queue 0 is the high-priority queue, requests go on 1 to
    `queues`.

    Args:
        session: The connection, owned from here on; None: no daemon.
        queues: Request queues.
        queue_size: Descriptors of each queue.
        indirect: Offer and use indirect descriptors.
        event_idx: Offer and use event indices.
        base: Index that every ring starts from.
        kick: Whether rings have kick eventfds; a daemon without one has to poll.
        call: Whether rings have call eventfds.
        blocking: Make the eventfds without O_NONBLOCK.
        regions: The memory map.
        ring_regions: Where each ring's three parts are allocated.
        wanted: Protocol features to accept where they are offered.
    """

    def __init__(
        self,
        session: Session | None,
        *,
        queues: int = 1,
        queue_size: int = 128,
        indirect: bool = True,
        event_idx: bool = True,
        base: int = 0,
        kick: bool = True,
        call: bool = True,
        blocking: bool = False,
        regions: Sequence[Region] = DEFAULT_REGIONS,
        ring_regions: tuple[int, int, int] = RING_REGIONS,
        wanted: ProtocolFeature = WANTED,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self.session: Any = session
        self.features = Feature(0)
        self.queue_num = 0
        self.max_mem_slots = 0
        self.base = base
        self.client: FuseClient | None = None
        self._null: Any = None
        self._err_fds: list[int] = []
        self._wanted_features = Feature.VERSION_1 | Feature.PROTOCOL_FEATURES
        if indirect:
            self._wanted_features |= Feature.RING_INDIRECT_DESC
        if event_idx:
            self._wanted_features |= Feature.RING_EVENT_IDX
        try:
            if session is not None:
                self._stack.callback(session.close)
                self._negotiate(wanted, queues + 1)
            else:
                self.features = self._wanted_features
            self.memory = self._stack.enter_context(GuestMemory(regions))
            self.queues = [
                self._make_queue(
                    index, queue_size, ring_regions, kick=kick, call=call, blocking=blocking
                )
                for index in range(queues + 1)
            ]
        except BaseException:
            self._stack.close()
            raise

    def _make_queue(
        self, index: int, size: int, regions: tuple[int, int, int], **eventfds: bool
    ) -> Queue:
        ring = Ring(
            self.memory,
            size,
            base=self.base,
            event_idx=bool(self.features & Feature.RING_EVENT_IDX),
            indirect=bool(self.features & Feature.RING_INDIRECT_DESC),
            regions=regions,
            **eventfds,
        )
        self._stack.callback(ring.close)
        self._err_fds.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._stack.callback(os.close, self._err_fds[-1])
        return Queue(self.memory, ring, index)

    @classmethod
    def connect(
        cls, path: str | os.PathLike[str], *, start: bool = True, timeout: float = 10.0, **how: Any
    ) -> Self:
        """Connects to a daemon and brings the device up.

        Args:
            path: The daemon's socket.
            start: Hand over the memory table and start every ring; else the test does it.
            timeout: Seconds to wait for each answer.
            **how: As the constructor takes it.
        """
        vmm = cls(Session.connect(path, timeout=timeout), **how)
        try:
            if start:
                vmm.share_memory()
                vmm.start()
        except BaseException:
            vmm.close()
            raise
        return vmm

    @classmethod
    def null(cls, *, flags: int = NULL_SLEEP, **how: Any) -> Self:
        """A VMM whose requests are answered by the null backend.

        Args:
            flags: NULL_SLEEP, NULL_ECHO, NULL_SINGLE.
            **how: As the constructor takes it.
        """
        vmm = cls(None, **how)
        vmm.null_start(flags)
        return vmm

    def null_start(self, flags: int) -> None:
        """Starts the null backend on every ring."""
        rings = [queue.ring.handle for queue in self.queues]
        self._null = check_pointer(
            lib.vmm_null_start(
                self.memory.handle, ffi.new("struct vmm_ring *[]", rings), len(rings), flags
            ),
            "null backend",
        )

    def null_stop(self) -> int:
        """Stops the null backend; returns how many requests it has answered."""
        null, self._null = self._null, None
        return int(lib.vmm_null_stop(null)) if null is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up, as a VMM that is killed does: nothing is stopped first."""
        self.null_stop()
        self._stack.close()

    def _negotiate(self, wanted: ProtocolFeature, rings: int) -> None:
        session = self.session
        session.set_owner()
        offered = Feature(session.get_features())
        if offered & Feature.PROTOCOL_FEATURES:
            session.set_protocol_features(session.get_protocol_features() & wanted)
        if session.protocol_features & ProtocolFeature.MQ:
            self.queue_num = session.get_queue_num()
            if self.queue_num < rings:
                raise ValueError(f"{rings} rings wanted, the daemon has {self.queue_num}")
        if session.protocol_features & ProtocolFeature.CONFIGURE_MEM_SLOTS:
            self.max_mem_slots = session.get_max_mem_slots()
        self.features = offered & self._wanted_features
        session.set_features(self.features)

    def share_memory(self) -> None:
        """Hands over the memory: as slots where those are negotiated, else as a table."""
        regions = self.memory.regions
        if self.session.protocol_features & ProtocolFeature.CONFIGURE_MEM_SLOTS:
            for index, region in regions.items():
                self.session.add_mem_reg(region, self.memory.fd(index))
        else:
            fds = [self.memory.fd(index) for index in regions]
            self.session.set_mem_table(list(regions.values()), fds)

    def add_region(self, region: Region, *, general: bool = False) -> int:
        """Adds a memory slot while running; `alloc` takes it when asked, or if general."""
        index = self.memory.add(region, general=general)
        self.session.add_mem_reg(region, self.memory.fd(index))
        return index

    def remove_region(self, index: int) -> None:
        """Takes a memory slot away while running; nothing in flight may lie in it."""
        self.memory.exclude(index)
        self.session.rem_mem_reg(self.memory.regions[index])
        self.memory.remove(index)

    def start_queue(self, index: int, base: int | None = None) -> None:
        """Sets a ring up and enables it.

        Args:
            index: Which.
            base: The index to go on from; without, that of the constructor.
        """
        ring = self.queues[index].ring
        session = self.session
        session.set_vring_num(index, ring.size)
        session.set_vring_base(index, self.base if base is None else base)
        session.set_vring_addr(
            index,
            desc=self.memory.user_addr(ring.desc_addr),
            avail=self.memory.user_addr(ring.avail_addr),
            used=self.memory.user_addr(ring.used_addr),
        )
        session.set_vring_call(index, ring.call_fd)
        session.set_vring_err(index, self._err_fds[index])
        # The kick starts the ring. With a request waiting, libvhost-user races with a call fd that
        # comes after it, and dies; tests of such an order swap the fd themselves.
        session.set_vring_kick(index, ring.kick_fd)
        if self.features & Feature.PROTOCOL_FEATURES:
            session.set_vring_enable(index, True)

    def stop_queue(self, index: int) -> int:
        """Stops a ring as QEMU's `stop` does; returns the index to go on from."""
        if self.features & Feature.PROTOCOL_FEATURES:
            self.session.set_vring_enable(index, False)
        return int(self.session.get_vring_base(index))

    def take_error(self, index: int) -> bool:
        """Whether the daemon has signalled the ring's error eventfd since this was last asked."""
        try:
            return os.eventfd_read(self._err_fds[index]) > 0
        except BlockingIOError:
            return False

    def start(self, bases: Sequence[int] | None = None) -> None:
        """Starts every ring."""
        for index in range(len(self.queues)):
            self.start_queue(index, None if bases is None else bases[index])

    def stop(self) -> list[int]:
        """Stops every ring; `start` with the result goes on."""
        return [self.stop_queue(index) for index in range(len(self.queues))]

    def fuse(self) -> FuseClient:
        """The FUSE client on this device's queues; always the same, since it numbers requests."""
        if self.client is None:
            self.client = FuseClient(self.memory, self.queues)
        return self.client
