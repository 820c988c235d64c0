# SPDX-License-Identifier: Apache-2.0
"""What the data plane of a remote backend asks, and how it is told.

Thin, as ``plane``: one C call a method. Every method is for the one remote thread of its plane, and
takes short locks only. What each promises is said in ``c/ovfs_api.h``.

Completions return False where the request was given up meanwhile, or where there was no room for
what is to be entered: then nothing was entered, and the caller undoes what it did for it.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ovfs.native._plane import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovfs.native.content import Content
    from ovfs.native.plane import Plane
    from ovfs.native.values import Attr, Entry

_BATCH = 256  # mails of one call
_NANOSECONDS = 1_000_000_000
_FOREVER_NS = 1 << 62  # some 146 years


class Note(IntEnum):
    """Mail that takes no answer, in ``Mail.opcode``."""

    FORGET = lib.OVFS_NOTE_FORGET
    WROTE = lib.OVFS_NOTE_WROTE
    READ = lib.OVFS_NOTE_READ
    RESET = lib.OVFS_NOTE_RESET


@dataclass(frozen=True, slots=True)
class Mail:
    """A request that the data plane cannot answer, or a note (``struct ovfs_mail``)."""

    tag: int
    opcode: int
    flags: int
    ino: int
    ino2: int
    fh: int
    open_flags: int
    uid: int
    gid: int
    pid: int
    arg: bytes
    names: tuple[bytes, ...]
    data: bytes

    @property
    def is_note(self) -> bool:
        """Whether it takes no answer."""
        return self.tag == 0

    @property
    def is_retried(self) -> bool:
        """Whether it was handed back before."""
        return bool(self.flags & lib.OVFS_MAIL_RETRIED)

    @property
    def is_bad(self) -> bool:
        """Whether a cache file was not what it should be."""
        return bool(self.flags & lib.OVFS_MAIL_BAD)

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more, though it is to be done."""
        return bool(self.flags & lib.OVFS_MAIL_GONE)


def nanoseconds(seconds: float) -> int:
    """Return a validity as C has it."""
    if seconds >= _FOREVER_NS / _NANOSECONDS:
        return _FOREVER_NS
    return max(0, round(seconds * _NANOSECONDS))


def _fill_attr(raw: Any, attr: Attr) -> None:
    raw.size = attr.size
    raw.atime_ns = attr.atime_ns
    raw.mtime_ns = attr.mtime_ns
    raw.ctime_ns = attr.ctime_ns
    raw.mode = attr.mode
    raw.nlink = attr.nlink
    raw.uid = attr.uid
    raw.gid = attr.gid
    raw.rdev = attr.rdev
    raw.flags = attr.flags


def _fill_entry(raw: Any, entry: Entry) -> None:
    raw.ino = entry.ino
    _fill_attr(raw.attr, entry.attr)
    raw.attr_valid_ns = nanoseconds(entry.attr_valid)
    raw.entry_valid_ns = nanoseconds(entry.entry_valid)


# An entry as it lies in C, for listings: many entries one field at a time take many times as long.
_ENTRY = struct.Struct("=QQqqqIIIIIIQQ")


def pack_entries(entries: Sequence[tuple[bytes, Entry]]) -> bytearray:
    """Return `struct ovfs_entry`s, one after the other."""
    packed = bytearray(len(entries) * _ENTRY.size)
    at = 0
    for _, entry in entries:
        attr = entry.attr
        _ENTRY.pack_into(
            packed,
            at,
            entry.ino,
            attr.size,
            attr.atime_ns,
            attr.mtime_ns,
            attr.ctime_ns,
            attr.mode,
            attr.nlink,
            attr.uid,
            attr.gid,
            attr.rdev,
            attr.flags,
            nanoseconds(entry.attr_valid),
            nanoseconds(entry.entry_valid),
        )
        at += _ENTRY.size
    return packed


def _raw_content(content: Content | None) -> Any:
    return ffi.NULL if content is None else content.handle


def _decode(raw: Any) -> Mail:
    names = tuple(
        bytes(ffi.buffer(raw.name[index], raw.name_len[index]))
        for index in range(2)
        if raw.name[index]
    )
    return Mail(
        tag=raw.tag,
        opcode=raw.opcode,
        flags=raw.flags,
        ino=raw.ino,
        ino2=raw.ino2,
        fh=raw.fh,
        open_flags=raw.open_flags,
        uid=raw.uid,
        gid=raw.gid,
        pid=raw.pid,
        arg=bytes(ffi.buffer(raw.arg, raw.arg_len)),
        names=names,
        data=bytes(ffi.buffer(raw.data, raw.data_len)) if raw.data_len else b"",
    )


class Mailbox:
    """The mailbox of a remote plane, and the tables that the data plane answers from.

    Args:
        plane: made with ``remote`` and a ``mail_fd``; nothing is called once it is closed.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane_object = plane
        self._batch = ffi.new("struct ovfs_mail[]", _BATCH)
        self._attr = ffi.new("struct ovfs_attr *")
        self._entry = ffi.new("struct ovfs_entry *")
        self.fd = plane.mail_fd
        if self.fd < 0:
            raise ValueError("this plane has no mailbox")

    @property
    def _plane(self) -> Any:
        plane = self._plane_object.handle
        if not plane:
            raise ValueError("the plane is closed")
        return plane

    def take(self) -> list[Mail]:
        """Return what has come, the oldest first; to be called when `fd` is readable."""
        mails: list[Mail] = []
        count = _BATCH
        while count == _BATCH:
            count = lib.ovfs_mail_take(self._plane, self._batch, _BATCH)
            mails.extend(_decode(self._batch[index]) for index in range(count))
        return mails

    # ---- completions: exactly one for each tag ----

    def result(self, tag: int, error: int) -> bool:
        """Answer with success (0) or a (positive) errno."""
        return bool(lib.ovfs_mail_result(self._plane, tag, -abs(error)) == 0)

    def data(self, tag: int, data: bytes) -> bool:
        """Answer with a payload; of an extended attribute always with the whole value."""
        return bool(lib.ovfs_mail_data(self._plane, tag, ffi.from_buffer(data), len(data)) == 0)

    def retry(self, tag: int) -> bool:
        """Have the data plane look at the request again."""
        return bool(lib.ovfs_mail_retry(self._plane, tag) == 0)

    def entry(self, tag: int, entry: Entry) -> bool:
        """Answer LOOKUP, MKDIR, MKNOD, SYMLINK."""
        _fill_entry(self._entry, entry)
        return bool(lib.ovfs_mail_entry(self._plane, tag, self._entry) == 0)

    def attr(self, tag: int, attr: Attr, valid: float) -> bool:
        """Answer GETATTR, SETATTR, STATX."""
        _fill_attr(self._attr, attr)
        return bool(lib.ovfs_mail_attr(self._plane, tag, self._attr, nanoseconds(valid)) == 0)

    def open(self, tag: int, content: Content | None) -> bool:
        """Answer OPEN with a content, OPENDIR with None."""
        return bool(lib.ovfs_mail_open(self._plane, tag, _raw_content(content)) == 0)

    def create(self, tag: int, entry: Entry, content: Content) -> bool:
        """Answer CREATE."""
        _fill_entry(self._entry, entry)
        return bool(lib.ovfs_mail_create(self._plane, tag, self._entry, content.handle) == 0)

    def written(self, tag: int, size: int) -> bool:
        """Answer a WRITE that was not handed back."""
        return bool(lib.ovfs_mail_written(self._plane, tag, size) == 0)

    # ---- what the data plane may answer by itself ----

    def set_attr(self, ino: int, attr: Attr, valid: float) -> bool:
        """Say a node's attributes, also where the guest does not know it: that is False."""
        _fill_attr(self._attr, attr)
        return bool(lib.ovfs_node_attr(self._plane, ino, self._attr, nanoseconds(valid)) == 0)

    def set_content(self, ino: int, content: Content | None) -> bool:
        """Attach a content to a node, or none; False: the guest does not know it."""
        return bool(lib.ovfs_node_content(self._plane, ino, _raw_content(content)) == 0)

    def set_name(self, parent: int, name: bytes, ino: int, valid: float) -> None:
        """Say what a name stands for (0: nothing); with a validity of 0 it is to be asked for."""
        # Where there is no memory it is not kept, and asked for.
        lib.ovfs_name_set(self._plane, parent, name, len(name), ino, nanoseconds(valid))

    def drop_names(self, parent: int) -> None:
        """Have all names of a directory asked for, and its listing."""
        lib.ovfs_names_drop(self._plane, parent)

    def set_listing(
        self, dir_ino: int, parent_ino: int, entries: Sequence[tuple[bytes, Entry]], valid: float
    ) -> bool:
        """Say all that a directory holds; False: the guest does not know it.

        Raises:
            OSError: a name cannot be one (EINVAL), or there is no memory.
        """
        raw = ffi.from_buffer("struct ovfs_entry[]", pack_entries(entries))
        lens = ffi.new("uint16_t[]", [min(len(name), 0xFFFF) for name, _ in entries])
        names = b"".join(name for name, _ in entries)
        result = lib.ovfs_listing_set(
            self._plane, dir_ino, parent_ino, len(entries), raw, names, lens, nanoseconds(valid)
        )
        if result < 0 and result != -errno.ENOENT:
            raise OSError(-result, f"{os.strerror(-result)} (listing directory {dir_ino})")
        return bool(result == 0)
