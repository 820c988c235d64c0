# SPDX-License-Identifier: Apache-2.0
"""One share's event loop: a thread that drains the mailbox and runs everything in this package.

    control thread     start, finish, close
    remote thread      the loop: one task for each mail, the queue of pending uploads, the control
                       socket; the only one that touches the tree and completes mails

The thread is started before a VMM is served and ends after the queues have stopped, so nobody waits
for an answer any more when it goes; the plane is freed after that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ovfs.config import Upload
from ovfs.native import heap
from ovfs.native.mailbox import Note
from ovfs.remote.cache import Cache
from ovfs.remote.control import ControlServer, QueueItem
from ovfs.remote.files import Files
from ovfs.remote.handlers import Handlers
from ovfs.remote.layout import Layout
from ovfs.remote.namespace import Namespace
from ovfs.remote.node import Tree
from ovfs.remote.pending import Pending
from ovfs.remote.posix import Defaults, Posix
from ovfs.remote.recover import recover
from ovfs.remote.service import Service
from ovfs.remote.share import Settings, Share
from ovfs.remote.store import Store
from ovfs.remote.upload import Uploads
from ovfs.uring import AsyncRing

if TYPE_CHECKING:
    from ovfs.config import Config, RemoteBackend
    from ovfs.native.mailbox import Mailbox

log = logging.getLogger(__name__)

_RING_ENTRIES = 256
_HEAP_KEPT = 64 << 20  # bytes: as much as is on its way at a time
_RECOGNISE_TIME = 10.0  # seconds that the start may take because of what an earlier daemon owed
_LATE = 5.0  # seconds beyond its own deadline that the thread is waited for


class Device:
    """The remote file system of one share. All methods are for the control thread."""

    def __init__(self, config: Config, backend: RemoteBackend) -> None:
        self._config = config
        self._backend = backend
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready: Future[None] = Future()
        self._core: _Core | None = None

    def start(self, mailbox: Mailbox) -> None:
        """Reach the service and begin to serve.

        Raises:
            UsageError: that cannot be done; one line says why.
        """
        self._thread = threading.Thread(target=self._run, args=(mailbox,), name="ovfs-remote")
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self._thread.join()
            raise

    def finish(self, timeout: float) -> bool:
        """Store what can be stored in so many seconds; False if something is still owed.

        What is owed stays in the journal, and the next daemon on this cache directory goes on.
        """
        if self._loop is None or self._core is None:
            return True
        future = asyncio.run_coroutine_threadsafe(self._core.finish(timeout), self._loop)
        return future.result(timeout + _LATE)

    def close(self) -> None:
        """End the thread; no mail is completed after that."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()

    def _run(self, mailbox: Mailbox) -> None:
        heap.keep(_HEAP_KEPT)  # before OpenDAL's threads begin
        try:
            asyncio.run(self._serve(mailbox))
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                log.critical("the remote thread ended", exc_info=error)

    async def _serve(self, mailbox: Mailbox) -> None:
        config = self._config
        layout = Layout(config.cache_dir)
        layout.make()
        service = await Service.open(
            self._backend,
            readonly=config.readonly,
            uploads_dir=None if config.readonly else layout.uploads,
        )
        async with AsyncRing(_RING_ENTRIES) as ring:
            cache = Cache(config.cache_dir, config.cache_size, service.identity, ring)
            try:
                store = Store(config.cache_dir, service.identity, cache.presence)
                try:
                    self._core = _Core(_make_share(config, service, cache, store, mailbox))
                    await self._serve_core(self._core)
                finally:
                    store.close()
            finally:
                cache.close()
                await service.close()

    async def _serve_core(self, core: _Core) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await core.start()
        self._ready.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await core.close()


def _make_share(
    config: Config, service: Service, cache: Cache, store: Store, mailbox: Mailbox
) -> Share:
    posix = config.posix_metadata and service.can.user_metadata
    if config.posix_metadata and not posix:
        log.warning(
            "%s:// keeps no user metadata: no modes, owners, times or symbolic links",
            service.scheme,
        )
    if service.readonly and not config.readonly:
        log.warning("%s:// does not let us write: the share is read-only", service.scheme)
    defaults = Defaults(
        config.default_uid, config.default_gid, config.default_file_mode, config.default_dir_mode
    )
    now = time.time_ns()
    root = Posix(0o040000 | defaults.dir_mode, defaults.uid, defaults.gid, now, now, now, {})
    settings = Settings(
        defaults=defaults,
        posix=posix,
        validity=config.attr_timeout,
        background=config.upload is Upload.BACKGROUND,
        delay=config.upload_delay,
        readonly=config.readonly or service.readonly,
        cache_size=config.cache_size,
    )
    return Share(service, cache, store, mailbox, Tree(root), settings)


class _Core:
    """The parts of the file system, on the remote thread."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.namespace = Namespace(share)
        self.uploads = Uploads(share, self.namespace)
        self.pending = Pending(share, self.uploads)
        self.files = Files(share, self.namespace, self.uploads, self.pending)
        self.handlers = Handlers(share, self.namespace, self.files, self.uploads, self.pending)
        layout, token = share.cache.layout, share.cache.presence.token
        self._control = ControlServer(layout, token, self)

    async def start(self) -> None:
        """Take up what an earlier daemon owed, then listen to the data plane."""
        share = self.share
        share.cache.on_evict.append(self._evicted)
        if recover(share, self.pending):
            await self.pending.recognise(_RECOGNISE_TIME)
        share.spawn(self.pending.run(), "the queue of uploads")
        root = share.tree.root
        share.mailbox.set_attr(root.ino, root.attr(), 0.0)
        asyncio.get_running_loop().add_reader(share.mailbox.fd, self._drain)
        await self._control.start()

    def queue(self) -> list[QueueItem]:
        """Return what waits to be stored, for ``ovfs status``."""
        entries = [item.entry for item in self.pending.items()]
        return [
            QueueItem(
                entry.file_id,
                entry.key,
                entry.size,
                entry.created_ns,
                entry.attempts,
                entry.last_error,
            )
            for entry in entries
        ]

    def hurry(self) -> None:
        """Store what waits now, and what daemons that died meanwhile owed: for ``ovfs drain``."""
        recover(self.share, self.pending)
        self.pending.hurry()

    def _drain(self) -> None:
        share = self.share
        for mail in share.mailbox.take():
            if mail.tag:
                share.spawn(self.handlers.serve(mail), "a request")
            else:
                self._note(mail.opcode, mail.ino)

    def _note(self, note: int, ino: int) -> None:
        if note == Note.FORGET:
            self.share.tree.forget(ino)
        elif note == Note.RESET:
            self.files.release_all()
        elif note == Note.WROTE:
            node = self.share.tree.get(ino)
            if node is not None and node.file is not None:
                self.share.spawn(self.uploads.wrote(node.file), f"parts of {node.key}")

        elif note == Note.READ:
            node = self.share.tree.get(ino)
            if node is not None and node.file is not None:
                node.file.read_on()

    def _evicted(self, segment: str, index: int) -> None:
        for file in list(self.share.holders.get((segment, index), ())):
            file.evicted(index)

    async def finish(self, seconds: float) -> bool:
        """Store what is owed; False where that takes longer."""
        for node in self.share.tree:
            file = node.file
            if file is not None and not node.removed and not self.uploads.is_stored(node):
                file.writers = 0
                self.pending.add(node, 0.0)
        return await self.pending.drain(seconds)

    async def close(self) -> None:
        """End everything."""
        asyncio.get_running_loop().remove_reader(self.share.mailbox.fd)
        await self._control.close()
        await self.share.cancel_all()
        for node in self.share.tree:
            if node.file is not None:
                node.file.close()
