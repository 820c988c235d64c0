# SPDX-License-Identifier: Apache-2.0
"""The sqlite database of the store: rows in, rows out, and what happens when it is broken.

A method never raises for what the disk or another program did to the file. A damaged one is moved
aside, under a lock and only if it is still the one that was opened: another daemon may have put a
new one there already. Anything else (disk full, no permission) is logged once, and the rows are as
good as unknown.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ovfs.remote.layout import Layout

_FORMAT = 1
_CHUNK = 500  # sqlite is built with a limit of 999 parameters at least
_SUFFIXES = ("-wal", "-shm", "")  # the file itself last: without it the others mean nothing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS memory (
    age INTEGER PRIMARY KEY,  -- in the order of being learnt
    id BLOB NOT NULL UNIQUE,  -- of service, key and version
    meta TEXT NOT NULL        -- JSON
)
"""
_INSERT = """
INSERT INTO memory (id, meta) VALUES (?, ?)
ON CONFLICT (id) DO UPDATE SET meta = excluded.meta WHERE meta <> excluded.meta
"""
_TRIM = "DELETE FROM memory WHERE age <= (SELECT max(age) FROM memory) - ?"

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_SHORT_READ = sqlite3.SQLITE_IOERR_SHORT_READ

log = logging.getLogger(__name__)


class Database:
    """One connection, for one thread at a time.

    Args:
        layout: The cache directory.
        limit: Rows to keep; the oldest go beyond.
        timeout: Seconds to wait for another connection's lock.
    """

    def __init__(self, layout: Layout, limit: int, timeout: float) -> None:
        self._layout = layout
        self._limit = limit
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)  # what the connection is to, to know it again
        self._silent = False  # a failure was logged
        with self._failures("open"):
            self._opened()

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def select(self, ids: Sequence[bytes]) -> dict[bytes, str]:
        """Return the rows there are."""
        found: dict[bytes, str] = {}
        if not ids:
            return found
        with self._failures("read"):
            connection = self._opened()
            for at in range(0, len(ids), _CHUNK):
                chunk = ids[at : at + _CHUNK]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT id, meta FROM memory WHERE id IN ({marks})"  # noqa: S608  marks
                found.update(connection.execute(query, chunk).fetchall())
        return found

    def insert(self, rows: Sequence[tuple[bytes, str]]) -> None:
        """Commit rows, new or changed, and drop the oldest beyond the limit."""
        with self._failures("write"):
            connection = self._opened()
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_INSERT, rows)
                connection.execute(_TRIM, (self._limit,))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Turn a failure into a log line, and a damaged file into one that is put aside."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if _is_damage(error):
                self.close()
                with contextlib.suppress(OSError), self._locked():
                    self._put_aside(error)
            elif not self._silent:
                self._silent = True
                log.warning("store: cannot %s %s: %s", what, self._layout.store, error)

    def _opened(self) -> sqlite3.Connection:
        """Return the connection, made if need be; to a new file where there is a damaged one."""
        if self._connection is None:
            with self._locked():
                try:
                    self._connection = self._connect()
                except sqlite3.Error as error:
                    if not _is_damage(error):
                        raise
                    self._put_aside(error)
                    self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        path = self._layout.store
        connection = sqlite3.connect(
            path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            self._file = _identity(path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
            connection.execute("SELECT age, id, meta FROM memory LIMIT 1").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self, error: BaseException) -> None:
        """Move the database away, under the lock; the next connection begins a new one."""
        path = self._layout.store
        if not path.exists() or _identity(path) != self._file:
            return  # another daemon did it
        aside = path.with_name(f"{path.name}.damaged")
        log.error("store: %s is damaged (%s); moved to %s and begun anew", path, error, aside.name)
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock under which the database is opened or put aside: for milliseconds."""
        fd = os.open(self._layout.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _is_damage(error: BaseException) -> bool:
    """Whether the file is at fault, and not its circumstances."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF in _DAMAGE or code == _SHORT_READ)


def _identity(path: Path) -> tuple[int, int]:
    """Tell a file apart. Never open it here: closing would drop sqlite's own locks on it."""
    status = path.stat()
    return status.st_dev, status.st_ino
