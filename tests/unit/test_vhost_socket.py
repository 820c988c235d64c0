# SPDX-License-Identifier: Apache-2.0
"""Frames and descriptors over a socket: short reads, surplus, truncation, hang-ups."""

from __future__ import annotations

import array
import fcntl
import os
import socket
from typing import TYPE_CHECKING

import pytest

from ovfs.errors import PeerError
from ovfs.vhost_user import messages as m
from ovfs.vhost_user.messages import Request
from ovfs.vhost_user.socket import Connection, Frame, HungUpError, peer_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATE = m.encode(Request.SET_VRING_NUM, m.VringState(1, 256))
KICK = m.encode(Request.SET_VRING_KICK, m.VringFd(1, has_fd=True))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Connection]]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    yield theirs, connection
    connection.close()
    theirs.close()


def send_fds(sock: socket.socket, data: bytes, count: int) -> None:
    fds = [os.eventfd(0) for _ in range(count)]
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        sock.sendmsg([data], [rights])
    finally:
        for fd in fds:
            os.close(fd)


def receive(connection: Connection) -> Frame:
    frame = connection.receive()
    assert frame is not None
    return frame


def test_frames_come_one_by_one(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    assert connection.receive() is None
    theirs.sendall(STATE + m.encode(Request.SET_OWNER, m.Empty()) + STATE)
    assert [receive(connection).header.request for _ in range(3)] == [8, 3, 8]
    assert connection.receive() is None


def test_frame_may_come_byte_by_byte(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    for byte in STATE[:-1]:
        theirs.sendall(bytes([byte]))
        assert connection.receive() is None
    theirs.sendall(STATE[-1:])
    frame = receive(connection)
    assert m.decode_payload(Request.SET_VRING_NUM, frame.body) == m.VringState(1, 256)


def test_descriptors_belong_to_their_frame(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    theirs.sendall(STATE)
    send_fds(theirs, KICK, 1)
    theirs.sendall(STATE)
    send_fds(theirs, STATE, 8)
    frames = [receive(connection) for _ in range(4)]
    assert [len(frame.fds) for frame in frames] == [0, 1, 0, 8]
    for frame in frames:
        for fd in frame.fds.borrow():
            assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        frame.fds.close()


def test_descriptors_may_come_with_the_payload(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    theirs.sendall(KICK[:12])
    assert connection.receive() is None
    send_fds(theirs, KICK[12:], 1)
    with receive(connection).fds as fds:
        assert len(fds) == 1


@pytest.mark.parametrize("counts", [(9,), (8, 1), (253,)])
def test_too_many_descriptors_are_refused_and_closed(
    counts: tuple[int, ...],
    pair: tuple[socket.socket, Connection],
    open_fds: Callable[[], set[str]],
) -> None:
    theirs, connection = pair
    before = open_fds()
    for number, count in enumerate(counts):
        send_fds(theirs, KICK[number : number + 1], count)
    with pytest.raises(PeerError, match="more than 8 descriptors"):
        connection.receive()
    connection.close()
    assert open_fds() < before


def test_half_a_frame_s_descriptors_are_closed(
    pair: tuple[socket.socket, Connection], open_fds: Callable[[], set[str]]
) -> None:
    theirs, connection = pair
    before = open_fds()
    send_fds(theirs, KICK[:15], 2)
    assert connection.receive() is None
    assert len(open_fds()) == len(before) + 2
    connection.close()
    assert open_fds() < before


def test_other_ancillary_data_is_ignored(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    theirs.sendall(STATE)
    assert len(receive(connection).fds) == 0


def test_malformed_header_ends_it(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    theirs.sendall(b"\xff" * 12)
    with pytest.raises(PeerError, match="request 4294967295: version 3"):
        connection.receive()


def test_hang_up_between_frames(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    theirs.sendall(STATE)
    theirs.close()
    receive(connection)
    with pytest.raises(HungUpError, match=r"the VMM hung up$"):
        connection.receive()


@pytest.mark.parametrize("size", [1, 11, 12, 19])
def test_hang_up_within_a_frame(size: int, pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    theirs.sendall(STATE[:size])
    theirs.close()
    with pytest.raises(HungUpError, match="in the middle"):
        connection.receive()


def test_reply_arrives(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    connection.send(STATE)
    assert theirs.recv(100) == STATE


def test_peer_that_never_reads_is_given_up(pair: tuple[socket.socket, Connection]) -> None:
    _, connection = pair

    def flood() -> None:
        for _ in range(100_000):
            connection.send(STATE * 50)

    with pytest.raises(PeerError, match="does not read"):
        flood()


def test_reply_to_a_peer_that_is_gone(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    theirs.close()
    with pytest.raises(HungUpError):
        connection.send(STATE)


def test_peer_has_a_name(pair: tuple[socket.socket, Connection]) -> None:
    theirs, _ = pair
    assert peer_name(theirs) == f"process {os.getpid()} of uid {os.geteuid()}"
