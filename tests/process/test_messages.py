# SPDX-License-Identifier: Apache-2.0
"""vhost-user messages that may not come, or not now: refused, the reason logged, nothing lost."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.process.place import check_next_vmm, check_serves, guest, wait_until
from tests.vmm import BackendClosedError, BackendRefusedError, ProtocolFeature, Request, Session
from tests.vmm import messages as wire

if TYPE_CHECKING:
    from tests.vmm.daemon import Daemon


@dataclass(frozen=True)
class Wrong:
    """A message, how far the conversation is, and what the log says of it."""

    name: str
    data: bytes
    reason: str
    when: str = "connected"  # or: owned, running
    fds: int = 0


def _num(index: int, value: int) -> bytes:
    return wire.pack(Request.SET_VRING_NUM, wire.vring_state(index, value))


WRONG = [
    # Before its time.
    Wrong("num first", _num(0, 128), "SET_VRING_NUM refused: it comes before SET_OWNER"),
    Wrong(
        "features first",
        wire.pack(Request.SET_FEATURES, wire.u64(0)),
        "SET_FEATURES refused: it comes before SET_OWNER",
    ),
    Wrong(
        "memory first",
        wire.pack(Request.SET_MEM_TABLE, wire.mem_table([])),
        "SET_MEM_TABLE refused: it comes before SET_OWNER",
    ),
    Wrong(
        "kick before the features",
        wire.pack(Request.SET_VRING_KICK, wire.u64(0)),
        "SET_VRING_KICK refused: it comes before SET_FEATURES",
        when="owned",
        fds=1,
    ),
    Wrong(
        "slots before they are negotiated",
        wire.pack(Request.GET_MAX_MEM_SLOTS),
        "GET_MAX_MEM_SLOTS refused: protocol feature CONFIGURE_MEM_SLOTS was not negotiated",
    ),
    Wrong(
        "size while running", _num(1, 64), "SET_VRING_NUM refused: queue 1 is running", "running"
    ),
    Wrong(
        "base while running",
        wire.pack(Request.SET_VRING_BASE, wire.vring_state(1, 0)),
        "SET_VRING_BASE refused: queue 1 is running",
        "running",
    ),
    Wrong(
        "features while running",
        wire.pack(Request.SET_FEATURES, wire.u64(1 << 32)),
        "SET_FEATURES refused: features cannot change while a queue runs",
        "running",
    ),
    # Never right.
    Wrong("unknown", wire.pack(999), "request 999 refused: the specification knows no such"),
    Wrong(
        "not offered",
        wire.pack(Request.SET_LOG_BASE, bytes(16)),
        "SET_LOG_BASE refused: the feature it belongs to is not offered",
    ),
    Wrong(
        "reply",
        wire.pack(Request.GET_FEATURES, flags=wire.VERSION | wire.FLAG_REPLY),
        "GET_FEATURES refused: it is marked as a reply",
    ),
    Wrong("version", wire.pack(Request.GET_FEATURES, flags=2), "GET_FEATURES: version 2, not 1"),
    Wrong("flags", wire.pack(Request.GET_FEATURES, flags=0x81), "reserved flags set in 0x81"),
    Wrong(
        "huge",
        struct.pack("<III", Request.SET_CONFIG, 1, 0xFFFF_FFFF),
        "SET_CONFIG: payload of 4294967295 bytes, more than",
    ),
    Wrong(
        "short",
        wire.pack(Request.SET_VRING_NUM, bytes(7)),
        "SET_VRING_NUM refused: payload of 7 bytes, not 8",
        "owned",
    ),
    Wrong(
        "long",
        wire.pack(Request.SET_OWNER, bytes(8)),
        "SET_OWNER refused: payload of 8 bytes, not 0",
    ),
    Wrong(
        "feature that was not offered",
        wire.pack(Request.SET_FEATURES, wire.u64(1 << 63)),
        "SET_FEATURES refused: bits 0x8000000000000000 were not offered",
        "owned",
    ),
    Wrong("no power of two", _num(0, 100), "SET_VRING_NUM refused: 100 entries", "owned"),
    Wrong("no entries", _num(0, 0), "SET_VRING_NUM refused: 0 entries", "owned"),
    Wrong("too many entries", _num(0, 65536), "SET_VRING_NUM refused: 65536 entries", "owned"),
    Wrong("no such queue", _num(200, 128), "SET_VRING_NUM refused: there is no queue 200", "owned"),
    Wrong(
        "no such queue, 2^32 - 1",
        wire.pack(Request.GET_VRING_BASE, wire.vring_state(0xFFFF_FFFF, 0)),
        "GET_VRING_BASE refused: there is no queue 4294967295",
        "running",
    ),
    Wrong(
        "base beyond 16 bits",
        wire.pack(Request.SET_VRING_BASE, wire.vring_state(0, 65536)),
        "SET_VRING_BASE refused: 65536 is no index",
        "owned",
    ),
    Wrong(
        "enable 2",
        wire.pack(Request.SET_VRING_ENABLE, wire.vring_state(1, 2)),
        "SET_VRING_ENABLE refused: 2 is neither 0 nor 1",
        "running",
    ),
    Wrong(
        "address that is not aligned",
        wire.pack(Request.SET_VRING_ADDR, wire.vring_addr(0, 8, 0, 0)),
        "SET_VRING_ADDR refused: the addresses of queue 0 are not aligned",
        "owned",
    ),
    Wrong(
        "kick without its descriptor",
        wire.pack(Request.SET_VRING_KICK, wire.u64(1)),
        "SET_VRING_KICK refused: no descriptor came along",
        "running",
    ),
    Wrong(
        "kick with one too many",
        wire.pack(Request.SET_VRING_KICK, wire.u64(1)),
        "SET_VRING_KICK refused: 2 descriptors came along, at most 1 may",
        "running",
        fds=2,
    ),
    Wrong(
        "descriptor where none belongs",
        wire.pack(Request.GET_FEATURES),
        "GET_FEATURES refused: 1 descriptors came along, at most 0 may",
        fds=1,
    ),
    Wrong(
        "memory without its descriptors",
        wire.pack(Request.SET_MEM_TABLE, struct.pack("<II", 1, 0) + bytes(32)),
        "SET_MEM_TABLE refused: 1 regions but 0 descriptors",
        "running",
    ),
    Wrong(
        "more regions than the payload has",
        wire.pack(Request.SET_MEM_TABLE, struct.pack("<II", 8, 0) + bytes(32)),
        "SET_MEM_TABLE refused: payload of 40 bytes is too short for 8 regions",
        "running",
    ),
    Wrong(
        "removing what is not there",
        wire.pack(Request.REM_MEM_REG, bytes(40)),
        "REM_MEM_REG refused: No such file or directory",
        "running",
    ),
]


def _send(session: Session, wrong: Wrong) -> None:
    fds = [os.eventfd(0) for _ in range(wrong.fds)]
    try:
        session.send_raw(wrong.data, fds)
        session.wait_closed()
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
def test_it_is_refused_and_says_why(wrong: Wrong, daemon: Daemon) -> None:
    if wrong.when == "running":
        with guest(daemon) as (vmm, fs):
            check_serves(fs)
            _send(vmm.session, wrong)
    else:
        with Session.connect(daemon.socket) as session:
            if wrong.when == "owned":
                session.set_owner()
            _send(session, wrong)
    wait_until(lambda: wrong.reason in daemon.log())
    check_next_vmm(daemon)


def test_with_acknowledgements_the_session_goes_on(daemon: Daemon) -> None:
    """What is wrong with one message is no reason to end a conversation that can be answered."""
    for wrong in WRONG:
        if wrong.when != "running" or "GET_" in wrong.reason:
            continue
        with guest(daemon) as (vmm, fs):
            request, flags, _ = wire.HEADER.unpack(wrong.data[:12])
            fds = [os.eventfd(0) for _ in range(wrong.fds)]
            payload = wrong.data[12:]
            vmm.session.send_raw(wire.pack(request, payload, flags | wire.FLAG_NEED_REPLY), fds)
            answer = vmm.session.receive()
            for fd in fds:
                os.close(fd)
            assert (answer.request, answer.u64 != 0) == (request, True)
            check_serves(fs)


def test_each_message_is_acknowledged_when_asked(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as session:
        session.set_protocol_features(session.get_protocol_features())
        assert session.protocol_features & ProtocolFeature.REPLY_ACK
        session.set_owner()
        session.set_features(session.get_features())
        session.set_vring_num(0, 128)
        with pytest.raises(BackendRefusedError):
            session.set_vring_num(0, 129)
        # Not asked for: not acknowledged. The next answer is that of the next question.
        session.send_raw(_num(0, 64))
        assert session.get_queue_num() == 5


def test_messages_may_come_in_pieces(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as session:
        for byte in wire.pack(Request.GET_FEATURES) + wire.pack(Request.GET_FEATURES):
            session.send_raw(bytes([byte]))
        assert session.receive().u64 == session.receive().u64 != 0


def test_many_messages_in_one_piece(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as session:
        session.send_raw(wire.pack(Request.GET_FEATURES) * 100)
        assert len({session.receive().u64 for _ in range(100)}) == 1


def test_half_a_message_and_gone(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as session:
        session.send_raw(wire.pack(Request.SET_FEATURES, wire.u64(0))[:15])
    wait_until(lambda: "hung up in the middle of a message" in daemon.log())
    check_next_vmm(daemon)


def _flood(session: Session) -> None:
    while True:
        session.send_raw(wire.pack(Request.GET_FEATURES) * 100)


def test_a_vmm_that_reads_no_replies(fresh: Daemon) -> None:
    with Session.connect(fresh.socket) as session:
        session.sock.settimeout(5)
        with pytest.raises((BackendClosedError, ConnectionError)):
            _flood(session)
    wait_until(lambda: "does not read its replies" in fresh.log())
    check_next_vmm(fresh)


def test_the_device_is_reset_while_running(daemon: Daemon) -> None:
    with guest(daemon) as (vmm, fs):
        check_serves(fs)
        features = vmm.features
        vmm.session.reset_device()
        vmm.session.set_features(features)
        taken = [queue.ring.stats().submitted & 0xFFFF for queue in vmm.queues]
        vmm.start(taken)
        fs.init()
        check_serves(fs)


def test_configuration_space(daemon: Daemon) -> None:
    """Offered with a tag only; this daemon has none."""
    with Session.connect(daemon.socket) as session:
        offered = session.get_protocol_features()
        assert not offered & ProtocolFeature.CONFIG
        session.send_raw(wire.pack(Request.GET_CONFIG, wire.config(0, 40)))
        session.wait_closed()
    wait_until(lambda: "GET_CONFIG refused" in daemon.log())
