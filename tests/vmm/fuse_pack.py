# SPDX-License-Identifier: Apache-2.0
"""FUSE's parts without a fixed size: directory entries, lists of forgets, request extensions."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import EXT_GROUPS


@dataclass(frozen=True)
class Dirent:
    """fuse_dirent with its name, and for READDIRPLUS the entry before it."""

    ino: int
    off: int
    type: int
    name: bytes
    entry: wire.Entry | None = None


_DIRENT = struct.Struct("<QQII")


def unpack_dirents(data: bytes, *, plus: bool = False) -> list[Dirent]:
    """Parses a reply to READDIR or READDIRPLUS.

    Raises:
        ValueError: An entry does not end within the data, or something is left over.
    """
    entries: list[Dirent] = []
    at = 0
    while at < len(data):
        start = at
        entry = None
        if plus:
            if at + wire.Entry.wire_size() > len(data):
                raise ValueError(f"{len(data) - at} bytes left over at {at}")
            entry = wire.Entry.unpack(data, at)
            at += wire.Entry.wire_size()
        if at + _DIRENT.size > len(data):
            raise ValueError(f"{len(data) - at} bytes left over at {at}")
        ino, off, namelen, kind = _DIRENT.unpack_from(data, at)
        at += _DIRENT.size
        name = data[at : at + namelen]
        at = start + -(-(at + namelen - start) // 8) * 8
        if len(name) < namelen or at > len(data):
            raise ValueError(f"the entry at {start} does not end within the reply")
        entries.append(Dirent(ino, off, kind, name, entry))
    return entries


def pack_forget(nlookup: int) -> bytes:
    """fuse_forget_in."""
    return struct.pack("<Q", nlookup)


def pack_batch_forget(items: list[tuple[int, int]]) -> bytes:
    """fuse_batch_forget_in with its (node, count) pairs."""
    return struct.pack("<II", len(items), 0) + b"".join(struct.pack("<QQ", *item) for item in items)


def pack_lk(fh: int, owner: int, lock: wire.FileLock, lk_flags: int = 0) -> bytes:
    """fuse_lk_in."""
    return struct.pack("<QQ", fh, owner) + lock.pack() + struct.pack("<I4x", lk_flags)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def pack_security_context(contexts: list[tuple[bytes, bytes]]) -> bytes:
    """The security-context extension: (name, value) pairs; none where the guest has no LSM."""
    body = b"".join(
        _padded(struct.pack("<I4x", len(value)) + name + b"\0" + value) for name, value in contexts
    )
    return struct.pack("<II", 8 + len(body), len(contexts)) + body


def pack_groups(groups: list[int]) -> bytes:
    """The supplementary-groups extension."""
    body = struct.pack(f"<I{len(groups)}I", len(groups), *groups)
    size = -(-(8 + len(body)) // 8) * 8
    return _padded(struct.pack("<II", size, EXT_GROUPS) + body)
