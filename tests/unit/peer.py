# SPDX-License-Identifier: Apache-2.0
"""The front-end's end of a vhost-user session, on a data plane that only remembers."""

from __future__ import annotations

import os
from dataclasses import replace

from ovfs.vhost_user import messages as m
from ovfs.vhost_user.descriptors import Descriptors
from ovfs.vhost_user.features import FEATURES, Protocol
from ovfs.vhost_user.messages import Request
from ovfs.vhost_user.session import Session
from tests.unit.fake_device import FakeDevice

WITH_TAG = Protocol.CONFIG | Protocol.BACKEND_REQ
QUEUES = 3
SLOTS = 32
ALL_PROTOCOL = (
    Protocol.MQ
    | Protocol.REPLY_ACK
    | Protocol.RESET_DEVICE
    | Protocol.CONFIGURE_MEM_SLOTS
    | Protocol.STATUS
)


def some_fd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC)


# Replies to these carry a number, whatever their requests carry.
ANSWERS = dict.fromkeys(
    (
        Request.GET_FEATURES,
        Request.GET_PROTOCOL_FEATURES,
        Request.GET_QUEUE_NUM,
        Request.GET_MAX_MEM_SLOTS,
        Request.GET_STATUS,
    ),
    Request.SET_STATUS,
)
REGION = m.Region(0, 1 << 20, 0x7F0000000000, 0)
TABLE = m.MemTable((REGION,))
ADDR = m.VringAddr(0, 0, desc=0x7F0000000000, used=0x7F0000002000, avail=0x7F0000001000, log=0)


class Peer:
    """The front-end's end of a session: sends messages and decodes what comes back."""

    def __init__(self, tag: bytes | None = None) -> None:
        self.device = FakeDevice()
        self.session = Session(self.device, QUEUES, SLOTS, tag)

    def send(
        self,
        request: int,
        payload: m.Payload | None = None,
        fds: int = 0,
        *,
        need_reply: bool = False,
        reply: bool = False,
    ) -> bytes | None:
        body = m.encode_payload(m.Empty() if payload is None else payload)
        header = m.Header(request, len(body), need_reply, reply)
        return self.session.handle(header, body, Descriptors([some_fd() for _ in range(fds)]))

    def ask(self, request: Request, payload: m.Payload | None = None) -> m.Payload:
        wire = self.send(request, payload)
        assert wire is not None
        header = m.decode_header(wire[: m.HEADER_SIZE])
        assert header == m.Header(request, len(wire) - m.HEADER_SIZE, need_reply=False, reply=True)
        return m.decode_payload(ANSWERS.get(request, request), wire[m.HEADER_SIZE :])

    def acked(self, request: int, payload: m.Payload | None = None, fds: int = 0) -> bool:
        """Send with need_reply; True if the acknowledgement says that all is well."""
        wire = self.send(request, payload, fds, need_reply=True)
        assert wire is not None
        answer = m.decode_payload(Request.SET_STATUS, wire[m.HEADER_SIZE :])
        assert isinstance(answer, m.U64)
        return answer.value == 0

    def negotiate(self, features: int = FEATURES, protocol: int = ALL_PROTOCOL) -> None:
        self.send(Request.SET_PROTOCOL_FEATURES, m.U64(protocol))
        self.send(Request.SET_OWNER)
        self.send(Request.SET_FEATURES, m.U64(features))

    def give_memory(self) -> None:
        self.send(Request.SET_MEM_TABLE, TABLE, fds=1)

    def describe(self, index: int, num: int = 256, base: int = 7) -> None:
        self.send(Request.SET_VRING_NUM, m.VringState(index, num))
        self.send(Request.SET_VRING_BASE, m.VringState(index, base))
        self.send(Request.SET_VRING_ADDR, replace(ADDR, index=index))

    def kick(self, index: int) -> None:
        self.send(Request.SET_VRING_KICK, m.VringFd(index, has_fd=True), fds=1)

    def enable(self, index: int, on: bool = True) -> None:
        self.send(Request.SET_VRING_ENABLE, m.VringState(index, int(on)))

    def run(self, index: int) -> None:
        self.describe(index)
        self.kick(index)
        self.enable(index)

    def get_base(self, index: int) -> int:
        answer = self.ask(Request.GET_VRING_BASE, m.VringState(index, 0))
        assert isinstance(answer, m.VringState)
        assert answer.index == index
        return answer.num


# One valid instance of each message, about queue 1 where it is about one, and its descriptors.
VALID: dict[Request, tuple[m.Payload, int]] = {
    Request.GET_FEATURES: (m.Empty(), 0),
    Request.SET_FEATURES: (m.U64(FEATURES), 0),
    Request.SET_OWNER: (m.Empty(), 0),
    Request.RESET_OWNER: (m.Empty(), 0),
    Request.SET_MEM_TABLE: (TABLE, 1),
    Request.SET_VRING_NUM: (m.VringState(1, 128), 0),
    Request.SET_VRING_ADDR: (replace(ADDR, index=1), 0),
    Request.SET_VRING_BASE: (m.VringState(1, 9), 0),
    Request.GET_VRING_BASE: (m.VringState(1, 0), 0),
    Request.SET_VRING_KICK: (m.VringFd(1, has_fd=True), 1),
    Request.SET_VRING_CALL: (m.VringFd(1, has_fd=True), 1),
    Request.SET_VRING_ERR: (m.VringFd(1, has_fd=True), 1),
    Request.GET_PROTOCOL_FEATURES: (m.Empty(), 0),
    Request.SET_PROTOCOL_FEATURES: (m.U64(ALL_PROTOCOL | WITH_TAG), 0),
    Request.GET_QUEUE_NUM: (m.Empty(), 0),
    Request.SET_VRING_ENABLE: (m.VringState(1, 1), 0),
    Request.SET_BACKEND_REQ_FD: (m.Empty(), 1),
    Request.GET_CONFIG: (m.Config(0, 0, bytes(40)), 0),
    Request.RESET_DEVICE: (m.Empty(), 0),
    Request.GET_MAX_MEM_SLOTS: (m.Empty(), 0),
    Request.ADD_MEM_REG: (m.Region(1 << 30, 4096, 1 << 40, 0), 1),
    Request.REM_MEM_REG: (REGION, 0),
    Request.SET_STATUS: (m.U64(15), 0),
    Request.GET_STATUS: (m.Empty(), 0),
}


def connected() -> Peer:
    peer = Peer(b"share")
    peer.send(Request.SET_PROTOCOL_FEATURES, m.U64(ALL_PROTOCOL | WITH_TAG))
    return peer


def owned() -> Peer:
    peer = connected()
    peer.send(Request.SET_OWNER)
    return peer


def negotiated() -> Peer:
    peer = owned()
    peer.send(Request.SET_FEATURES, m.U64(FEATURES))
    peer.give_memory()
    return peer


def running() -> Peer:
    peer = negotiated()
    peer.run(1)
    assert peer.device.running.keys() == {1}
    return peer
