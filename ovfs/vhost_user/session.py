# SPDX-License-Identifier: Apache-2.0
"""One VMM's session with the device: messages in, calls on the data plane and replies out.

A message is looked at in one order: is it known and offered (``rules``), may it come now, does its
payload decode, does its ring exist; then its handler runs. Whatever is wrong is refused as the
specification says: a non-zero acknowledgement where one was asked for, else the end of the
connection, since the front-end would go on believing. One log line names what was wrong.

What the device keeps, and for how long:

- a stop and cont of the VMM (GET_VRING_BASE, rings set again; some VMMs also SET_STATUS 0) keeps
  the guest's nodes, open files and locks: the guest never noticed;
- RESET_DEVICE and RESET_OWNER stop all rings and forget nodes, files and locks, but keep memory:
  QEMU sends only what changed since the table it knows we have;
- the end of the connection (``close``) forgets everything.
"""

from __future__ import annotations

import errno
import logging
import struct
from typing import TYPE_CHECKING

from ovfs.errors import PeerError
from ovfs.native import MemRegion
from ovfs.vhost_user.descriptors import Descriptors
from ovfs.vhost_user.features import FEATURES, Feature, Protocol, protocol_features
from ovfs.vhost_user.messages import (
    U64,
    Config,
    Empty,
    MemTable,
    Payload,
    Region,
    Request,
    VringAddr,
    VringFd,
    VringState,
    decode_payload,
    encode,
    request_name,
)
from ovfs.vhost_user.ring import NO_DESCRIPTOR, Ring
from ovfs.vhost_user.rules import NEXT_STEP, RULES, Phase, RingUse, Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovfs.vhost_user.device import Device
    from ovfs.vhost_user.messages import Header

log = logging.getLogger(__name__)

MAX_TAG = 36  # bytes; virtio-fs, struct virtio_fs_config
MAX_RING = 32768  # entries of a split ring
_CONFIG_SPACE = struct.Struct(f"<{MAX_TAG}sI")  # tag, num_request_queues


class RefusedError(PeerError):
    """A message that breaks a rule; what is wrong is the text."""


class Session:
    """The state of one connection, and what each message does to it. Control thread only.

    Args:
        device: the data plane; the session is its only user while it lasts.
        queues: virtqueues in all, the hiprio queue included.
        mem_slots: how many memory regions the data plane takes.
        tag: the file system's name where the daemon is to say it, else None.
    """

    def __init__(self, device: Device, queues: int, mem_slots: int, tag: bytes | None) -> None:
        self._device = device
        self._mem_slots = mem_slots
        self._config = b"" if tag is None else _CONFIG_SPACE.pack(tag, queues - 1)
        self._offered = protocol_features(config=tag is not None)
        self._phase = Phase.CONNECTED
        self._features = 0
        self._protocol = Protocol(0)
        self._status = 0
        self._has_memory = False
        self._channel = Descriptors()  # to the front-end; held open, never written to
        self._rings = [Ring(index) for index in range(queues)]
        self._handlers: dict[Request, Callable[..., Payload | None]] = {
            Request.GET_FEATURES: self._get_features,
            Request.SET_FEATURES: self._set_features,
            Request.SET_OWNER: self._set_owner,
            Request.RESET_OWNER: self._reset,
            Request.RESET_DEVICE: self._reset,
            Request.GET_PROTOCOL_FEATURES: self._get_protocol_features,
            Request.SET_PROTOCOL_FEATURES: self._set_protocol_features,
            Request.GET_QUEUE_NUM: self._get_queue_num,
            Request.GET_MAX_MEM_SLOTS: self._get_max_mem_slots,
            Request.GET_CONFIG: self._get_config,
            Request.SET_BACKEND_REQ_FD: self._set_backend_req_fd,
            Request.SET_STATUS: self._set_status,
            Request.GET_STATUS: self._get_status,
            Request.SET_MEM_TABLE: self._set_mem_table,
            Request.ADD_MEM_REG: self._add_mem_reg,
            Request.REM_MEM_REG: self._rem_mem_reg,
            Request.SET_VRING_NUM: self._set_vring_num,
            Request.SET_VRING_ADDR: self._set_vring_addr,
            Request.SET_VRING_BASE: self._set_vring_base,
            Request.GET_VRING_BASE: self._get_vring_base,
            Request.SET_VRING_ENABLE: self._set_vring_enable,
            Request.SET_VRING_KICK: self._set_vring_kick,
            Request.SET_VRING_CALL: self._set_vring_call,
            Request.SET_VRING_ERR: self._set_vring_err,
        }

    def handle(self, header: Header, body: bytes, fds: Descriptors) -> bytes | None:
        """Apply one message; its descriptors are closed unless they are kept.

        Returns:
            The reply to send, if there is one to this message.

        Raises:
            PeerError: the message was refused and nobody asked for an acknowledgement.
        """
        name = request_name(header.request)
        with fds:
            try:
                answer = self._apply(header, body, fds)
            except (PeerError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                if not self._wants_ack(header):
                    raise PeerError(f"{name} refused: {reason}") from error
                log.warning("vhost-user: %s refused: %s", name, reason)
                return encode(header.request, U64(1), reply=True)
        if answer is not None:
            return encode(header.request, answer, reply=True)
        # Asked after the fact, so that it holds for the very message that negotiates REPLY_ACK:
        # User-mode Linux waits for an acknowledgement of it.
        return encode(header.request, U64(0), reply=True) if self._wants_ack(header) else None

    def stop(self) -> None:
        """Stop all rings; requests in flight are answered. All else is kept."""
        for ring in self._rings:
            try:
                self._stop_ring(ring)
            except OSError as error:  # the others still have to stop
                log.error("vhost-user: %s", error.strerror)  # noqa: TRY400 (host short: one line)

    def close(self) -> None:
        """Stop all rings and forget the guest: memory, nodes, open files, locks, descriptors."""
        self.stop()
        for ring in self._rings:
            ring.clear()
        self._channel.close()
        self._has_memory = False
        self._device.reset()
        self._device.set_memory(())

    def _wants_ack(self, header: Header) -> bool:
        rule = RULES.get(header.request)  # type: ignore[call-overload]  # an int is equal to its enum
        own_reply = rule is not None and rule.replies
        return header.need_reply and not own_reply and Protocol.REPLY_ACK in self._protocol

    def _apply(self, header: Header, body: bytes, fds: Descriptors) -> Payload | None:
        if header.reply:
            raise RefusedError("it is marked as a reply")
        try:
            request = Request(header.request)
        except ValueError:
            raise RefusedError("the specification knows no such message") from None
        rule = RULES.get(request)
        if rule is None:
            raise RefusedError("the feature it belongs to is not offered")
        self._check_rule(rule, fds)
        payload = decode_payload(request, body)
        handler = self._handlers[request]
        if rule.ring is RingUse.NONE:
            return handler(payload, fds)
        return handler(self._ring(rule, payload), payload, fds)

    def _check_rule(self, rule: Rule, fds: Descriptors) -> None:
        if self._phase < rule.phase:
            raise RefusedError(f"it comes before {NEXT_STEP[self._phase].name}")
        if rule.needs is not None and rule.needs not in self._protocol:
            raise RefusedError(f"protocol feature {rule.needs.name} was not negotiated")
        if len(fds) > rule.fds:
            raise RefusedError(f"{len(fds)} descriptors came along, at most {rule.fds} may")

    def _ring(self, rule: Rule, payload: Payload) -> Ring:
        index: int = payload.index  # type: ignore[union-attr]  # all messages about a ring have one
        if index >= len(self._rings):
            raise RefusedError(f"there is no queue {index}, only {len(self._rings)}")
        ring = self._rings[index]
        if rule.ring is RingUse.STOPPED and ring.running:
            raise RefusedError(f"queue {index} is running")
        return ring

    # Features and the device as a whole

    def _get_features(self, _payload: Empty, _fds: Descriptors) -> U64:
        return U64(FEATURES)

    def _set_features(self, payload: U64, _fds: Descriptors) -> None:
        unknown = payload.value & ~int(FEATURES)
        if unknown:
            raise RefusedError(f"bits {unknown:#x} were not offered")
        if payload.value != self._features and any(ring.running for ring in self._rings):
            raise RefusedError("features cannot change while a queue runs")
        self._features = payload.value
        self._phase = Phase.NEGOTIATED
        self._settle_all()

    def _set_owner(self, _payload: Empty, _fds: Descriptors) -> None:
        self._phase = max(self._phase, Phase.OWNED)

    def _reset(self, _payload: Empty, _fds: Descriptors) -> None:
        self.stop()
        for ring in self._rings:
            ring.clear()
        self._features = 0
        self._status = 0
        self._phase = Phase.OWNED
        self._device.reset()

    def _get_protocol_features(self, _payload: Empty, _fds: Descriptors) -> U64:
        return U64(self._offered)

    def _set_protocol_features(self, payload: U64, _fds: Descriptors) -> None:
        unknown = payload.value & ~int(self._offered)
        if unknown:
            raise RefusedError(f"bits {unknown:#x} were not offered")
        self._protocol = Protocol(payload.value)

    def _get_queue_num(self, _payload: Empty, _fds: Descriptors) -> U64:
        return U64(len(self._rings))

    def _get_max_mem_slots(self, _payload: Empty, _fds: Descriptors) -> U64:
        return U64(self._mem_slots)

    def _get_config(self, payload: Config, _fds: Descriptors) -> Config:
        # Past the end there are zeros: User-mode Linux asks from offset 0 with ever growing sizes,
        # and later drivers for fields that this device does not have.
        end = payload.offset + len(payload.data)
        data = self._config.ljust(end, b"\0")[payload.offset : end]
        return Config(payload.offset, payload.flags, data)

    def _set_backend_req_fd(self, _payload: Empty, fds: Descriptors) -> None:
        if len(fds) != 1:
            raise RefusedError("no descriptor came along")
        self._channel.close()
        self._channel.add([fds.take()])

    def _set_status(self, payload: U64, _fds: Descriptors) -> None:
        # 0 is no reset of ours: QEMU sends it whenever it stops the device, `stop` and `cont`
        # included, after which the guest goes on with its open files. A guest that really starts
        # anew says so with FUSE_INIT.
        self._status = payload.value

    def _get_status(self, _payload: Empty, _fds: Descriptors) -> U64:
        return U64(self._status)

    # Memory

    def _set_mem_table(self, payload: MemTable, fds: Descriptors) -> None:
        if len(fds) != len(payload.regions):
            raise RefusedError(f"{len(payload.regions)} regions but {len(fds)} descriptors")
        pairs = zip(payload.regions, fds.borrow(), strict=True)
        self._device.set_memory([_mem_region(region, fd) for region, fd in pairs])
        self._has_memory = bool(payload.regions)
        self._settle_all()

    def _add_mem_reg(self, payload: Region, fds: Descriptors) -> None:
        if len(fds) != 1:
            raise RefusedError("no descriptor came along")
        self._device.add_memory(_mem_region(payload, fds.borrow()[0]))
        self._has_memory = True
        self._settle_all()

    def _rem_mem_reg(self, payload: Region, _fds: Descriptors) -> None:
        self._device.remove_memory(payload.guest_addr, payload.size, payload.user_addr)

    # Rings

    def _set_vring_num(self, ring: Ring, payload: VringState, _fds: Descriptors) -> None:
        num = payload.num
        if not 2 <= num <= MAX_RING or num & (num - 1):
            raise RefusedError(f"{num} entries are no power of two from 2 to {MAX_RING}")
        ring.num = num
        self._settle(ring)

    def _set_vring_addr(self, ring: Ring, payload: VringAddr, _fds: Descriptors) -> None:
        if payload.desc % 16 or payload.avail % 2 or payload.used % 4:
            raise RefusedError(f"the addresses of queue {ring.index} are not aligned")
        ring.addr = payload
        self._settle(ring)

    def _set_vring_base(self, ring: Ring, payload: VringState, _fds: Descriptors) -> None:
        if payload.num > 0xFFFF:
            raise RefusedError(f"{payload.num} is no index of a split ring")
        ring.base = payload.num

    def _get_vring_base(self, ring: Ring, _payload: VringState, _fds: Descriptors) -> VringState:
        self._stop_ring(ring)
        ring.stopped()
        return VringState(ring.index, ring.base)

    def _set_vring_enable(self, ring: Ring, payload: VringState, _fds: Descriptors) -> None:
        if payload.num > 1:
            raise RefusedError(f"{payload.num} is neither 0 nor 1")
        ring.enable = bool(payload.num)
        self._settle(ring)

    def _set_vring_kick(self, ring: Ring, payload: VringFd, fds: Descriptors) -> None:
        fd = _ring_fd(payload, fds)
        self._stop_ring(ring)  # a running queue goes on where it was, with the new descriptor
        ring.set_kick(fd)
        self._settle(ring)

    def _set_vring_call(self, ring: Ring, payload: VringFd, fds: Descriptors) -> None:
        ring.set_call(_ring_fd(payload, fds))
        if not ring.running:
            return
        try:
            self._device.set_call(ring.index, ring.call)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the queue stopped by itself, on a broken ring
                raise

    def _set_vring_err(self, ring: Ring, payload: VringFd, fds: Descriptors) -> None:
        fd = _ring_fd(payload, fds)
        self._stop_ring(ring)
        ring.set_err(fd)
        self._settle(ring)

    # Running

    def _enabled(self, ring: Ring) -> bool:
        """Without the negotiated feature rings are born enabled, else SET_VRING_ENABLE does it."""
        if ring.enable is None:
            return not self._features & Feature.PROTOCOL_FEATURES
        return ring.enable

    def _settle_all(self) -> None:
        for ring in self._rings:
            self._settle(ring)

    def _settle(self, ring: Ring) -> None:
        """Make the ring run, or not, as all that was said so far demands."""
        if not (ring.described and self._enabled(ring)):
            self._stop_ring(ring)
        elif not ring.running and self._has_memory:
            self._start_ring(ring)

    def _start_ring(self, ring: Ring) -> None:
        vring = ring.vring(
            event_idx=bool(self._features & Feature.RING_EVENT_IDX),
            indirect=bool(self._features & Feature.RING_INDIRECT_DESC),
        )
        try:
            self._device.start_queue(ring.index, vring)
        except OSError:
            ring.stopped()  # only another SET_VRING_KICK tries again, not the next message
            raise
        ring.running = True
        log.debug("queue %d runs: %d entries from %d", ring.index, ring.num, ring.base)

    def _stop_ring(self, ring: Ring) -> None:
        if not ring.running:
            return
        ring.running = False
        base = self._device.stop_queue(ring.index)
        if base is not None:
            ring.base = base
        log.debug("queue %d stopped at %d", ring.index, ring.base)


def _mem_region(region: Region, fd: int) -> MemRegion:
    return MemRegion(region.guest_addr, region.size, region.user_addr, region.mmap_offset, fd)


def _ring_fd(payload: VringFd, fds: Descriptors) -> int:
    """Return the descriptor that a ring message brought, now the caller's, or NO_DESCRIPTOR."""
    if payload.has_fd and len(fds) == 0:
        raise RefusedError("no descriptor came along")
    if not payload.has_fd and len(fds) > 0:
        raise RefusedError("a descriptor came along where none was named")
    return fds.take() if payload.has_fd else NO_DESCRIPTOR
