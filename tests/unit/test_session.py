# SPDX-License-Identifier: Apache-2.0
"""The vhost-user session: every message in every state, what is refused, and how."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovfs.errors import PeerError
from ovfs.vhost_user import messages as m
from ovfs.vhost_user.features import FEATURES, Feature, Protocol
from ovfs.vhost_user.messages import Request
from ovfs.vhost_user.rules import NOT_OFFERED, RULES, Phase, RingUse
from tests.unit.peer import (
    ALL_PROTOCOL,
    QUEUES,
    SLOTS,
    VALID,
    WITH_TAG,
    Peer,
    connected,
    negotiated,
    owned,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT_ENABLE = FEATURES & ~Feature.PROTOCOL_FEATURES
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
@pytest.mark.parametrize(
    "request_",
    [request for request, rule in RULES.items() if not rule.replies],
    ids=lambda r: r.name,
)
def test_acknowledgement_tells_what_an_end_would(request_: Request, state: str) -> None:
    """With REPLY_ACK a refusal is a non-zero answer, and the session goes on."""
    peer = STATES[state]()
    payload, fds = VALID[request_]
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
