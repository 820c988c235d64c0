# SPDX-License-Identifier: Apache-2.0
"""From write segments to an object: replaced whole, under a condition, and only then acknowledged.

    written at its end, large     parts go out while the guest still writes (``Stream``)
    large                         parts, read from the content once it is closed or synced
    otherwise                     one PUT

While bytes are read for an upload the content is sealed: a write to them waits in the mailbox, so
an object never holds half of a change. The condition is the version that was opened here, so a
writer elsewhere cannot be overwritten unseen; the loser's bytes are kept (``Conflict``). Each
upload carries an id in its metadata: by it our own object is recognised, after a request that was
sent twice, or when its version has to be learnt.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovfs.native.content import Source
from ovfs.remote import posix
from ovfs.remote.errors import ConflictError, FsError
from ovfs.remote.file import SEALED, UNSEALED, File
from ovfs.remote.namespace import DIRECTORY
from ovfs.remote.segment import checksums

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovfs.native.content import ContentState
    from ovfs.remote.journal import JournalEntry
    from ovfs.remote.namespace import Namespace
    from ovfs.remote.node import Directory, Node
    from ovfs.remote.objects import ObjectInfo
    from ovfs.remote.service import Upload
    from ovfs.remote.share import Share

log = logging.getLogger(__name__)

_TIMES = ("mtime", "atime", "ctime")
PART = 8 << 20
PUT_MAX = 8 << 20  # objects up to here go in one request
_TRIES = 3  # uploads of one state of a file, where earlier ones turn out to have been stored


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the object that is replaced."""

    if_match: str | None = None
    if_none: bool = False


class Stream:
    """The upload of a file that is being written at its end."""

    def __init__(self, upload: Upload, upload_id: str, meta: dict[str, str]) -> None:
        self.upload = upload
        self.upload_id = upload_id
        self.meta = meta
        self.sent = 0
        self.crcs: list[int] = []


class Uploads:
    """Stores files and directory markers."""

    def __init__(self, share: Share, namespace: Namespace) -> None:
        self._share = share
        self._namespace = namespace
        self.on_stored: Callable[[File], None] = lambda _: None
        self._streams: dict[File, Stream] = {}
        # Whether the etag of an object that came in one request is the MD5 of its bytes, as it is
        # with most S3 servers: then it need not be asked for. None: not known yet.
        self._etag_is_md5: bool | None = None

    # ---- storing ----

    def is_stored(self, node: Node) -> bool:
        """Whether the object is as new as what is here."""
        if node.removed or node.dirty or not node.stored:
            return node.removed
        return node.file is None or not node.file.has_new_data

    async def store(self, node: Node, *, flushed: bool = False) -> None:
        """Store what is newer here; returns when the object is stored.

        Args:
            node: Whose object.
            flushed: Only if the guest is not changing it just now; else nothing is done.

        Raises:
            FsError: it is not; the data is kept.
        """
        if node.is_dir:
            await self._store_marker(node)
            return
        file = node.file
        if file is None:  # attributes alone: no service changes them in place
            file = node.file = File(self._share, node, new=False)
        async with file.commit:
            if node.file is file:
                await self.store_held(node, flushed=flushed)
                return
        await self.store(node, flushed=flushed)  # its bytes were given up meanwhile

    async def store_held(self, node: Node, *, flushed: bool = False) -> None:
        """Do so for a file whose ``commit`` the caller holds."""
        file = node.file
        assert file is not None  # noqa: S101  it has a lock
        if self.is_stored(node):
            return
        if file.confirming is not None:
            await asyncio.shield(file.confirming)
        try:
            file.content.seal(SEALED)
            if flushed and file.is_changing:
                return
            for _ in range(_TRIES):
                if await self._store_file(file):
                    return
            raise FsError(errno.EIO, f"{node.key}: the service refuses to replace it")
        finally:
            if not file.closed:
                file.content.seal(UNSEALED)

    async def _store_file(self, file: File) -> bool:
        """Store it once; False: once more, as it was no other writer that was in the way."""
        node = file.node
        stream = self._streams.pop(file, None)
        file.content.seal(SEALED)
        state = file.content.state()
        self.take_times(file)
        meta = self._meta(node, file)
        upload_id = meta[posix.UPLOAD_ID]
        etag = ""
        try:
            if stream is not None and not self._suits(file, stream, meta):
                await stream.upload.abort()
                stream = None
            if stream is not None:
                meta, upload_id = stream.meta, stream.upload_id
                await self._finish(file, stream, state.size)
            elif state.size <= PUT_MAX or not self._share.service.can.multipart:
                etag = await self._put(file, state.size, meta)
            else:
                await self._finish(file, await self._open_stream(file, meta), state.size)
        except FsError as error:
            # ENOENT: what was to be replaced, or read for the rest of it, is not there any more.
            if error.errno not in {errno.ESTALE, errno.ENOENT}:
                raise
            found = await self._share.service.stat(node.key)
            found_id = "" if found is None else (found.meta or {}).get(posix.UPLOAD_ID, "")
            if found_id != upload_id:
                if _is_as_it_was(node, found):
                    log.info("%s, though nobody changed it", error)
                    return False
                if found is None or not file.uploaded(found_id):
                    await self._lost(file)
                    text = f"{node.key} was changed by another writer"
                    raise FsError(errno.ESTALE, text) from error
                log.info("%s: an upload that seemed to have failed is stored", node.key)
                node.stored, node.etag = True, found.etag
                return False
        self._stored(file, state, meta, etag)
        return True

    async def recognise(self, node: Node, entry: JournalEntry) -> None:
        """Learn what a daemon that died may have stored of what it owed, and not noted any more.

        Raises:
            FsError: ESTALE, it is another writer's now; or the service does not tell.
        """
        info = None if node.is_dir else await self._share.service.stat(node.key)
        if info is None:
            return
        upload_id = (info.meta or {}).get(posix.UPLOAD_ID, "")
        if entry.mark and upload_id.rpartition(".")[0] == entry.mark:
            node.stored, node.etag = True, info.etag
            if entry.kind == "meta" and node.size != info.size:
                node.size = info.size  # of its bytes nothing is owed
                if node.file is not None:
                    node.file.lose()
        elif node.stored and node.etag is None and node.size == info.size:
            node.etag = info.etag  # the daemon did not live to learn it
        elif node.stored and node.etag is None:
            if node.file is not None:
                async with node.file.commit:
                    await self._lost(node.file)
            raise FsError(errno.ESTALE, f"{node.key} was changed by another writer")

    def take_times(self, file: File) -> None:
        """The time of the last write becomes the node's."""
        written = file.content.state().mtime_ns
        if file.has_new_data and written > file.node.posix.mtime_ns:
            file.node.posix.mtime_ns = file.node.posix.ctime_ns = written

    def _meta(self, node: Node, file: File | None) -> dict[str, str]:
        meta = posix.to_meta(node.posix) if self._share.settings.posix else {}
        meta[posix.UPLOAD_ID] = posix.new_upload_id() if file is None else file.new_upload_id()
        return meta

    def _given(self, meta: dict[str, str]) -> dict[str, str] | None:
        return meta if self._share.service.can.user_metadata else None

    async def _condition(self, node: Node) -> Condition:
        """The condition of the commit; where there are no etags, a look just before."""
        if node.etag is not None:
            return Condition(if_match=node.etag)
        if not node.stored:
            return Condition(if_none=True)
        info = await self._share.service.stat(node.key)
        upload_id = None if node.file is None else node.file.upload_id
        same = True
        if node.version:
            same = info is not None and info.version == node.version
        elif upload_id is not None and self._share.service.can.user_metadata:
            # It was stored here, but which version that became could not be learnt.
            same = info is not None and (info.meta or {}).get(posix.UPLOAD_ID) == upload_id
        if not same:
            raise ConflictError(f"{node.key} was changed by another writer")
        return Condition(if_match=None if info is None else info.etag)

    async def _put(self, file: File, size: int, meta: dict[str, str]) -> str:
        """Store it in one request; returns the etag that it has if that is the MD5."""
        node = file.node
        condition = await self._condition(node)
        data = await file.load(0, size)
        file.crcs = list(checksums(data))
        file.content.seal(UNSEALED)  # the bytes are taken: writes may go on
        await self._share.service.put(
            node.key,
            data,
            meta=self._given(meta),
            if_match=condition.if_match,
            if_none=condition.if_none,
        )
        if self._etag_is_md5 is False:
            return ""
        return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'

    async def _finish(self, file: File, stream: Stream, size: int) -> None:
        """Send the rest and make the object; what fails leaves nothing behind."""
        try:
            await self._send(file, stream, size)
            await stream.upload.commit()
        except BaseException:
            await stream.upload.abort()
            raise
        file.crcs = stream.crcs

    async def _open_stream(self, file: File, meta: dict[str, str]) -> Stream:
        condition = await self._condition(file.node)
        upload = await self._share.service.writer(
            file.node.key,
            meta=self._given(meta),
            if_match=condition.if_match,
            if_none=condition.if_none,
        )
        return Stream(upload, meta[posix.UPLOAD_ID], meta)

    async def _send(self, file: File, stream: Stream, end: int) -> None:
        while stream.sent < end:
            size = min(PART, end - stream.sent)
            data = await file.load(stream.sent, size)
            stream.crcs += checksums(data)
            await stream.upload.write(data)
            stream.sent += size

    def _stored(self, file: File, state: ContentState, meta: dict[str, str], etag: str) -> None:
        node = file.node
        file.stored_generation = state.generation
        file.upload_id = meta[posix.UPLOAD_ID]
        file.content.set_stored(state.generation)
        file.error = None
        node.stored, node.size = True, state.size
        node.dirty = self._share.settings.posix and _differs(posix.to_meta(node.posix), meta)
        if node.parent is not None:
            node.parent.changed(node.name)  # a listing that began before does not have it
        node.stamp = ""  # the time that the service gave it is told by the next listing
        file.stored_as(etag if self._etag_is_md5 else "")
        if etag and self._etag_is_md5:
            node.etag = node.version = etag
            node.seen = time.monotonic()
            asyncio.get_running_loop().call_soon(self.on_stored, file)
            return
        node.etag, node.version = None, ""
        file.confirming = self._share.spawn(
            self._confirm(file, meta, etag), f"version of {node.key}"
        )

    async def _store_marker(self, node: Node) -> None:
        meta = self._meta(node, None)
        key = node.key
        if not key:
            node.dirty = False
            return
        # Where markers get no metadata, what they are said to have is kept on this host alone.
        marks = self._share.settings.posix and self._share.service.can.dir_metadata
        await self._share.service.make_dir(key, meta=meta if marks else None)
        if self._share.settings.posix:
            self._share.store.remember(key, DIRECTORY, meta)
        directory: Directory = node  # type: ignore[assignment]
        if node.parent is not None:
            node.parent.changed(node.name)
        directory.marker = directory.stored = directory.learnt = True
        directory.dirty = False
        directory.seen = time.monotonic()

    # ---- whose object it is ----

    async def _confirm(self, file: File, meta: dict[str, str], etag: str) -> None:
        """Learn which version our own upload became."""
        node = file.node
        try:
            key, began = node.key, time.monotonic()
            info = await self._share.service.stat(key)
            if node.key != key or node.removed:
                return
            mine = info is not None and (
                info.meta is None
                or not self._share.service.can.user_metadata
                or info.meta.get(posix.UPLOAD_ID) == meta[posix.UPLOAD_ID]
            )
            if info is None or not mine:
                if not file.commit.locked():  # else it is this guest that replaces or removes it
                    log.warning("%s was replaced by another writer just after it was stored", key)
                node.seen = -1.0
                return
            if etag and info.meta is not None:
                self._etag_is_md5 = info.etag == etag
            if "mtime" not in meta:
                node.posix.mtime_ns = info.mtime_ns or node.posix.mtime_ns
            node.etag, node.version = info.etag, info.version
            file.stored_as(info.version)
            node.stamp = f"{info.version}@{info.mtime_ns // posix.NS}"
            node.seen = began
            if self._share.settings.posix and info.meta:
                self._share.store.remember(key, node.stamp, info.meta)
        finally:
            file.confirming = None
            self.on_stored(file)
            self._namespace.publish(node)  # what was ours alone till now stands for a moment only

    async def _lost(self, file: File) -> None:
        """Another writer was first: keep these bytes apart, and let the guest see the other's."""
        node = file.node
        with contextlib.suppress(FsError):  # what was not fetched in time stays a hole
            await file.make_whole()
        if file.write_id is not None:
            path = await self._share.cache.keep_conflict(file.write_id, node.name, file.size)
            log.error(
                "%s was changed by another writer; what was written here is in %s", node.key, path
            )
        file.stored_generation = file.content.state().generation
        file.content.lose()
        node.dirty = False
        node.stored = True
        node.seen = -1.0
        file.lose()
        self._namespace.publish(node)

    # ---- while it is written ----

    async def wrote(self, file: File) -> None:
        """The content grew past what was asked to be told of: send what is complete."""
        if self._share.settings.background or file.commit.locked() or file.node.removed:
            return
        async with file.commit:
            stream = self._streams.get(file)
            if stream is None:
                if file.scattered or file.content.state().base_size > 0:
                    return
                meta = self._meta(file.node, file)
                for key in _TIMES:  # not known before it is whole: the service's own time stands
                    meta.pop(key, None)
                stream = await self._open_stream(file, meta)
                self._streams[file] = stream
            try:
                await self._send_complete(file, stream)
            except FsError as error:
                log.warning("%s: the upload while it is written ended: %s", file.node.key, error)
                await self.abandon(file)

    async def _send_complete(self, file: File, stream: Stream) -> None:
        while (size := file.content.state().size) - stream.sent >= PART:
            runs = file.content.extents(stream.sent, PART)
            if any(run.kind is not Source.WRITE for run in runs):
                await self.abandon(file)  # not written in order: whole, once it is closed
                return
            file.content.seal(stream.sent + PART)
            await self._send(file, stream, stream.sent + PART)
        file.content.notify_at(max(size, stream.sent + PART))

    def watch(self, file: File) -> None:
        """A new file is about to be written: be told when there is enough for a part."""
        if not self._share.settings.background and self._share.service.can.multipart:
            file.content.notify_at(PUT_MAX + 1)

    async def abandon(self, file: File) -> None:
        """The guest changes what was sent: start again once the file is closed."""
        file.scattered = True
        stream = self._streams.pop(file, None)
        file.content.seal(UNSEALED)
        if stream is not None:
            await stream.upload.abort()

    def is_streaming(self, file: File) -> bool:
        """Whether parts of the file have been sent while it is written."""
        return file in self._streams

    def _suits(self, file: File, stream: Stream, meta: dict[str, str]) -> bool:
        """Whether a stream's metadata, sent when it began, is still what is to be stored.

        Times that the guest has set would have to be in it; those of its writes need not.
        """
        return not _differs(meta, stream.meta) and file.time_set != file.node.posix.mtime_ns


def _differs(wanted: dict[str, str], stored: dict[str, str]) -> bool:
    """Whether metadata has to be stored anew; what was stored without times has them by itself."""
    ignored = {posix.UPLOAD_ID} if "mtime" in stored else {posix.UPLOAD_ID, *_TIMES}
    keys = (wanted.keys() | stored.keys()) - ignored
    return any(wanted.get(key) != stored.get(key) for key in keys)


def _is_as_it_was(node: Node, found: ObjectInfo | None) -> bool:
    """Whether the service has what was to be replaced: then no other writer was there."""
    if found is None:
        return not node.stored
    return node.stored and node.etag is not None and found.etag == node.etag
