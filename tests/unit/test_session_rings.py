# SPDX-License-Identifier: Apache-2.0
"""The life of a ring, of memory and of the whole session, message by message."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovfs.errors import PeerError
from ovfs.vhost_user import messages as m
from ovfs.vhost_user.features import FEATURES, Feature
from ovfs.vhost_user.messages import Request
from tests.unit.peer import ADDR, REGION, TABLE, Peer, negotiated, running

if TYPE_CHECKING:
    from collections.abc import Callable


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
