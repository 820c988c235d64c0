# SPDX-License-Identifier: Apache-2.0
"""Frames over a UNIX stream socket, with the descriptors that travel beside them.

The stream has no message boundaries, but descriptors are tied to a byte: the kernel ends a
``recvmsg`` before bytes that carry further ones. So a header is read by itself, then exactly its
payload, and every descriptor that shows up meanwhile belongs to this frame. Reads never block and
may be short at any byte; what has arrived is kept until the rest comes.
"""

from __future__ import annotations

import array
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovfs.errors import PeerError
from ovfs.vhost_user.descriptors import Descriptors
from ovfs.vhost_user.messages import HEADER_SIZE, MAX_REGIONS, decode_header

if TYPE_CHECKING:
    from ovfs.vhost_user.messages import Header

_INT_SIZE = array.array("i").itemsize
_ANCILLARY_SIZE = socket.CMSG_SPACE(MAX_REGIONS * _INT_SIZE)


class HungUpError(PeerError):
    """The front-end closed the connection, which is its right at any time."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it came; whoever holds the frame owns the descriptors in it."""

    header: Header
    body: bytes
    fds: Descriptors


class Connection:
    """The connection with one front-end. Control thread only."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._header: Header | None = None
        self._buffer = bytearray()
        self._fds = Descriptors()

    def fileno(self) -> int:
        """Return the descriptor to wait on for frames."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket and the descriptors of a frame that never got complete."""
        self._fds.close()
        self._sock.close()

    def receive(self) -> Frame | None:
        """Return the next frame, None while it is not all there.

        Raises:
            HungUpError: the front-end closed the connection.
            PeerError: what came is no vhost-user.
        """
        if self._header is None:
            if not self._fill(HEADER_SIZE):
                return None
            self._header = decode_header(bytes(self._buffer))
            self._buffer.clear()
        if not self._fill(self._header.size):
            return None
        frame = Frame(self._header, bytes(self._buffer), self._fds)
        self._header, self._fds = None, Descriptors()
        self._buffer.clear()
        return frame

    def send(self, data: bytes) -> None:
        """Send a reply.

        Raises:
            PeerError: the front-end does not read its replies, which are small and few.
        """
        try:
            sent = self._sock.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise HungUpError("the VMM hung up before its reply") from error
        if sent < len(data):
            raise PeerError("the VMM does not read its replies")

    def _fill(self, size: int) -> bool:
        """Read until the buffer holds ``size`` bytes; False where more has to come first."""
        while len(self._buffer) < size:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(
                    size - len(self._buffer), _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                raise HungUpError(f"the connection broke: {error.strerror}") from error
            # Owned before anything is judged, so that refusing the frame closes them.
            self._fds.add(_descriptors_in(ancillary))
            if flags & socket.MSG_CTRUNC or len(self._fds) > MAX_REGIONS:
                raise PeerError(
                    f"more than {MAX_REGIONS} descriptors came with a message, or none are left"
                )
            if not data:
                self._hung_up()
            self._buffer += data
        return True

    def _hung_up(self) -> None:
        if self._header is None and not self._buffer:
            raise HungUpError("the VMM hung up")
        raise HungUpError("the VMM hung up in the middle of a message")


def _descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> array.array[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            # A truncated message may end within a descriptor's number.
            fds.frombytes(data[: len(data) - len(data) % _INT_SIZE])
    return fds


def peer_name(sock: socket.socket) -> str:
    """Return who connected, for the log."""
    credentials = array.array("i")
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * _INT_SIZE)
    except OSError:
        return "somebody"
    credentials.frombytes(raw)
    pid, uid, _gid = credentials
    return f"process {pid} of uid {uid}"
