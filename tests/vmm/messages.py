# SPDX-License-Identifier: Apache-2.0
"""vhost-user messages as the frontend writes them: numbers and layouts from the specification.

Written apart from the daemon's own codec on purpose: two readings of the specification that must
agree.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.vmm.memory import Region

HEADER: Final = struct.Struct("<III")
VERSION: Final = 0x1
FLAG_REPLY: Final = 0x4
FLAG_NEED_REPLY: Final = 0x8
MAX_FDS: Final = 8
#: In the payload of a vring fd message: no fd follows.
VRING_NOFD: Final = 0x100


class Request(IntEnum):
    """Message numbers, frontend to backend."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    GET_SHARED_OBJECT = 41
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43


class Feature(IntFlag):
    """Virtio feature bits that concern rings and transport."""

    LOG_ALL = 1 << 26
    RING_INDIRECT_DESC = 1 << 28
    RING_EVENT_IDX = 1 << 29
    PROTOCOL_FEATURES = 1 << 30
    VERSION_1 = 1 << 32
    ACCESS_PLATFORM = 1 << 33
    RING_PACKED = 1 << 34
    IN_ORDER = 1 << 35
    ORDER_PLATFORM = 1 << 36
    NOTIFICATION_DATA = 1 << 38
    RING_RESET = 1 << 40


class ProtocolFeature(IntFlag):
    """vhost-user protocol features."""

    MQ = 1 << 0
    LOG_SHMFD = 1 << 1
    RARP = 1 << 2
    REPLY_ACK = 1 << 3
    NET_MTU = 1 << 4
    BACKEND_REQ = 1 << 5
    CROSS_ENDIAN = 1 << 6
    CRYPTO_SESSION = 1 << 7
    PAGEFAULT = 1 << 8
    CONFIG = 1 << 9
    BACKEND_SEND_FD = 1 << 10
    HOST_NOTIFIER = 1 << 11
    INFLIGHT_SHMFD = 1 << 12
    RESET_DEVICE = 1 << 13
    INBAND_NOTIFICATIONS = 1 << 14
    CONFIGURE_MEM_SLOTS = 1 << 15
    STATUS = 1 << 16
    XEN_MMAP = 1 << 17
    SHARED_OBJECT = 1 << 18
    DEVICE_STATE = 1 << 19


@dataclass(frozen=True)
class Message:
    """A message as it came in. Its fds belong to whoever holds it."""

    request: int
    flags: int
    payload: bytes
    fds: tuple[int, ...] = ()

    @property
    def u64(self) -> int:
        """The payload as one number.

        Raises:
            ValueError: It is not eight bytes.
        """
        if len(self.payload) != 8:
            raise ValueError(f"payload of {len(self.payload)} bytes where a u64 was due")
        return int.from_bytes(self.payload, "little")


def pack(request: int, payload: bytes = b"", flags: int = VERSION) -> bytes:
    """A whole message."""
    return HEADER.pack(request, flags, len(payload)) + payload


def u64(value: int) -> bytes:
    """The payload of one number."""
    return struct.pack("<Q", value)


def vring_state(index: int, value: int) -> bytes:
    """The payload of SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE and GET_VRING_BASE."""
    return struct.pack("<II", index, value)


def vring_addr(
    index: int, desc: int, used: int, avail: int, *, flags: int = 0, log: int = 0
) -> bytes:
    """The payload of SET_VRING_ADDR; frontend addresses."""
    return struct.pack("<IIQQQQ", index, flags, desc, used, avail, log)


def region(entry: Region) -> bytes:
    """One region of the memory table."""
    return struct.pack("<QQQQ", entry.guest_addr, entry.size, entry.user_addr, entry.mmap_offset)


def mem_table(regions: Iterable[Region]) -> bytes:
    """The payload of SET_MEM_TABLE."""
    packed = [region(entry) for entry in regions]
    return struct.pack("<II", len(packed), 0) + b"".join(packed)


def mem_slot(entry: Region) -> bytes:
    """The payload of ADD_MEM_REG and REM_MEM_REG."""
    return struct.pack("<Q", 0) + region(entry)


def config(offset: int, size: int, data: bytes = b"", flags: int = 0) -> bytes:
    """The payload of GET_CONFIG and SET_CONFIG; without data, `size` zeros stand in."""
    return struct.pack("<III", offset, size, flags) + (data or bytes(size))
