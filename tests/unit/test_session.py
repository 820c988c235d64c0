# SPDX-License-Identifier: Apache-2.0
"""The vhost-user session: every message in every state, and the life of a ring."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovfs.errors import PeerError
from ovfs.vhost_user import messages as m
from ovfs.vhost_user.descriptors import Descriptors
from ovfs.vhost_user.features import FEATURES, Feature, Protocol
from ovfs.vhost_user.messages import Request
from ovfs.vhost_user.rules import NOT_OFFERED, RULES, Phase, RingUse
from ovfs.vhost_user.session import Session
from tests.unit.fake_device import FakeDevice

if TYPE_CHECKING:
    from collections.abc import Callable

WITH_TAG = Protocol.CONFIG | Protocol.BACKEND_REQ
QUEUES = 3
SLOTS = 32
WITHOUT_ENABLE = FEATURES & ~Feature.PROTOCOL_FEATURES
ALL_PROTOCOL = (
    Protocol.MQ
    | Protocol.REPLY_ACK
    | Protocol.RESET_DEVICE
    | Protocol.CONFIGURE_MEM_SLOTS
    | Protocol.STATUS
)


def some_fd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC)


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


# Replies of these carry a number, whatever their request carries.
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


STATES: dict[str, Callable[[], Peer]] = {
    "connected": connected,
    "owned": owned,
    "negotiated": negotiated,
    "running": running,
}
# By hand, from the specification: in which states each message is fine.
EVERYWHERE = {"connected", "owned", "negotiated", "running"}
OWNED = {"owned", "negotiated", "running"}
FINE_IN: dict[Request, set[str]] = {
    Request.GET_FEATURES: EVERYWHERE,
    Request.GET_PROTOCOL_FEATURES: EVERYWHERE,
    Request.SET_PROTOCOL_FEATURES: EVERYWHERE,
    Request.GET_QUEUE_NUM: EVERYWHERE,
    Request.GET_MAX_MEM_SLOTS: EVERYWHERE,
    Request.GET_CONFIG: EVERYWHERE,
    Request.SET_BACKEND_REQ_FD: EVERYWHERE,
    Request.SET_OWNER: EVERYWHERE,
    Request.SET_FEATURES: OWNED,
    Request.RESET_OWNER: OWNED,
    Request.RESET_DEVICE: OWNED,
    Request.SET_STATUS: OWNED,
    Request.GET_STATUS: OWNED,
    Request.SET_MEM_TABLE: OWNED,
    Request.ADD_MEM_REG: OWNED,
    Request.REM_MEM_REG: {"negotiated", "running"},  # where there is memory to remove
    Request.SET_VRING_NUM: {"owned", "negotiated"},
    Request.SET_VRING_ADDR: {"owned", "negotiated"},
    Request.SET_VRING_BASE: {"owned", "negotiated"},
    Request.GET_VRING_BASE: OWNED,
    Request.SET_VRING_CALL: OWNED,
    Request.SET_VRING_ERR: OWNED,
    Request.SET_VRING_ENABLE: OWNED,
    Request.SET_VRING_KICK: {"negotiated", "running"},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("number", range(1, 50))
def test_every_message_in_every_state(
    number: int, state: str, open_fds: Callable[[], set[str]]
) -> None:
    """Accepted where the table says so, refused elsewhere, and never a descriptor lost."""
    before = open_fds()
    peer = STATES[state]()
    fine = number in FINE_IN and state in FINE_IN[Request(number)]
    payload, fds = VALID.get(number, (m.Empty(), 2))  # type: ignore[call-overload]
    if fine:
        answer = peer.send(number, payload, fds)
        assert (answer is not None) == RULES[Request(number)].replies
    else:
        with pytest.raises(PeerError, match="refused: "):
            peer.send(number, payload, fds)
        assert not peer.device.running or state == "running"
    peer.session.close()
    assert not peer.device.running
    assert open_fds() == before


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("request_", sorted(RULES), ids=lambda r: r.name)
def test_acknowledgement_tells_what_an_end_would(request_: Request, state: str) -> None:
    """With REPLY_ACK a refusal is a non-zero answer, and the session goes on."""
    peer = STATES[state]()
    payload, fds = VALID[request_]
    if RULES[request_].replies:
        return  # never acknowledged; the test above has it
    assert peer.acked(request_, payload, fds) == (state in FINE_IN[request_])
    assert peer.ask(Request.GET_FEATURES) == m.U64(FEATURES)
    peer.session.close()


def test_the_tables_cover_the_specification() -> None:
    assert set(VALID) == set(RULES) == set(FINE_IN) == m.SERVED
    assert set(RULES) | NOT_OFFERED == set(Request)
    for request, rule in RULES.items():
        assert (rule.ring is not RingUse.NONE) == hasattr(VALID[request][0], "index")


@pytest.mark.parametrize("request_", sorted(NOT_OFFERED), ids=lambda r: r.name)
def test_what_is_not_offered_is_refused(request_: Request) -> None:
    peer = negotiated()
    with pytest.raises(PeerError, match=f"{request_.name} refused: .* not offered"):
        peer.send(request_)
    assert not peer.acked(request_)


def test_refusal_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    peer = negotiated()
    with caplog.at_level(logging.WARNING):
        assert not peer.acked(Request.SET_VRING_NUM, m.VringState(9, 256))
    assert caplog.messages == [
        "vhost-user: SET_VRING_NUM refused: there is no queue 9, only 3",
    ]


def test_message_marked_as_a_reply_is_refused() -> None:
    with pytest.raises(PeerError, match="marked as a reply"):
        Peer().send(Request.GET_FEATURES, reply=True)


def test_payload_that_does_not_decode_is_refused() -> None:
    with pytest.raises(PeerError, match="SET_FEATURES refused: payload of 0 bytes"):
        owned().send(Request.SET_FEATURES)


@pytest.mark.parametrize("request_", sorted(RULES), ids=lambda r: r.name)
def test_surplus_descriptors_are_refused_and_closed(
    request_: Request, open_fds: Callable[[], set[str]]
) -> None:
    before = open_fds()
    peer = negotiated()
    payload, _ = VALID[request_]
    with pytest.raises(PeerError, match="9 descriptors came along"):
        peer.send(request_, payload, fds=9)
    peer.session.close()
    assert open_fds() == before


@pytest.mark.parametrize(
    ("request_", "feature"),
    [(request, rule.needs) for request, rule in sorted(RULES.items()) if rule.needs],
    ids=lambda x: getattr(x, "name", ""),
)
def test_protocol_feature_must_be_negotiated_first(request_: Request, feature: Protocol) -> None:
    peer = negotiated()
    peer.send(Request.SET_PROTOCOL_FEATURES, m.U64((ALL_PROTOCOL | WITH_TAG) & ~feature))
    payload, fds = VALID[request_]
    with pytest.raises(PeerError, match=f"{feature.name} was not negotiated"):
        peer.send(request_, payload, fds)


def test_features_offered() -> None:
    peer = Peer()
    assert peer.ask(Request.GET_FEATURES) == m.U64(1 << 32 | 1 << 30 | 1 << 29 | 1 << 28)
    offered = 1 << 0 | 1 << 3 | 1 << 13 | 1 << 15 | 1 << 16
    assert peer.ask(Request.GET_PROTOCOL_FEATURES) == m.U64(offered)
    # QEMU 7.1 to 8.0 crash on CONFIG, so it comes with a tag only.
    assert Peer(b"t").ask(Request.GET_PROTOCOL_FEATURES) == m.U64(offered | 1 << 9 | 1 << 5)


@pytest.mark.parametrize("request_", [Request.SET_FEATURES, Request.SET_PROTOCOL_FEATURES])
def test_features_that_were_not_offered_are_refused(request_: Request) -> None:
    with pytest.raises(PeerError, match="bits 0x4000000 were not offered"):
        owned().send(request_, m.U64(1 << 26))


def test_features_cannot_change_under_a_running_queue() -> None:
    peer = running()
    peer.send(Request.SET_FEATURES, m.U64(FEATURES))
    with pytest.raises(PeerError, match="features cannot change"):
        peer.send(Request.SET_FEATURES, m.U64(WITHOUT_ENABLE))


def test_need_reply_is_ignored_without_reply_ack() -> None:
    peer = Peer()
    peer.send(Request.SET_OWNER)
    assert peer.send(Request.SET_FEATURES, m.U64(FEATURES), need_reply=True) is None
    with pytest.raises(PeerError):
        peer.send(Request.SET_VRING_NUM, m.VringState(9, 256), need_reply=True)


def test_the_message_that_negotiates_reply_ack_is_acknowledged() -> None:
    """User-mode Linux waits for it."""
    assert Peer().acked(Request.SET_PROTOCOL_FEATURES, m.U64(Protocol.REPLY_ACK))


def test_message_with_a_reply_of_its_own_is_not_acknowledged_too() -> None:
    wire = negotiated().send(Request.GET_QUEUE_NUM, need_reply=True)
    assert wire is not None
    assert m.decode_payload(Request.SET_STATUS, wire[m.HEADER_SIZE :]) == m.U64(QUEUES)


def test_counts() -> None:
    peer = negotiated()
    assert peer.ask(Request.GET_QUEUE_NUM) == m.U64(QUEUES)
    assert peer.ask(Request.GET_MAX_MEM_SLOTS) == m.U64(SLOTS)


def test_config_space_holds_tag_and_request_queues() -> None:
    peer = connected()
    whole = b"share".ljust(36, b"\0") + (QUEUES - 1).to_bytes(4, "little")
    assert peer.ask(Request.GET_CONFIG, m.Config(0, 0, bytes(40))) == m.Config(0, 0, whole)
    for size in range(41):  # User-mode Linux: from the start, one byte more each time
        answer = peer.ask(Request.GET_CONFIG, m.Config(0, 0, bytes(size)))
        assert answer == m.Config(0, 0, whole[:size])
    assert peer.ask(Request.GET_CONFIG, m.Config(36, 1, bytes(4))) == m.Config(36, 1, whole[36:])
    assert peer.ask(Request.GET_CONFIG, m.Config(38, 0, bytes(6))) == m.Config(
        38, 0, whole[38:] + bytes(4)
    )


def test_channel_to_the_front_end_is_held_open_to_the_end(
    open_fds: Callable[[], set[str]],
) -> None:
    """User-mode Linux needs one for its interrupts, and spins if the other end closes."""
    before = open_fds()
    peer = connected()
    for _ in range(2):
        peer.send(Request.SET_BACKEND_REQ_FD, fds=1)
        assert len(open_fds()) == len(before) + 1
    with pytest.raises(PeerError, match="no descriptor came along"):
        peer.send(Request.SET_BACKEND_REQ_FD)
    peer.session.close()
    assert open_fds() == before


def test_status_reads_back_and_0_does_not_forget_the_guest() -> None:
    """QEMU sets status 0 when it stops the device for `stop`, after which `cont` may come."""
    peer = running()
    peer.send(Request.SET_STATUS, m.U64(15))
    assert peer.ask(Request.GET_STATUS) == m.U64(15)
    peer.send(Request.SET_STATUS, m.U64(0))
    assert peer.ask(Request.GET_STATUS) == m.U64(0)
    assert peer.device.resets == 0


def test_ring_starts_when_described_kicked_and_enabled() -> None:
    peer = negotiated()
    peer.describe(1)
    peer.kick(1)
    assert not peer.device.running, "with PROTOCOL_FEATURES a ring is born disabled"
    peer.enable(1)
    vring = peer.device.running[1]
    assert (vring.num, vring.base) == (256, 7)
    assert (vring.desc_addr, vring.avail_addr, vring.used_addr) == (
        ADDR.desc,
        ADDR.avail,
        ADDR.used,
    )
    assert vring.call_fd == vring.err_fd == -1
    assert vring.event_idx
    assert vring.indirect
    peer.session.close()


def test_ring_is_born_enabled_without_protocol_features() -> None:
    peer = Peer()
    peer.negotiate(features=Feature.VERSION_1)
    peer.give_memory()
    peer.describe(0)
    peer.kick(0)
    vring = peer.device.running[0]
    assert not vring.event_idx
    assert not vring.indirect
    peer.session.close()


STEPS = ("num", "addr", "kick", "enable", "memory")


@given(order=st.permutations(STEPS))
def test_ring_starts_with_the_last_of_its_parts_in_any_order(order: list[str]) -> None:
    peer = Peer()
    peer.negotiate()
    steps: dict[str, Callable[[], object]] = {
        "num": lambda: peer.send(Request.SET_VRING_NUM, m.VringState(1, 64)),
        "addr": lambda: peer.send(Request.SET_VRING_ADDR, replace(ADDR, index=1)),
        "kick": lambda: peer.kick(1),
        "enable": lambda: peer.enable(1),
        "memory": peer.give_memory,
    }
    for step in order:
        assert not peer.device.running
        steps[step]()
    assert peer.device.running.keys() == {1}
    peer.session.close()


def test_ring_without_a_kick_descriptor_is_polled() -> None:
    peer = negotiated()
    peer.describe(1)
    peer.send(Request.SET_VRING_KICK, m.VringFd(1, has_fd=False))
    peer.enable(1)
    assert peer.device.running[1].kick_fd == -1
    peer.session.close()


def test_descriptor_must_match_the_message() -> None:
    peer = negotiated()
    for request in (Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR):
        with pytest.raises(PeerError, match="no descriptor came along"):
            peer.send(request, m.VringFd(1, has_fd=True), fds=0)
        with pytest.raises(PeerError, match="where none was named"):
            peer.send(request, m.VringFd(1, has_fd=False), fds=1)
    with pytest.raises(PeerError, match="1 regions but 0 descriptors"):
        peer.send(Request.SET_MEM_TABLE, TABLE)
    with pytest.raises(PeerError, match="no descriptor came along"):
        peer.send(Request.ADD_MEM_REG, REGION)


def test_disabling_pauses_and_enabling_goes_on_where_it_was() -> None:
    peer = running()
    peer.enable(1, on=False)
    assert not peer.device.running
    peer.enable(1)
    assert peer.device.running[1].base == 7 + peer.device.served
    peer.session.close()


def test_get_vring_base_stops_and_a_new_kick_starts_again() -> None:
    peer = running()
    assert peer.get_base(1) == 7 + peer.device.served
    assert not peer.device.running
    assert peer.get_base(1) == 7 + peer.device.served, "asking again changes nothing"
    peer.enable(1)
    assert not peer.device.running, "enabled, but not started before a kick descriptor comes"
    peer.describe(1, base=12)
    peer.kick(1)
    assert peer.device.running[1].base == 12
    assert peer.device.resets == 0, "nodes, open files and locks stay"
    peer.session.close()


def test_base_of_a_ring_that_never_ran_is_what_was_set() -> None:
    peer = negotiated()
    assert peer.get_base(2) == 0
    peer.send(Request.SET_VRING_BASE, m.VringState(2, 65535))
    assert peer.get_base(2) == 65535


def test_queue_that_stopped_by_itself_is_no_surprise() -> None:
    peer = running()
    peer.device.running.clear()  # a broken ring: the data plane gave the queue up
    peer.send(Request.SET_VRING_CALL, m.VringFd(1, has_fd=True), fds=1)
    assert peer.get_base(1) == 7
    peer.session.close()


def test_call_descriptor_is_swapped_without_a_stop() -> None:
    peer = running()
    peer.device.calls.clear()
    peer.send(Request.SET_VRING_CALL, m.VringFd(1, has_fd=True), fds=1)
    peer.send(Request.SET_VRING_CALL, m.VringFd(1, has_fd=False))
    assert peer.device.calls == ["set_call 1", "set_call 1"]
    peer.session.close()


@pytest.mark.parametrize("request_", [Request.SET_VRING_KICK, Request.SET_VRING_ERR])
def test_other_descriptors_are_swapped_by_a_restart(request_: Request) -> None:
    peer = running()
    peer.device.calls.clear()
    peer.send(request_, m.VringFd(1, has_fd=True), fds=1)
    assert peer.device.calls == ["stop_queue 1", "start_queue 1"]
    assert peer.device.running[1].base == 7 + peer.device.served
    peer.session.close()


@pytest.mark.parametrize(
    ("request_", "payload", "words"),
    [
        (Request.SET_VRING_NUM, m.VringState(1, 0), "0 entries"),
        (Request.SET_VRING_NUM, m.VringState(1, 1), "1 entries"),
        (Request.SET_VRING_NUM, m.VringState(1, 96), "96 entries"),
        (Request.SET_VRING_NUM, m.VringState(1, 65536), "65536 entries"),
        (Request.SET_VRING_BASE, m.VringState(1, 65536), "65536 is no index"),
        (Request.SET_VRING_ENABLE, m.VringState(1, 2), "2 is neither 0 nor 1"),
        (Request.SET_VRING_ADDR, replace(ADDR, desc=8), "not aligned"),
        (Request.SET_VRING_ADDR, replace(ADDR, avail=1), "not aligned"),
        (Request.SET_VRING_ADDR, replace(ADDR, used=2), "not aligned"),
        (Request.SET_VRING_CALL, m.VringFd(3, has_fd=False), "there is no queue 3"),
        (Request.GET_VRING_BASE, m.VringState(1 << 31, 0), "there is no queue 2147483648"),
    ],
)
def test_ring_value_out_of_range_is_refused(
    request_: Request, payload: m.Payload, words: str
) -> None:
    with pytest.raises(PeerError, match=words):
        negotiated().send(request_, payload)


@pytest.mark.parametrize("request_", [Request.RESET_DEVICE, Request.RESET_OWNER])
def test_reset_stops_all_rings_forgets_the_guest_and_keeps_memory(request_: Request) -> None:
    peer = running()
    peer.run(2)
    peer.send(request_)
    assert not peer.device.running
    assert peer.device.resets == 1
    assert len(peer.device.memory) == 1
    with pytest.raises(PeerError, match="before SET_FEATURES"):
        peer.kick(1)
    peer.send(Request.SET_FEATURES, m.U64(FEATURES))
    peer.run(1)  # QEMU sends no memory again that it knows we have
    assert peer.device.running.keys() == {1}
    assert peer.get_base(2) == 0
    peer.session.close()


def test_memory_slots_come_and_go() -> None:
    peer = negotiated()
    second = m.Region(1 << 30, 4096, 1 << 40, 8192)
    assert peer.acked(Request.ADD_MEM_REG, second, fds=1)
    assert [(r.guest_addr, r.mmap_offset) for r in peer.device.memory] == [(0, 0), (1 << 30, 8192)]
    assert peer.acked(Request.REM_MEM_REG, second, fds=1), "some front-ends send a descriptor here"
    assert not peer.acked(Request.REM_MEM_REG, second), "it is gone"
    assert len(peer.device.memory) == 1


def test_failing_data_plane_refuses_the_message() -> None:
    peer = negotiated()
    peer.device.fail = {"set_memory": errno.ENOMEM}
    with pytest.raises(PeerError, match="SET_MEM_TABLE refused: Cannot allocate memory"):
        peer.give_memory()
    assert not peer.acked(Request.SET_MEM_TABLE, TABLE, fds=1)


def test_ring_that_cannot_start_is_tried_again_with_a_new_kick_only() -> None:
    peer = negotiated()
    peer.describe(1)
    peer.enable(1)
    peer.device.fail = {"start_queue": errno.EFAULT}
    assert not peer.acked(Request.SET_VRING_KICK, m.VringFd(1, has_fd=True), fds=1)
    assert peer.acked(Request.SET_MEM_TABLE, TABLE, fds=1)
    peer.device.fail = {}
    assert peer.acked(Request.SET_VRING_KICK, m.VringFd(1, has_fd=True), fds=1)
    assert peer.device.running.keys() == {1}
    peer.session.close()


def test_close_releases_everything_even_where_a_queue_does_not_stop() -> None:
    peer = running()
    peer.device.fail = {"stop_queue": errno.EIO}
    peer.device.running.clear()
    peer.session.close()
    assert peer.device.resets == 1
    assert not peer.device.memory


def test_phases_lead_on() -> None:
    assert list(Phase) == sorted(Phase)
    with pytest.raises(PeerError, match="it comes before SET_OWNER"):
        Peer().send(Request.SET_FEATURES, m.U64(FEATURES))
    peer = Peer()
    peer.send(Request.SET_OWNER)
    with pytest.raises(PeerError, match="it comes before SET_FEATURES"):
        peer.kick(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.tuples(st.sampled_from(sorted(VALID)), st.integers(0, 3), st.booleans()), max_size=30
    )
)
def test_no_sequence_of_messages_leaks_or_breaks(
    messages: list[tuple[Request, int, bool]], open_fds: Callable[[], set[str]]
) -> None:
    """Whatever comes in whatever order: accepted or refused, and everything is closed after."""
    before = open_fds()
    peer = Peer(b"tag")
    for request, index, need_reply in messages:
        payload, fds = VALID[request]
        if hasattr(payload, "index"):
            payload = replace(payload, index=index)  # type: ignore[arg-type]
        try:
            peer.send(request, payload, fds, need_reply=need_reply)
        except PeerError:
            continue
    peer.session.close()
    assert not peer.device.running
    assert open_fds() == before
