# SPDX-License-Identifier: Apache-2.0
"""The journal: what this host has promised to store, and has not stored yet.

One JSON file an entry, beside the write segments that it speaks of, and nothing else: no index that
could disagree. A file is replaced by rename, so that an entry is there as it was or as it is now,
whatever kills the daemon; ``sync`` makes it safe against a loss of power too.

An entry belongs to the daemon whose token its file id begins with. When that one is dead, a daemon
that serves the same thing takes it over: under a lock on the directory, held for one entry, it
links FILEID.owner to its own token. The link stays until the write segments go (writes.py), so that
they have an owner at any time. Entries of other services wait for a daemon of theirs.

Loop thread; each call is a few system calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from ovfs.remote.layout import FILE_ID, parse_write, token_of
from ovfs.remote.presence import alive
from ovfs.remote.writes import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovfs.remote.layout import Layout
    from ovfs.remote.presence import Presence

Kind = Literal["file", "dir", "meta"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class JournalEntry:
    """Something to store: a file's bytes, a directory's marker, or attributes alone."""

    file_id: str
    key: str
    size: int
    meta: dict[str, str]
    base_etag: str | None  # what the guest changed; another one there now means a lost race
    if_none: bool  # nothing may be there
    kind: Kind
    created_ns: int
    attempts: int = 0
    last_error: str | None = None
    base_size: int = 0  # how much of what is there still counts, below what was written
    mark: str = ""  # what the ids of its uploads begin with
    replaces: str = ""  # the file id of an older entry that this one takes the place of
    serial: int = 0  # larger than those of older entries: set by the journal
    identity: str = ""  # whose service: set by the journal
    owner: str = ""  # the token of the daemon that has it: set by the journal


_FIELDS = [field.name for field in fields(JournalEntry)]


class Journal:
    """The entries of one daemon, and those it takes over.

    Args:
        layout: The cache directory.
        identity: Names the service and what of it is served.
        presence: This daemon.
    """

    def __init__(self, layout: Layout, identity: str, presence: Presence) -> None:
        self._layout = layout
        self._identity = identity
        self._presence = presence
        self._serial = 0  # of the newest entry that was written or taken over

    def put(self, entry: JournalEntry) -> None:
        """Write an entry, new or changed; once this returns, a daemon that dies loses nothing.

        Raises:
            OSError: ENOSPC...; what was there before is there still.
        """
        if not FILE_ID.fullmatch(entry.file_id):
            raise ValueError(f"{entry.file_id!r} is no file id")
        entry.identity = self._identity
        entry.owner = self._presence.token
        self._serial += 1
        entry.serial = self._serial
        path = self._layout.write_at(entry.file_id, "json")
        temporary = self._layout.write_at(f".{entry.file_id}", "json")
        values = {name: getattr(entry, name) for name in _FIELDS}
        try:
            _write(temporary, json.dumps(values).encode())
            os.rename(temporary, path)  # noqa: PTH104  a Path costs as much as the call
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)  # noqa: PTH108
            raise

    def remove(self, file_id: str) -> None:
        """Remove an entry: what it speaks of is stored, or kept elsewhere."""
        self._layout.write(file_id, "json").unlink(missing_ok=True)

    def entries(self) -> list[JournalEntry]:
        """Take over the entries of dead daemons of this service; the oldest first.

        Each is returned to one daemon once. Call it at start, and now and then, for a daemon that
        dies beside this one.
        """
        taken: list[JournalEntry] = []
        dead: dict[str, bool] = {}
        for file_id in _file_ids(self._layout):
            token = owner_of(self._layout, file_id)
            if token not in dead:
                dead[token] = not self._presence.alive(token)
            if not dead[token]:
                continue
            entry = _read(self._layout, file_id)
            if entry and entry.identity == self._identity and self._take(file_id, token):
                entry.owner = self._presence.token
                self._serial = max(self._serial, entry.serial)
                taken.append(entry)
        return sorted(taken, key=lambda entry: entry.created_ns)

    def all_entries(self) -> list[JournalEntry]:
        """Return every entry in the cache directory, whoever's; the oldest first."""
        return all_entries(self._layout)

    async def sync(self, file_id: str | None = None) -> None:
        """Make a file's entry and bytes, or all of this daemon's, survive a loss of power.

        Raises:
            OSError: as the disk says; then nothing may be promised.
        """
        # At once, not one after the other: a file system writes its log for all of them together.
        paths = await asyncio.to_thread(self._paths, file_id)
        await asyncio.gather(*(asyncio.to_thread(_fsync, path) for path in paths))

    def _paths(self, file_id: str | None) -> list[str]:
        with os.scandir(self._layout.writes) as listed:
            paths = [
                entry.path
                for entry in listed
                if (parsed := parse_write(entry.name)) is not None
                and parsed[1] != "owner"
                and (parsed[0] == file_id if file_id else self._is_ours(parsed[0]))
            ]
        return [*paths, os.fspath(self._layout.writes)]

    def _is_ours(self, file_id: str) -> bool:
        return owner_of(self._layout, file_id) == self._presence.token

    def _take(self, file_id: str, from_token: str) -> bool:
        """Become an entry's owner, unless another daemon was quicker."""
        with _locked(self._layout):
            if owner_of(self._layout, file_id) != from_token:
                return False
            if not self._layout.write(file_id, "json").exists():
                return False
            path = self._layout.write(file_id, "owner")
            temporary = path.with_name(f".{path.name}")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self._presence.token)
            temporary.rename(path)
            return True


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, "the cache directory's disk is full")
    finally:
        os.close(fd)


def all_entries(layout: Layout) -> list[JournalEntry]:
    """Return every entry in a cache directory, with its owner; the oldest first."""
    found = [entry for file_id in _file_ids(layout) if (entry := _read(layout, file_id))]
    for entry in found:
        entry.owner = owner_of(layout, entry.file_id)
    return sorted(found, key=lambda entry: entry.created_ns)


def is_orphan(layout: Layout, entry: JournalEntry) -> bool:
    """Whether the daemon that has an entry is dead."""
    return not alive(layout, entry.owner or token_of(entry.file_id))


def _file_ids(layout: Layout) -> list[str]:
    names = os.listdir(layout.writes)  # noqa: PTH208  names are what is wanted
    parsed = [parse_write(name) for name in names]
    return sorted(name[0] for name in parsed if name and name[1] == "json")


def _read(layout: Layout, file_id: str) -> JournalEntry | None:
    """Read an entry; None if it is gone, or damaged: that is logged, and its data stays."""
    path = layout.write(file_id, "json")
    try:
        entry = _parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except ValueError:
        entry = None
    if entry is None or entry.file_id != file_id:
        log.error("journal: %s is damaged; the data beside it is kept, and not stored", path)
        return None
    return entry


def _parse(value: Any) -> JournalEntry | None:
    """Return the entry that a JSON value is, if each field is of its kind."""
    if not isinstance(value, Mapping) or set(value) != {one.name for one in fields(JournalEntry)}:
        return None
    kinds: dict[str, tuple[type, ...]] = {
        "size": (int,),
        "base_size": (int,),
        "created_ns": (int,),
        "attempts": (int,),
        "serial": (int,),
        "if_none": (bool,),
        "meta": (dict,),
        "base_etag": (str, type(None)),
        "last_error": (str, type(None)),
    }
    if not all(isinstance(item, kinds.get(name, (str,))) for name, item in value.items()):
        return None
    entry = JournalEntry(**value)
    texts = all(isinstance(text, str) for pair in entry.meta.items() for text in pair)
    return entry if texts and entry.size >= 0 and entry.kind in get_args(Kind) else None


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """Hold the lock under which entries change hands; others hold it for microseconds."""
    fd = os.open(layout.writes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _fsync(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # stored meanwhile
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
