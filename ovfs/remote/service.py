# SPDX-License-Identifier: Apache-2.0
"""The storage service: keys and bytes over OpenDAL, with deadlines, and errors that have an errno.

No file-system semantics here: a key is what the service calls it, relative to the root, and a
directory's ends with "/". Every call ends: within a minute where the service is dead, and for the
reasons that ``operators.py`` gives a little later where it is only slow.

At most 64 calls are in flight, 40 of them carrying data, so that reads which are stuck do not keep
a ``stat`` from being asked; and what has been stuck for two seconds keeps nothing from anything.
What a service does not do is EOPNOTSUPP, before anything is sent.

Conditions (``if_match``, ``if_none``) are the service's own where the probe at start found that it
keeps them. Elsewhere a stat before the write stands in for them: then two writers that meet within
that time are not told apart.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
from typing import TYPE_CHECKING, TypeVar, cast

from ovfs.remote import location, probe
from ovfs.remote.capabilities import Capabilities
from ovfs.remote.cleaner import Cleaner
from ovfs.remote.errors import ConflictError, FsError, errno_of, is_short, translate
from ovfs.remote.keys import check_key
from ovfs.remote.leftovers import Leftovers
from ovfs.remote.objects import ObjectInfo, object_info
from ovfs.remote.slots import Slots
from ovfs.remote.upload_log import UploadLog
from ovfs.remote.upload_stream import PART, Upload, parallel, part_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from opendal.options import WriteKwargs
    from opendal.types import Entry

    from ovfs.config import RemoteBackend

__all__ = ["Capabilities", "ObjectInfo", "Service", "Upload"]

log = logging.getLogger(__name__)

T = TypeVar("T")

CONTROL_CALLS = 64
_DATA_CALLS = 40
# Those that have waited for so long no longer count, up to so many; each has its own connection.
_CONTROL_STUCK, _CONTROL_MOST = 1.0, 256
_DATA_STUCK, _DATA_MOST = 2.0, 160
DEADLINE = 60.0  # seconds for a whole call, retries included
_SLOWEST = 128 * 1024  # bytes a second: what carries more data gets the time for it on top
SHORT_TRIES = 3
# Services without directories: there a directory's key is an object of its own, a marker.
_FLAT = {"azblob", "b2", "cos", "gcs", "gcs-grpc", "memory", "obs", "oss", "s3", "swift", "tos"}
_WHOLE_MAX = 64 << 20  # bytes read to get at the last of them, where there are no ranges
_BATCH = 250  # names; a page of S3's has 1000


class Service:
    """One service, opened. For one event loop; ``open`` makes it."""

    def __init__(
        self, backend: RemoteBackend, found: probe.Found, uploads_dir: Path | None = None
    ) -> None:
        self.scheme = backend.scheme
        self.identity = location.identity(backend)
        self.can = found.can
        self.readonly = found.readonly
        self._ops = found.ops
        self._markers = found.markers if found.can.dir_metadata else None
        self._cleaner = Cleaner(
            UploadLog(uploads_dir, self.identity) if uploads_dir else None,
            None if found.readonly else Leftovers.of(backend, found.ops.control, found.calls),
        )
        self._calls = found.calls
        self._control = Slots(CONTROL_CALLS, _CONTROL_MOST, _CONTROL_STUCK)
        self._data = Slots(_DATA_CALLS, _DATA_MOST, _DATA_STUCK)

    @classmethod
    async def open(
        cls, backend: RemoteBackend, *, readonly: bool = False, uploads_dir: Path | None = None
    ) -> Service:
        """Reach the service and find out what it can do.

        Args:
            backend: which service, where, and with which credentials.
            readonly: nothing will be written, not even to try it out.
            uploads_dir: where multipart uploads under way are noted, so that what a daemon that
                is killed leaves of them on the service is taken away by the next.

        Raises:
            UsageError: not reachable, or not with these credentials, or not there.
        """
        service = cls(backend, await probe.start(backend, readonly), uploads_dir)
        service._cleaner.begin()
        return service

    async def close(self) -> None:
        """Let go of the service; nothing may be in flight. Takes a moment at most."""
        await self._cleaner.close()
        self._calls.close()

    # --- names

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return what is there, or None. ``key`` ending with "/" asks for a directory."""
        check_key(key)
        if not key:
            return ObjectInfo("", is_dir=True)
        if key.endswith("/") and self._markers is not None:
            markers = self._markers
            found = await self._call(f"stat {key}", lambda: markers.stat(key), self._control)
            if found is not None:
                return found
        try:
            metadata = await self._call(
                f"stat {key}", lambda: self._ops.control.stat(key), self._control
            )
        except FsError as error:
            # ENOTDIR: "a/b" where "a" is a file, as services with real directories say it
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return None
            raise
        told: dict[str, str] | None = metadata.user_metadata
        if told is None and self.can.user_metadata and not metadata.is_dir:
            told = {}
        return object_info(key, metadata, told)

    async def list(
        self,
        prefix: str,
        *,
        recursive: bool = False,
        start_after: str | None = None,
        limit: int | None = None,
        with_self: bool = False,
    ) -> AsyncIterator[ObjectInfo]:
        """Yield what lies directly below ``prefix`` ("" or ending with "/"), in no sure order.

        Args:
            prefix: the directory. One that does not exist is an empty one.
            recursive: everything below it, at all depths.
            start_after: only keys behind this one in the service's order.
            limit: yield no more than that.
            with_self: yield the directory's own marker, too, where it has one.
        """
        if not self.can.list:
            raise FsError(errno.EOPNOTSUPP, f"list {prefix}: the service cannot list")
        check_key(prefix)
        left = math.inf if limit is None else limit
        async for entry in self._entries(prefix, recursive, start_after, limit):
            path = entry.path
            if path in {prefix, "/"}:
                if not with_self or not prefix:
                    continue
            elif start_after is not None and not self.can.start_after and path <= start_after:
                continue
            if left <= 0:
                return
            left -= 1
            yield await self._listed(path, entry)

    async def _entries(
        self, prefix: str, recursive: bool, start_after: str | None, limit: int | None
    ) -> AsyncIterator[Entry]:
        doing = f"list {prefix}"
        after = start_after if self.can.start_after else None
        page = None if limit is None else min(limit + 1, 1000)
        size = _BATCH if limit is None else min(limit + 1, _BATCH)

        def start() -> Awaitable[AsyncIterator[Entry]]:
            # The stubs promise less than there is: what it returns is its own iterator.
            return cast(
                "Awaitable[AsyncIterator[Entry]]",
                self._ops.control.list(
                    prefix, limit=page, start_after=after, recursive=recursive or None
                ),
            )

        try:
            entries = await self._call(doing, start, self._control)
            more = True
            while more:
                batch, more = await self._call(doing, lambda: _next(entries, size), self._control)
                for entry in batch:
                    yield entry
        except FsError as error:
            # A directory that is not there has nothing in it; only the root's absence is news.
            if not prefix or error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                raise

    async def _listed(self, path: str, entry: Entry) -> ObjectInfo:
        info = object_info(path, entry.metadata, None)
        if info.is_dir or info.size or info.mtime_ns or info.etag is not None:
            return info
        # Some services list names alone, and then OpenDAL says that each is empty.
        return (await self.stat(path) or info) if self.scheme != "memory" else info

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Remove an object, or a directory's marker; nothing there is no error.

        A directory that is one, as over WebDAV, goes only when it is empty (ENOTEMPTY): such
        services would take all that is in it along, in the time between look and delete too.
        """
        self._require_write(self.can.delete, f"delete {key}")
        check_key(key)
        if key.endswith("/") and self.scheme not in _FLAT:
            await self._check_empty(key)
        if if_match is not None and not self.can.delete_if_match:
            await self._check_before(key, if_match, if_none=False)
            if_match = None
        await self._call(
            f"delete {key}", lambda: self._ops.control.delete(key, if_match=if_match), self._control
        )

    async def _check_empty(self, key: str) -> None:
        async for _ in self.list(key, limit=1):
            raise FsError(errno.ENOTEMPTY, f"delete {key}: something is in it")

    async def copy(self, source: str, target: str) -> None:
        """Copy an object within the service, its metadata with it; replaces the target."""
        self._require_write(self.can.copy, f"copy {source}")
        check_key(source)
        check_key(target)
        await self._call(
            f"copy {source} to {target}",
            lambda: self._ops.data.copy(source, target),
            self._control,
        )

    async def rename(self, source: str, target: str) -> None:
        """Move within the service, where it can (``can.rename``); replaces the target."""
        self._require_write(self.can.rename, f"rename {source}")
        check_key(source)
        check_key(target)
        await self._call(
            f"rename {source} to {target}",
            lambda: self._ops.data.rename(source, target),
            self._control,
        )

    async def make_dir(self, key: str, *, meta: dict[str, str] | None = None) -> None:
        """Make a directory's marker (``key`` ends with "/"); one that is there is no error.

        ``meta`` is its user metadata (``can.dir_metadata``), and replaces what a marker had.
        """
        self._require_write(self.can.create_dir, f"make directory {key}")
        check_key(key)
        if meta is not None:
            self._require_write(self.can.dir_metadata, f"make directory {key} with metadata")
            markers = self._markers
            assert markers is not None  # noqa: S101 (can.dir_metadata says so)
            await self._call(f"make directory {key}", lambda: markers.put(key, meta), self._control)
            return
        await self._call(
            f"make directory {key}", lambda: self._ops.control.create_dir(key), self._control
        )

    # --- bytes

    async def read(self, key: str, offset: int, size: int, *, etag: str | None = None) -> bytes:
        """Return exactly ``size`` bytes from ``offset``.

        Args:
            key: the object.
            offset: first byte.
            size: how many; the object must have them.
            etag: of the version to read. Services that know no conditional reads are not held to
                it, but a shorter object is noticed everywhere.

        Raises:
            ConflictError: the object is another by now, or shorter.
            FsError: it could not be read.
        """
        check_key(key)
        if size == 0:
            return b""
        doing = f"read {key}"
        if offset and not self.can.ranges:
            if offset + size > _WHOLE_MAX:
                raise FsError(errno.EFBIG, f"{doing}: the service reads from the start only")
            return (await self.read(key, 0, offset + size, etag=etag))[offset:]
        match = etag if self.can.read_if_match and _is_strong(etag) else None
        for _ in range(SHORT_TRIES):
            try:
                data = await self._call(
                    doing,
                    lambda: self._ops.data.read(key, offset=offset, size=size, if_match=match),
                    self._data,
                    size,
                )
            except _ShortError:
                data = b""
            if len(data) == size:
                return data
            info = await self.stat(key)
            if info is None:
                raise FsError(errno.ENOENT, f"{doing}: the object is gone")
            if info.size < offset + size or etag not in {None, info.etag}:
                raise ConflictError(f"{doing}: the object is another by now")
        raise FsError(errno.EIO, f"{doing}: the answer was cut short {SHORT_TRIES} times")

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        meta: dict[str, str] | None = None,
        if_match: str | None = None,
        if_none: bool = False,
        content_type: str | None = None,
    ) -> None:
        """Write a whole object at once.

        Args:
            key: the object; replaced whole, never seen half.
            data: all of its bytes.
            meta: user metadata; EOPNOTSUPP where the service keeps none.
            if_match: only over the version with this etag.
            if_none: only where there is no object yet.
            content_type: what the service shall call it.

        Raises:
            ConflictError: the condition does not hold.
            FsError: it is not stored; or, where the answer got lost, perhaps it is.
        """
        options = await self._write_options(key, meta, if_match, if_none)
        self._require_write(bool(data) or self.can.write_empty, f"write {key}, which is empty,")
        if content_type is not None:
            options["content_type"] = content_type
        if len(data) > 2 * PART and self.can.multipart:
            size = part_size(len(data), self.can.part_min, self.can.part_max)
            options["chunk"], options["concurrent"] = size, parallel(size)
        await self._call(
            f"write {key}",
            lambda: self._ops.data.write(key, data, **options),
            self._data,
            len(data),
        )

    async def writer(
        self,
        key: str,
        *,
        meta: dict[str, str] | None = None,
        if_match: str | None = None,
        if_none: bool = False,
        expected: int = 0,
    ) -> Upload:
        """Start an object that comes in pieces (``can.multipart``).

        ``expected`` is about how large it will be, 0 if that is not known (then up to 80 GB go);
        the rest is as for ``put``. Conditions are looked at when it is committed.
        """
        self._require_write(self.can.multipart, f"upload {key}")
        options = await self._write_options(key, meta, if_match, if_none)
        size = part_size(expected, self.can.part_min, self.can.part_max)
        options["chunk"], options["concurrent"] = size, parallel(size)
        file = await self._call(
            f"upload {key}", lambda: self._ops.upload.open(key, "wb", **options), self._control
        )
        return Upload(key, file, size, self._cleaner.watch(key))

    async def _write_options(
        self, key: str, meta: dict[str, str] | None, if_match: str | None, if_none: bool
    ) -> WriteKwargs:
        self._require_write(self.can.write, f"write {key}")
        check_key(key)
        options: WriteKwargs = {}
        if meta is not None:
            self._require(self.can.user_metadata, f"write {key} with metadata")
            options["user_metadata"] = meta
        if if_match is not None and self.can.if_match and _is_strong(if_match):
            options["if_match"] = if_match
        elif if_none and self.can.if_not_exists:
            options["if_not_exists"] = True
        else:
            await self._check_before(key, if_match, if_none)
        return options

    async def _check_before(self, key: str, if_match: str | None, if_none: bool) -> None:
        """Stand in for a condition that the service does not know."""
        if if_match is None and not if_none:
            return
        info = await self.stat(key)
        if if_none and info is not None:
            raise ConflictError(f"write {key}: it exists already")
        if if_match is not None and (info is None or info.etag != if_match):
            raise ConflictError(f"write {key}: it was changed by somebody else")

    def _require(self, able: bool, doing: str) -> None:
        if not able:
            raise FsError(errno.EOPNOTSUPP, f"{doing}: {self.scheme}:// cannot do that")

    def _require_write(self, able: bool, doing: str) -> None:
        if self.readonly:
            raise FsError(errno.EROFS, f"{doing}: {self.scheme}:// is read-only")
        self._require(able, doing)

    async def _call(
        self,
        doing: str,
        call: Callable[[], Awaitable[T]],
        slots: Slots,
        size: int = 0,
    ) -> T:
        """Wait for a call within its deadline; every exception comes out as an ``FsError``."""
        try:
            async with asyncio.timeout(DEADLINE + size / _SLOWEST), slots.take():
                return await call()
        except Exception as exc:  # noqa: BLE001 (anything that can go wrong with a remote call)
            if is_short(exc):
                raise _ShortError(errno_of(exc), f"{doing}: the answer was cut short") from None
            # Not "from exc": OpenDAL's text holds addresses, and those may hold signatures.
            raise translate(exc, doing) from None


async def _next(entries: AsyncIterator[Entry], size: int) -> tuple[list[Entry], bool]:
    """Return some entries and whether there may be more: waiting for each alone costs 15 us."""
    batch: list[Entry] = []
    async for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            return batch, True
    return batch, False


class _ShortError(FsError):
    """A read that got less than it asked for."""


def _is_strong(etag: str | None) -> bool:
    """Return whether a condition on an etag can hold: weak ones never match (RFC 9110)."""
    return etag is not None and not etag.startswith("W/")
