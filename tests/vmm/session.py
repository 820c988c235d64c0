# SPDX-License-Identifier: Apache-2.0
"""The frontend's end of a vhost-user connection: one method a message, raw access for liars.

A method sends its message and, where the protocol gives an answer, waits for it. With REPLY_ACK
negotiated every message asks for an acknowledgement, so that a refusal is an exception here and not
a surprise later.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Self

from tests.vmm import messages
from tests.vmm.messages import Message, ProtocolFeature, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vmm.memory import Region


class BackendClosedError(ConnectionError):
    """The backend hung up."""


class BackendRefusedError(Exception):
    """The backend acknowledged a message with something else than success."""

    def __init__(self, request: Request, code: int) -> None:
        super().__init__(f"{request.name} was refused with {code:#x}")
        self.request = request
        self.code = code


class Session:
    """A connection to a vhost-user backend.

    Args:
        sock: The connected stream socket, owned from here on.
        timeout: Seconds to wait for an answer.
    """

    def __init__(self, sock: socket.socket, *, timeout: float = 10.0) -> None:
        self.sock = sock
        self.sock.settimeout(timeout)
        self.protocol_features = ProtocolFeature(0)

    @classmethod
    def connect(cls, path: str | os.PathLike[str], *, timeout: float = 10.0) -> Self:
        """Connects to a listening backend."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(os.fspath(path))
        except BaseException:
            sock.close()
            raise
        return cls(sock, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self.sock.close()

    # Bytes.

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Sends any bytes with any fds."""
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self.sock.sendmsg([data], ancillary)
            data = data[sent:]
        if data:
            self.sock.sendall(data)

    def _receive_exactly(self, size: int, fds: list[int]) -> bytes:
        data = b""
        while len(data) < size:
            room = socket.CMSG_SPACE(messages.MAX_FDS * array.array("i").itemsize)
            part, ancillary, _flags, _addr = self.sock.recvmsg(size - len(data), room)
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    whole = len(content) - len(content) % array.array("i").itemsize
                    fds.extend(array.array("i", content[:whole]))
            if not part:
                raise BackendClosedError("the backend closed the connection")
            data += part
        return data

    def receive(self) -> Message:
        """Waits for one message.

        Raises:
            BackendClosedError: The backend hung up.
            TimeoutError: Nothing came.
        """
        fds: list[int] = []
        try:
            header = self._receive_exactly(messages.HEADER.size, fds)
            request, flags, size = messages.HEADER.unpack(header)
            payload = self._receive_exactly(size, fds)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return Message(request, flags, payload, tuple(fds))

    def is_open(self) -> bool:
        """Whether the backend has not hung up."""
        # Asked before reading: a socket with a time-out would wait for its first byte.
        ready, _, _ = select.select([self.sock], [], [], 0)
        if not ready:
            return True
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except ConnectionError:
            return False

    def wait_closed(self) -> None:
        """Waits until the backend hangs up, dropping what it may still send.

        Raises:
            TimeoutError: It does not.
        """
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionError:
            return

    # Messages.

    def call(self, request: Request, payload: bytes = b"", fds: Sequence[int] = ()) -> Message:
        """Sends a message that has an answer of its own and returns the answer."""
        self.send_raw(messages.pack(request, payload), fds)
        answer = self.receive()
        if answer.request != request or not answer.flags & messages.FLAG_REPLY:
            raise AssertionError(f"{request.name} was answered by {answer}")
        return answer

    def tell(self, request: Request, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Sends a message without an answer; waits for its acknowledgement if that is negotiated.

        Raises:
            BackendRefusedError: The acknowledgement says so.
        """
        if not self.protocol_features & ProtocolFeature.REPLY_ACK:
            self.send_raw(messages.pack(request, payload), fds)
            return
        flags = messages.VERSION | messages.FLAG_NEED_REPLY
        self.send_raw(messages.pack(request, payload, flags), fds)
        answer = self.receive()
        if answer.request != request:
            raise AssertionError(f"{request.name} was acknowledged by {answer}")
        if answer.u64 != 0:
            raise BackendRefusedError(request, answer.u64)

    def get_features(self) -> int:
        return self.call(Request.GET_FEATURES).u64

    def set_features(self, features: int) -> None:
        self.tell(Request.SET_FEATURES, messages.u64(features))

    def get_protocol_features(self) -> ProtocolFeature:
        return ProtocolFeature(self.call(Request.GET_PROTOCOL_FEATURES).u64)

    def set_protocol_features(self, features: ProtocolFeature) -> None:
        """Sets them; acknowledgements are asked for from the next message on."""
        self.protocol_features &= ~ProtocolFeature.REPLY_ACK
        self.tell(Request.SET_PROTOCOL_FEATURES, messages.u64(features))
        self.protocol_features = features

    def set_owner(self) -> None:
        self.tell(Request.SET_OWNER)

    def reset_owner(self) -> None:
        self.tell(Request.RESET_OWNER)

    def reset_device(self) -> None:
        self.tell(Request.RESET_DEVICE)

    def get_queue_num(self) -> int:
        return self.call(Request.GET_QUEUE_NUM).u64

    def get_max_mem_slots(self) -> int:
        return self.call(Request.GET_MAX_MEM_SLOTS).u64

    def set_mem_table(self, regions: Sequence[Region], fds: Sequence[int]) -> None:
        self.tell(Request.SET_MEM_TABLE, messages.mem_table(regions), fds)

    def add_mem_reg(self, region: Region, fd: int) -> None:
        self.tell(Request.ADD_MEM_REG, messages.mem_slot(region), [fd])

    def rem_mem_reg(self, region: Region) -> None:
        self.tell(Request.REM_MEM_REG, messages.mem_slot(region))

    def set_vring_num(self, index: int, size: int) -> None:
        self.tell(Request.SET_VRING_NUM, messages.vring_state(index, size))

    def set_vring_base(self, index: int, base: int) -> None:
        self.tell(Request.SET_VRING_BASE, messages.vring_state(index, base))

    def get_vring_base(self, index: int) -> int:
        """Stops the ring; returns the avail index to go on from."""
        answer = self.call(Request.GET_VRING_BASE, messages.vring_state(index, 0))
        got, base = struct.unpack("<II", answer.payload)
        if got != index:
            raise AssertionError(f"asked for the base of ring {index}, got that of {got}")
        return int(base)

    def set_vring_addr(self, index: int, *, desc: int, avail: int, used: int) -> None:
        """Sets where the ring's parts lie; frontend addresses."""
        self.tell(Request.SET_VRING_ADDR, messages.vring_addr(index, desc, used, avail))

    def _vring_fd(self, request: Request, index: int, fd: int) -> None:
        if fd < 0:
            self.tell(request, messages.u64(index | messages.VRING_NOFD))
        else:
            self.tell(request, messages.u64(index), [fd])

    def set_vring_kick(self, index: int, fd: int) -> None:
        """Sets the kick eventfd; -1: none."""
        self._vring_fd(Request.SET_VRING_KICK, index, fd)

    def set_vring_call(self, index: int, fd: int) -> None:
        """Sets the call eventfd; -1: none."""
        self._vring_fd(Request.SET_VRING_CALL, index, fd)

    def set_vring_err(self, index: int, fd: int) -> None:
        """Sets the error eventfd; -1: none."""
        self._vring_fd(Request.SET_VRING_ERR, index, fd)

    def set_vring_enable(self, index: int, enable: bool) -> None:
        self.tell(Request.SET_VRING_ENABLE, messages.vring_state(index, int(enable)))

    def get_config(self, offset: int, size: int) -> bytes:
        """Reads the configuration space; what came, which is nothing where the backend fails."""
        answer = self.call(Request.GET_CONFIG, messages.config(offset, size))
        return answer.payload[12:]

    def set_config(self, offset: int, data: bytes) -> None:
        self.tell(Request.SET_CONFIG, messages.config(offset, len(data), data))

    def get_status(self) -> int:
        return self.call(Request.GET_STATUS).u64

    def set_status(self, status: int) -> None:
        self.tell(Request.SET_STATUS, messages.u64(status))
