# SPDX-License-Identifier: Apache-2.0
"""What was learnt of objects and is not in a listing: the user metadata of each version.

It costs a call to the service to learn and never changes for a version, so it is kept in the cache
directory, for all daemons, in sqlite. It is a memory, not a truth: what is lost is asked for again,
a damaged database is put aside and begun anew, and one that cannot be written is done without.

Reads happen at once, on the loop thread: in WAL mode nothing holds them up. Writes wait in memory
for a thread that commits them many at a time, since a commit may have to wait for another daemon's
or for the disk; until then they are found there.

The journal of uploads is no part of the database (journal.py), but reached from here.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Self

from ovfs.remote.database import Database
from ovfs.remote.journal import Journal
from ovfs.remote.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ovfs.remote.presence import Presence

LIMIT = 1_000_000  # versions; about 200 MB
_BATCH = 5000  # rows a commit, so that other daemons get their turn
_MAX_PENDING = 100_000  # rows in memory while the disk does not keep up; beyond, new ones are lost
_DELAY = 0.05  # seconds that rows wait for others to be committed with
_READ_TIMEOUT = 0.02  # seconds to wait for a lock: only while another daemon opens the database
_WRITE_TIMEOUT = 10.0

Meta = dict[str, str]


class Store:
    """The memory of one service's objects. Loop thread; ``close`` ends it.

    Args:
        directory: The cache directory, as ``Cache`` has it.
        identity: Names the service and what of it is served.
        presence: This daemon: ``cache.presence``.
        limit: Versions to remember; the oldest go beyond.
    """

    def __init__(
        self, directory: Path, identity: str, presence: Presence, *, limit: int = LIMIT
    ) -> None:
        layout = Layout(directory)
        self.journal = Journal(layout, identity, presence)
        self._identity = identity
        self._lock = threading.Lock()  # guards _pending
        self._pending: dict[bytes, str] = {}
        self._committed = threading.Condition(self._lock)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._reader = Database(layout, limit, _READ_TIMEOUT)
        self._writer = Database(layout, limit, _WRITE_TIMEOUT)
        self._thread = threading.Thread(target=self._write, name="ovfs-store", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what waits, and end."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._reader.close()

    def remember(self, key: str, version: str, meta: Meta) -> None:
        """Keep what was learnt of a version."""
        with self._lock:
            if len(self._pending) < _MAX_PENDING:
                self._pending[self._id(key, version)] = json.dumps(meta)
        self._wake.set()

    def recall(self, key: str, version: str) -> Meta | None:
        """Return what is known of a version."""
        return self.recall_many([(key, version)])[0]

    def recall_many(self, objects: Sequence[tuple[str, str]]) -> list[Meta | None]:
        """Return what is known of each (key, version), in order; a few microseconds each."""
        ids = [self._id(key, version) for key, version in objects]
        with self._lock:
            found = {one: self._pending[one] for one in ids if one in self._pending}
        found.update(self._reader.select([one for one in ids if one not in found]))
        return [_decode(found[one]) if one in found else None for one in ids]

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that is remembered is committed; False when the time is over."""
        self._wake.set()
        with self._committed:
            return self._committed.wait_for(lambda: not self._pending, timeout)

    def _id(self, key: str, version: str) -> bytes:
        text = f"{self._identity}\0{key}\0{version}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()

    def _write(self) -> None:
        """The writer's thread."""
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(_DELAY)
            self._wake.clear()
            self._commit()
        self._commit()
        self._writer.close()

    def _commit(self) -> None:
        while True:
            with self._lock:
                batch = list(self._pending.items())[:_BATCH]
            if not batch:
                return
            self._writer.insert(batch)  # or not: then it is forgotten
            with self._committed:
                for one, meta in batch:
                    if self._pending.get(one) is meta:
                        del self._pending[one]
                self._committed.notify_all()


def _decode(text: str) -> Meta | None:
    """Return what a row says; None if it is not ours."""
    try:
        meta = json.loads(text)
    except ValueError:
        return None
    return meta if isinstance(meta, dict) else None
