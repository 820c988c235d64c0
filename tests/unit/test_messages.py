# SPDX-License-Identifier: Apache-2.0
"""The vhost-user codec: what goes in comes out, and what is wrong is told apart from it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovfs.vhost_user import messages as m
from ovfs.vhost_user.messages import MalformedError, Request

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
REGIONS = st.builds(m.Region, U64, U64, U64, U64)

PAYLOADS: dict[type[m.Payload], st.SearchStrategy[m.Payload]] = {
    m.Empty: st.just(m.Empty()),
    m.U64: st.builds(m.U64, U64),
    m.VringState: st.builds(m.VringState, U32, U32),
    m.VringAddr: st.builds(m.VringAddr, U32, U32, U64, U64, U64, U64),
    m.VringFd: st.builds(m.VringFd, st.integers(0, 255), st.booleans()),
    m.Region: REGIONS,
    m.MemTable: st.builds(m.MemTable, st.lists(REGIONS, max_size=8).map(tuple)),
    m.Config: st.builds(m.Config, st.integers(0, 56), U32, st.binary(max_size=200)),
}

# Written out by hand from the specification, so that a slip in the codec's table shows.
KINDS: dict[Request, type[m.Payload]] = {
    Request.GET_FEATURES: m.Empty,
    Request.SET_FEATURES: m.U64,
    Request.SET_OWNER: m.Empty,
    Request.RESET_OWNER: m.Empty,
    Request.SET_MEM_TABLE: m.MemTable,
    Request.SET_VRING_NUM: m.VringState,
    Request.SET_VRING_ADDR: m.VringAddr,
    Request.SET_VRING_BASE: m.VringState,
    Request.GET_VRING_BASE: m.VringState,
    Request.SET_VRING_KICK: m.VringFd,
    Request.SET_VRING_CALL: m.VringFd,
    Request.SET_VRING_ERR: m.VringFd,
    Request.GET_PROTOCOL_FEATURES: m.Empty,
    Request.SET_PROTOCOL_FEATURES: m.U64,
    Request.GET_QUEUE_NUM: m.Empty,
    Request.SET_VRING_ENABLE: m.VringState,
    Request.SET_BACKEND_REQ_FD: m.Empty,
    Request.GET_CONFIG: m.Config,
    Request.RESET_DEVICE: m.Empty,
    Request.GET_MAX_MEM_SLOTS: m.Empty,
    Request.ADD_MEM_REG: m.Region,
    Request.REM_MEM_REG: m.Region,
    Request.SET_STATUS: m.U64,
    Request.GET_STATUS: m.Empty,
}

EXAMPLES: dict[type[m.Payload], m.Payload] = {
    m.Empty: m.Empty(),
    m.U64: m.U64(1),
    m.VringState: m.VringState(0, 1),
    m.VringAddr: m.VringAddr(0, 0, 0, 0, 0, 0),
    m.VringFd: m.VringFd(0, has_fd=True),
    m.Region: m.Region(1, 2, 3, 4),
    m.MemTable: m.MemTable((m.Region(1, 2, 3, 4),)),
    m.Config: m.Config(0, 0, b"abc"),
}

# The wire, byte for byte, on a little-endian machine.
SAMPLES = [
    (Request.SET_FEATURES, m.U64(0x1_7000_0000), "0000007001000000"),
    (Request.SET_VRING_NUM, m.VringState(1, 256), "0100000000010000"),
    (
        Request.SET_VRING_ADDR,
        m.VringAddr(1, 0, desc=0x10, used=0x20, avail=0x30, log=0),
        "01000000000000001000000000000000200000000000000030000000000000000000000000000000",
    ),
    (Request.SET_VRING_KICK, m.VringFd(2, has_fd=True), "0200000000000000"),
    (Request.SET_VRING_CALL, m.VringFd(2, has_fd=False), "0201000000000000"),
    (
        Request.SET_MEM_TABLE,
        m.MemTable((m.Region(1, 2, 3, 4),)),
        "01000000000000000100000000000000020000000000000003000000000000000400000000000000",
    ),
    (
        Request.ADD_MEM_REG,
        m.Region(1, 2, 3, 4),
        "00000000000000000100000000000000020000000000000003000000000000000400000000000000",
    ),
    (Request.GET_CONFIG, m.Config(4, 0, b"\1\2"), "0400000002000000000000000102"),
]


def test_served_messages_are_those_of_the_table() -> None:
    assert set(KINDS) == m.SERVED


@pytest.mark.parametrize("request_", KINDS, ids=lambda r: r.name)
@given(data=st.data(), need_reply=st.booleans(), reply=st.booleans())
def test_message_survives_the_round_trip(
    request_: Request, data: st.DataObject, need_reply: bool, reply: bool
) -> None:
    payload = data.draw(PAYLOADS[KINDS[request_]])
    wire = m.encode(request_, payload, need_reply=need_reply, reply=reply)
    head, body = wire[: m.HEADER_SIZE], wire[m.HEADER_SIZE :]
    assert m.decode_header(head) == m.Header(request_, len(body), need_reply, reply)
    assert m.decode_payload(request_, body) == payload


@pytest.mark.parametrize(("request_", "payload", "wire"), SAMPLES, ids=lambda x: str(x)[:30])
def test_wire_is_the_specification_s(request_: Request, payload: m.Payload, wire: str) -> None:
    assert m.encode_payload(payload).hex() == wire
    assert m.decode_payload(request_, bytes.fromhex(wire)) == payload


@given(st.binary(min_size=m.HEADER_SIZE, max_size=m.HEADER_SIZE))
def test_any_header_decodes_or_is_malformed(data: bytes) -> None:
    try:
        header = m.decode_header(data)
    except MalformedError:
        return
    assert header.size <= m.MAX_PAYLOAD
    assert m.encode(header.request, m.Empty())[:4] == data[:4]


@given(st.sampled_from(sorted(m.SERVED)), st.binary(max_size=300))
def test_any_payload_decodes_or_is_malformed(request_: Request, data: bytes) -> None:
    try:
        payload = m.decode_payload(request_, data)
    except MalformedError:
        return
    assert type(payload) is KINDS[request_]
    again = m.decode_payload(request_, m.encode_payload(payload))
    assert again == payload


@pytest.mark.parametrize(
    ("flags", "size", "words"),
    [
        (0, 0, "version 0"),
        (2, 0, "version 2"),
        (0x11, 0, "reserved flags"),
        (0x80000001, 0, "reserved flags"),
        (1, m.MAX_PAYLOAD + 1, "payload of 4097 bytes"),
        (1, 0xFFFFFFFF, "payload of 4294967295 bytes"),
    ],
)
def test_header_that_lies_is_refused(flags: int, size: int, words: str) -> None:
    with pytest.raises(MalformedError, match=f"GET_FEATURES: {words}"):
        m.decode_header(struct.pack("=III", Request.GET_FEATURES, flags, size))


@pytest.mark.parametrize("request_", sorted(m.SERVED), ids=lambda r: r.name)
def test_payload_of_a_wrong_length_is_refused(request_: Request) -> None:
    right = m.encode_payload(EXAMPLES[KINDS[request_]])
    if right:
        with pytest.raises(MalformedError):
            m.decode_payload(request_, right[:-1])
        with pytest.raises(MalformedError):
            m.decode_payload(request_, b"")
    if request_ is not Request.SET_MEM_TABLE:
        with pytest.raises(MalformedError):
            m.decode_payload(request_, right + b"\0")


def test_bytes_after_the_last_region_are_ignored() -> None:
    """User-mode Linux sends its whole array of two with one region in it."""
    table = m.MemTable((m.Region(1, 2, 3, 4),))
    assert m.decode_payload(Request.SET_MEM_TABLE, m.encode_payload(table) + bytes(32)) == table


def test_too_many_regions_are_refused() -> None:
    body = struct.pack("=II", 9, 0) + bytes(9 * 32)
    with pytest.raises(MalformedError, match="9 regions"):
        m.decode_payload(Request.SET_MEM_TABLE, body)


def test_reserved_bits_beside_a_ring_s_index_are_refused() -> None:
    with pytest.raises(MalformedError, match="reserved bits"):
        m.decode_payload(Request.SET_VRING_KICK, struct.pack("=Q", 0x201))


def test_config_window_is_bounded() -> None:
    body = struct.pack("=III", 100, 157, 0) + bytes(157)
    with pytest.raises(MalformedError, match="byte 257"):
        m.decode_payload(Request.GET_CONFIG, body)


def test_unknown_request_has_a_name_for_the_log() -> None:
    assert m.request_name(11) == "GET_VRING_BASE"
    assert m.request_name(99) == "request 99"
