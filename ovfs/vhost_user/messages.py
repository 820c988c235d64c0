# SPDX-License-Identifier: Apache-2.0
"""The vhost-user wire: bytes to frozen dataclasses and back, without I/O.

A message is a header and a payload; descriptors travel beside it and are no concern of this file::

    u32 request | u32 flags | u32 size | payload of `size` bytes      (host byte order)
                  flags: bits 0-1 version, 2 reply, 3 need_reply

Lengths are exact, but for two that front-ends in use get wrong or extend:

- SET_MEM_TABLE: User-mode Linux always sends its whole array, longer than the count it names, so
  bytes after the last region are ignored.
- ADD_MEM_REG and REM_MEM_REG carry 8 bytes of padding first, whose value does not matter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any

from ovfs.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 1
MAX_REGIONS = 8  # in one SET_MEM_TABLE, and so the most descriptors that one message carries
MAX_PAYLOAD = (
    4096  # no message of a file-system device comes near; bounds what a front-end costs us
)
MAX_CONFIG = 256
NO_FD = 1 << 8  # in the payload of SET_VRING_KICK and its like; below it is the index

_HEADER = struct.Struct("=III")
_U64 = struct.Struct("=Q")
_STATE = struct.Struct("=II")
_ADDR = struct.Struct("=IIQQQQ")
_MEMORY = struct.Struct("=II")
_REGION = struct.Struct("=QQQQ")
_SINGLE = struct.Struct("=QQQQQ")
_CONFIG = struct.Struct("=III")

HEADER_SIZE = _HEADER.size


class MalformedError(PeerError):
    """Bytes that are no message of this protocol."""


class Request(IntEnum):
    """Front-end message types, all that the specification names."""

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
    GET_SHMEM_CONFIG = 44


class Flag(IntFlag):
    """Bits of the header's flags above the version."""

    REPLY = 1 << 2
    NEED_REPLY = 1 << 3


# A plain number: the inverse of a Flag knows no bits but the named ones.
_KNOWN_FLAGS = int(3 | Flag.REPLY | Flag.NEED_REPLY)


@dataclass(frozen=True, slots=True)
class Header:
    """The first 12 bytes; the request is a plain number, since it may be one nobody knows."""

    request: int
    size: int
    need_reply: bool = False
    reply: bool = False


@dataclass(frozen=True, slots=True)
class Empty:
    """No payload."""


@dataclass(frozen=True, slots=True)
class U64:
    """Feature bits, a count, a status, an acknowledgement."""

    value: int


@dataclass(frozen=True, slots=True)
class VringState:
    """An index and a number: the ring's size, base or enable flag."""

    index: int
    num: int


@dataclass(frozen=True, slots=True)
class VringAddr:
    """Where a ring lies, in the front-end's virtual addresses."""

    index: int
    flags: int
    desc: int
    used: int
    avail: int
    log: int


@dataclass(frozen=True, slots=True)
class VringFd:
    """Which ring the descriptor beside the message is for, or that there is none."""

    index: int
    has_fd: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of guest memory; its descriptor comes beside the message."""

    guest_addr: int
    size: int
    user_addr: int
    mmap_offset: int


@dataclass(frozen=True, slots=True)
class MemTable:
    """All of guest memory."""

    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """A window of the device configuration space."""

    offset: int
    flags: int
    data: bytes


Payload = Empty | U64 | VringState | VringAddr | VringFd | Region | MemTable | Config


def _unpack(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) != layout.size:
        raise MalformedError(f"payload of {len(data)} bytes, not {layout.size}")
    return layout.unpack(data)


def _empty(data: bytes) -> Empty:
    if data:
        raise MalformedError(f"payload of {len(data)} bytes, not 0")
    return Empty()


def _u64(data: bytes) -> U64:
    return U64(*_unpack(_U64, data))


def _vring_state(data: bytes) -> VringState:
    return VringState(*_unpack(_STATE, data))


def _vring_addr(data: bytes) -> VringAddr:
    return VringAddr(*_unpack(_ADDR, data))


def _vring_fd(data: bytes) -> VringFd:
    (value,) = _unpack(_U64, data)
    if value > (NO_FD | 0xFF):
        raise MalformedError(f"reserved bits set in {value:#x}")
    return VringFd(value & 0xFF, not value & NO_FD)


def _region(data: bytes) -> Region:
    return Region(*_unpack(_SINGLE, data)[1:])


def _mem_table(data: bytes) -> MemTable:
    if len(data) < _MEMORY.size:
        raise MalformedError(f"payload of {len(data)} bytes, not even a region count")
    count, _padding = _MEMORY.unpack_from(data)
    if count > MAX_REGIONS:
        raise MalformedError(f"{count} regions, more than {MAX_REGIONS}")
    if len(data) < _MEMORY.size + count * _REGION.size:
        raise MalformedError(f"payload of {len(data)} bytes is too short for {count} regions")
    offsets = range(_MEMORY.size, _MEMORY.size + count * _REGION.size, _REGION.size)
    return MemTable(tuple(Region(*_REGION.unpack_from(data, offset)) for offset in offsets))


def _config(data: bytes) -> Config:
    if len(data) < _CONFIG.size:
        raise MalformedError(f"payload of {len(data)} bytes, not {_CONFIG.size} and more")
    offset, size, flags = _CONFIG.unpack_from(data)
    if size != len(data) - _CONFIG.size:
        raise MalformedError(f"names {size} bytes and carries {len(data) - _CONFIG.size}")
    if offset + size > MAX_CONFIG:
        raise MalformedError(f"reaches byte {offset + size} of {MAX_CONFIG}")
    return Config(offset, flags, data[_CONFIG.size :])


# What follows each header, for the messages that are served. The rest are known by name only.
_DECODERS: dict[Request, Callable[[bytes], Payload]] = {
    Request.GET_FEATURES: _empty,
    Request.SET_FEATURES: _u64,
    Request.SET_OWNER: _empty,
    Request.RESET_OWNER: _empty,
    Request.SET_MEM_TABLE: _mem_table,
    Request.SET_VRING_NUM: _vring_state,
    Request.SET_VRING_ADDR: _vring_addr,
    Request.SET_VRING_BASE: _vring_state,
    Request.GET_VRING_BASE: _vring_state,
    Request.SET_VRING_KICK: _vring_fd,
    Request.SET_VRING_CALL: _vring_fd,
    Request.SET_VRING_ERR: _vring_fd,
    Request.GET_PROTOCOL_FEATURES: _empty,
    Request.SET_PROTOCOL_FEATURES: _u64,
    Request.GET_QUEUE_NUM: _empty,
    Request.SET_VRING_ENABLE: _vring_state,
    Request.SET_BACKEND_REQ_FD: _empty,
    Request.GET_CONFIG: _config,
    Request.RESET_DEVICE: _empty,
    Request.GET_MAX_MEM_SLOTS: _empty,
    Request.ADD_MEM_REG: _region,
    Request.REM_MEM_REG: _region,
    Request.SET_STATUS: _u64,
    Request.GET_STATUS: _empty,
}

SERVED = frozenset(_DECODERS)


def request_name(number: int) -> str:
    """Return what to call a request in a log line, known or not."""
    try:
        return Request(number).name
    except ValueError:
        return f"request {number}"


def decode_header(data: bytes) -> Header:
    """Return the header in exactly HEADER_SIZE bytes.

    Raises:
        MalformedError: where the next message would start cannot be trusted any more.
    """
    request, flags, size = _HEADER.unpack(data)
    name = request_name(request)
    if flags & 3 != VERSION:
        raise MalformedError(f"{name}: version {flags & 3}, not {VERSION}")
    if flags & ~_KNOWN_FLAGS:
        raise MalformedError(f"{name}: reserved flags set in {flags:#x}")
    if size > MAX_PAYLOAD:
        raise MalformedError(f"{name}: payload of {size} bytes, more than {MAX_PAYLOAD}")
    return Header(request, size, bool(flags & Flag.NEED_REPLY), bool(flags & Flag.REPLY))


def decode_payload(request: Request, data: bytes) -> Payload:
    """Return what a served request carries.

    Raises:
        MalformedError: the bytes do not fit the request; the next header can still be trusted.
    """
    return _DECODERS[request](data)


def _encode_region(region: Region) -> bytes:
    return _REGION.pack(region.guest_addr, region.size, region.user_addr, region.mmap_offset)


def _encode_addr(addr: VringAddr) -> bytes:
    return _ADDR.pack(addr.index, addr.flags, addr.desc, addr.used, addr.avail, addr.log)


_ENCODERS: dict[type[Payload], Callable[[Any], bytes]] = {
    Empty: lambda _: b"",
    U64: lambda payload: _U64.pack(payload.value),
    VringState: lambda payload: _STATE.pack(payload.index, payload.num),
    VringAddr: _encode_addr,
    VringFd: lambda payload: _U64.pack(payload.index | (0 if payload.has_fd else NO_FD)),
    Region: lambda payload: bytes(_U64.size) + _encode_region(payload),
    MemTable: lambda payload: (
        _MEMORY.pack(len(payload.regions), 0) + b"".join(map(_encode_region, payload.regions))
    ),
    Config: lambda payload: (
        _CONFIG.pack(payload.offset, len(payload.data), payload.flags) + payload.data
    ),
}


def encode_payload(payload: Payload) -> bytes:
    """Return the payload's bytes, as ``decode_payload`` reads them."""
    return _ENCODERS[type(payload)](payload)


def encode(
    request: int, payload: Payload, *, need_reply: bool = False, reply: bool = False
) -> bytes:
    """Return a whole message, header and payload."""
    body = encode_payload(payload)
    flags = VERSION | (Flag.REPLY if reply else 0) | (Flag.NEED_REPLY if need_reply else 0)
    return _HEADER.pack(request, flags, len(body)) + body
