# SPDX-License-Identifier: Apache-2.0
"""Opening, reading, writing, closing: what handles ask of the bytes, and how long those stay.

A file that nobody has open stays ready for a while (``_IDLE`` of them): its next opening is the
data plane's own affair. One that was written is first turned into what it would be had it been
read: its write segments become clean ones, under the version that it was stored as.

Whoever opens small files of one directory in order finds the following ones being fetched already.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import logging
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from ovfs.fuse import wire
from ovfs.remote.errors import FsError
from ovfs.remote.file import SMALL, File, held
from ovfs.remote.node import Directory, Node
from ovfs.remote.pending import RETRY_WAIT

if TYPE_CHECKING:
    from ovfs.fuse.wire import Fallocate
    from ovfs.remote.namespace import Namespace
    from ovfs.remote.pending import Pending
    from ovfs.remote.share import Share
    from ovfs.remote.upload import Uploads

log = logging.getLogger(__name__)

_IDLE = 1024  # files kept ready; each costs two descriptors for every 64 MiB of it that were used
_SIZE_MAX = 5 << 40  # S3's own limit of an object
_WHOLE_MAX = 128 << 20  # what is sent in one request is held in memory
_AHEAD = 32  # small files fetched ahead
_SETTLE_WAIT = 0.05  # seconds until the data plane has let go of a handle that was just released


class Files:
    """The open and the ready files of a share."""

    def __init__(
        self, share: Share, namespace: Namespace, uploads: Uploads, pending: Pending
    ) -> None:
        self._share = share
        self._namespace = namespace
        self._uploads = uploads
        self._pending = pending
        uploads.on_stored = self._confirmed
        self._ready: OrderedDict[int, File] = OrderedDict()
        self._runs: dict[int, int] = {}

    # ---- opening ----

    async def open(self, node: Node, flags: int) -> File:
        """Return the file of a node, counted as open for writing if the flags say so.

        Raises:
            FsError: the object is gone; what storing it met after its last close.
        """
        await self._namespace.refresh(node)
        if node.file is not None and not node.version and node.file.is_idle:
            node.file.lose()  # nothing tells one version from another here
        file = self.get(node)
        self._raise_error(file)
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writes:
            file.open_for_writing()  # first: what is cut off below is being changed by somebody
            if flags & os.O_TRUNC:
                try:
                    await self._truncate_for_open(file)
                except BaseException:
                    file.writers -= 1
                    raise
        else:
            file.fetch_whole()
            self._fetch_ahead(node)
        return file

    def create(self, node: Node) -> File:
        """Return the file of a new node, open for writing."""
        file = File(self._share, node, new=True)
        node.file = file
        file.content.truncate(0)  # a change: an empty file is stored as well
        file.open_for_writing()
        file.add_write_segments(0, 1)
        self._uploads.watch(file)
        self._keep(file)
        return file

    def get(self, node: Node) -> File:
        """Return the file of a node, made if need be, and keep it ready."""
        file = node.file
        if file is None:
            if node.removed:
                raise FsError(errno.ESTALE, f"{node.key} is gone")
            file = node.file = File(self._share, node, new=False)
        self._keep(file)
        return file

    async def _truncate_for_open(self, file: File) -> None:
        await self.resize(file, 0)
        file.node.touch(data=True)
        self._uploads.watch(file)
        self._namespace.publish(file.node)

    def _raise_error(self, file: File) -> None:
        error, file.error = file.error, None
        if error is not None:
            raise error

    def _fetch_ahead(self, node: Node) -> None:
        """Small files opened in the order of their names: begin with those that follow."""
        parent = node.parent
        if parent is None or not parent.order or node.size > SMALL:
            return
        at = bisect.bisect_left(parent.order, node.name)
        before = self._runs.get(parent.ino, -2)
        self._runs[parent.ino] = at
        if not before < at <= before + _AHEAD or self._share.tree.get(parent.ino) is None:
            return
        for name in parent.order[at + 1 : at + 1 + _AHEAD]:
            child = parent.children.get(name)
            if child is None or isinstance(child, Directory) or child.file is not None:
                continue
            if 0 < child.size <= SMALL and child.version:
                self._share.spawn(self._fetch_one(child), f"ahead: {child.key}")

    async def _fetch_one(self, node: Node) -> None:
        if not self._namespace.is_fresh(node) or node.file is not None or node.removed:
            return
        file = self.get(node)
        file.fetch_whole()

    # ---- handles ----

    async def read(self, node: Node, offset: int, size: int, *, bad: bool) -> None:
        """Bring what a read needs; it is then made again."""
        file = node.file
        if file is None:
            raise FsError(errno.ESTALE, f"{node.key} is not what it was when it was opened")
        if bad:
            file.distrust(offset, size)
        try:
            await file.read(offset, size)
        except FsError as error:
            if error.errno in {errno.ESTALE, errno.ENOENT}:
                node.seen = -1.0
                raise FsError(errno.ESTALE, f"{node.key} changed while it was open") from error
            raise

    async def write(self, node: Node, offset: int, size: int) -> None:
        """Make way for a write; it is then made again."""
        file = node.file
        if file is None:
            raise FsError(errno.ESTALE, f"{node.key} was changed by another writer")
        self._check_size(node, offset + size)
        if offset < file.content.state().sealed:
            async with file.commit:  # whoever reads the bytes for an upload is done now
                if self._uploads.is_streaming(file):
                    await self._uploads.abandon(file)
        file.content.set_writable(True)
        await file.make_way(offset, size)

    async def flush(self, node: Node) -> None:
        """Close or fsync: store what was written.

        Raises:
            FsError: it could not be stored; it is kept.
        """
        file = node.file
        if file is not None:
            self._raise_error(file)
        if self._uploads.is_stored(node):
            return
        if self._share.settings.background:
            news = file is not None and file.journalled != file.content.state().generation
            if news or not self._pending.has(node):
                if not self._share.cache.tells_holes:  # a restart could not tell what is new
                    async with held(node) as file:
                        if file is not None:
                            await file.make_whole()
                if file is not None:
                    self._uploads.take_times(file)
                self._pending.add(node, self._share.settings.delay)
                if file is not None and file.journalled >= 0:  # further ones need not ask
                    file.content.set_stored(file.journalled)
            return
        await self._uploads.store(node)
        if self._uploads.is_stored(node):  # else its attributes were changed meanwhile
            self._pending.cancel(node)

    async def sync(self, node: Node) -> None:
        """fsync: as flush, and in background mode durable on this host's disk."""
        await self.flush(node)
        file_id = self._pending.file_id(node)
        if self._share.settings.background and file_id is not None:
            await self._share.store.journal.sync(file_id)

    async def release(self, node: Node) -> None:
        """A handle that could write is closed."""
        file = node.file
        if file is None:
            return
        file.writers = max(0, file.writers - 1)
        if not self._uploads.is_stored(node):
            try:
                await self.flush(node)
            except FsError as error:
                if not node.removed and node.file is file:
                    log.error("%s could not be stored at its close: %s", node.key, error)  # noqa: TRY400
                    file.error = error
                    self._pending.add(node, RETRY_WAIT)
                    self._share.mailbox.set_content(node.ino, None)  # so the next open asks here
        if file.writers == 0:
            self._namespace.publish(node)  # from here on these count, not the content's
            file.content.set_writable(False)
            if not file.queued:  # else it is let go once it is stored
                self.let_go(node)

    async def allocate(self, node: Node, arg: Fallocate) -> None:
        """fallocate(2): space costs nothing here; what is punched or zeroed is written as zeros."""
        file = node.file
        if file is None:
            raise FsError(errno.ESTALE, f"{node.key} was changed by another writer")
        end, size = arg.offset + arg.length, file.size
        if arg.mode & ~wire.FALLOC_KEEP_SIZE == 0:
            if not arg.mode and end > size:
                await self.resize(file, end)
            return
        punches = arg.mode == wire.FALLOC_PUNCH_HOLE | wire.FALLOC_KEEP_SIZE
        if not punches and arg.mode & ~wire.FALLOC_KEEP_SIZE != wire.FALLOC_ZERO_RANGE:
            raise FsError(errno.EOPNOTSUPP, f"fallocate mode {arg.mode} is not served")
        if arg.mode & wire.FALLOC_KEEP_SIZE:
            end = min(end, size)
        for at in range(arg.offset, end, SMALL):
            length = min(SMALL, end - at)
            await self.write(node, at, length)
            async with file.commit:
                file.content.write(at, bytes(length))

    def _check_size(self, node: Node, size: int) -> None:
        can = self._share.service.can
        limit = min(can.total_max or _SIZE_MAX, _SIZE_MAX if can.multipart else _WHOLE_MAX)
        if size > limit:
            raise FsError(errno.EFBIG, f"{node.key} would be larger than {limit} bytes")

    async def resize(self, file: File, size: int) -> File:
        """Change the size, which is a change of the data; return the file that has it now."""
        self._check_size(file.node, size)
        async with file.commit:
            if not file.closed:
                if self._uploads.is_streaming(file):
                    await self._uploads.abandon(file)
                if size < file.size:
                    await self._pending.preserve(file)
                file.truncate(size)
                return file
        return await self.resize(self.get(file.node), size)  # its bytes were given up meanwhile

    def release_all(self) -> None:
        """The session ended: no handle is open any more; what was written is still stored."""
        for node in self._share.tree:
            file = node.file
            if file is not None and file.writers > 0:
                file.writers = 0
                if not self._uploads.is_stored(node):
                    self._pending.add(node, 0.0)
                self._share.spawn(self._settle_soon(file), f"settling {node.key}")

    # ---- afterwards ----

    def _keep(self, file: File) -> None:
        """Most recently used; the least recently used idle ones beyond the bound go."""
        self._ready[file.node.ino] = file
        self._ready.move_to_end(file.node.ino)
        excess = len(self._ready) - _IDLE
        if excess <= 0:
            return
        for ino, each in list(self._ready.items())[: excess + 64]:
            if each.closed:
                del self._ready[ino]
            elif each.is_idle and each.node.file is each:
                del self._ready[ino]
                if each.write_id is None:
                    self.put_away(each)
                else:
                    self._share.spawn(self.settle(each), f"settling {each.node.key}")
                excess -= 1
            if excess <= 0:
                return

    def put_away(self, file: File) -> bool:
        """Give up a file that nobody has open; False if somebody has."""
        node = file.node
        self._share.mailbox.set_content(node.ino, None)  # from here on nobody opens it unasked
        if not file.is_idle:
            if node.file is file:
                self._share.mailbox.set_content(node.ino, file.content)
            return False
        file.lose()
        if node.removed:
            self._share.tree.forget(node.ino)
        return True

    def _confirmed(self, file: File) -> None:
        """An upload is done, and its version known."""
        if file.node.file is file and not file.closed:
            self._keep(file)
            self.let_go(file.node)

    def let_go(self, node: Node) -> None:
        """Put a node's bytes where they belong soon, unless somebody writes to it."""
        file = node.file
        if file is not None and file.writers == 0:
            self._share.spawn(self._settle_soon(file), f"settling {node.key}")

    async def _settle_soon(self, file: File) -> None:
        await asyncio.sleep(_SETTLE_WAIT)
        await self.settle(file)

    async def settle(self, file: File) -> None:
        """Turn a stored file that nobody has open into a clean one."""
        node = file.node
        if file.closed or node.file is not file or file.write_id is None or not file.is_idle:
            return
        keep = (
            not node.removed and node.version and file.size <= self._share.settings.cache_size // 4
        )
        if keep:
            async with file.commit:
                await file.make_whole()
        write_id, size, version, crcs = file.write_id, file.size, node.version, file.crcs
        file.write_id = None  # from here on the segments are ours, not the file's
        if not self.put_away(file):
            file.write_id = write_id
            return
        if keep and size > 0:
            await self._share.cache.adopt(write_id, node.key, version, size, crcs or None)
        else:
            self._share.cache.drop_writes(write_id)
