# SPDX-License-Identifier: Apache-2.0
"""What is to be stored later: an ordered queue, journalled in the cache directory.

    --upload=background     every closed file, and every directory, symlink and attribute change
    durable (default)       attribute changes, which wait two seconds for company; and uploads that
                            failed after the last close, since their data is still owed

An entry is in the journal before the guest is answered and leaves it after the object is stored, so
whatever ends the daemon, the next one on the same cache directory and share finds it (``recover``).
A failure is tried again, later and later, for as long as the daemon runs; only a lost race ends an
entry otherwise, and then the bytes are in ``conflicts``.

What an entry speaks of is what was flushed. The guest's next writes go into the same segments, as
they would go into a local file, but it cannot cut anything off a version that is owed
(``preserve``), and a file that it is changing is not uploaded before it is flushed again, or half a
minute has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ovfs.remote import posix
from ovfs.remote.agenda import Agenda
from ovfs.remote.errors import FsError
from ovfs.remote.file import File
from ovfs.remote.journal import JournalEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ovfs.remote.node import Node
    from ovfs.remote.objects import ObjectInfo
    from ovfs.remote.share import Share
    from ovfs.remote.upload import Uploads

log = logging.getLogger(__name__)

ATTRIBUTES_WAIT = 2.0  # seconds
RETRY_WAIT = 1.0  # seconds after a close that met an error
_CHANGING_WAIT = 30.0  # seconds that a file which is being changed is left alone: as a disk's cache
_PARALLEL = 16
_LONGEST_PAUSE = 60.0
_NEVER = math.inf


@dataclass(slots=True)
class Item:
    """One node that is to be stored."""

    node: Node
    entry: JournalEntry
    due: float
    since: float  # when it came into the queue, or was stored last
    running: asyncio.Task[None] | None = None
    held: int = 0  # by whom it must not be started just now
    restored: bool = False  # by a daemon before this one: what became of it there is not known


class Pending:
    """The queue. Runs as one task, which starts up to sixteen uploads at a time."""

    def __init__(self, share: Share, uploads: Uploads) -> None:
        self._share = share
        self._uploads = uploads
        self._items: dict[int, Item] = {}
        self._agenda: Agenda[int] = Agenda()  # of those that are neither running nor held
        self._woken = asyncio.Event()
        self._wakes_at = _NEVER  # when the task looks at the agenda next
        self._empty = asyncio.Event()
        self._empty.set()
        self._running = 0
        self._hurried = False

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[Item]:
        """Return what waits, for whoever shows it."""
        return list(self._items.values())

    def add(self, node: Node, wait: float, *, data: bool = True) -> None:
        """Journal a node and store it after so many seconds; again moves nothing back.

        Args:
            node: What is newer here than on the service.
            wait: Seconds.
            data: Whether its bytes are owed, as they are now; else its attributes alone.
        """
        now = time.monotonic()
        due = now + (0.0 if self._hurried else wait)
        item = self._items.get(node.ino)
        if item is None:
            item = Item(node, self._new_entry(node, data=data), due, now)
            self._items[node.ino] = item
        elif not item.entry.attempts:
            item.due = min(item.due, due)
        if node.file is not None:
            node.file.queued = True
        node.dirty = True
        self._empty.clear()
        self._plan(item)
        self._journal(item, data=data)

    def _plan(self, item: Item) -> None:
        """Have an item started when it is due, unless that is to wait for something else."""
        if item.running is None and not item.held:
            self._agenda.set(item.node.ino, item.due)
            if item.due < self._wakes_at:
                self._woken.set()

    def restore(self, node: Node, entry: JournalEntry) -> None:
        """Take up what an earlier daemon owed; it is journalled already."""
        now = time.monotonic()
        item = self._items[node.ino] = Item(node, entry, now, now, restored=True)
        if node.file is not None:
            node.file.queued = True
        self._empty.clear()
        self._plan(item)

    async def recognise(self, seconds: float) -> None:
        """Learn what of the restored ones is stored already, before anybody looks at them."""
        limit = asyncio.Semaphore(_PARALLEL)

        async def one(item: Item) -> None:
            async with limit:
                with contextlib.suppress(FsError, OSError):  # it is tried again when it is stored
                    await self._recognise(item)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(one(item) for item in self.items() if item.restored))

    async def _recognise(self, item: Item) -> None:
        await self._uploads.recognise(item.node, item.entry)
        item.restored = False

    def moved(self, node: Node, target: Node | None = None) -> None:
        """The node has another key, perhaps that of a target: so has its entry."""
        item = self._items.get(node.ino)
        if item is None:
            return
        replaced = self._items.get(target.ino) if target is not None else None
        if replaced is not None:
            item.entry.replaces = replaced.entry.file_id
        self._journal(item, data=False)

    def announce(self, node: Node, key: str, info: ObjectInfo | None) -> None:
        """The node's object has a copy at another key, and the one that it has is about to go."""
        item = self._items.get(node.ino)
        if item is not None:
            item.entry = replace(item.entry, key=key)
            if info is not None:
                item.entry.base_etag = info.etag
            self._share.store.journal.put(item.entry)

    @contextlib.asynccontextmanager
    async def held(self, directories: Iterable[Node]) -> AsyncIterator[None]:
        """Of these no marker is being stored; files have a lock of their own for that."""
        items = [self._items[node.ino] for node in directories if node.ino in self._items]
        for item in items:
            item.held += 1
            self._agenda.drop(item.node.ino)
        try:
            tasks = {item.running for item in items if item.running is not None}
            if tasks:
                await asyncio.wait(tasks)
            yield
        finally:
            for item in items:
                item.held -= 1
                if self._items.get(item.node.ino) is item:
                    self._plan(item)

    def has(self, node: Node) -> bool:
        """Whether the node waits to be stored."""
        return node.ino in self._items

    def provide_file(self, node: Node) -> None:
        """Give a node that waits to be stored a file, whose ``commit`` can make it wait."""
        if node.file is None and node.ino in self._items and not node.is_dir:
            self._make_file(node)

    def _make_file(self, node: Node) -> None:
        node.file = File(self._share, node, new=False)
        node.file.queued = True

    def file_id(self, node: Node) -> str | None:
        """Under which name the journal has a node."""
        item = self._items.get(node.ino)
        return None if item is None else item.entry.file_id

    def cancel(self, node: Node) -> None:
        """Nothing is owed of this node any more: it is stored, or removed."""
        item = self._items.pop(node.ino, None)
        if item is None:
            return
        self._agenda.drop(node.ino)
        self._share.store.journal.remove(item.entry.file_id)
        if node.file is None or item.entry.file_id != node.file.write_id:
            self._share.cache.drop_writes(item.entry.file_id)
        if node.file is not None:
            node.file.queued = False
        if not self._items:
            self._empty.set()

    def hurry(self) -> None:
        """Store everything that is here now, failed ones too."""
        for item in self._items.values():
            item.due = 0.0
            self._plan(item)

    async def drain(self, seconds: float) -> bool:
        """Store everything, what comes later too; False if some is still owed after that time."""
        self._hurried = True
        self.hurry()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Start what is due, for ever."""
        while True:
            self._woken.clear()
            now = time.monotonic()
            while self._running < _PARALLEL and (ino := self._agenda.take(now)) is not None:
                self._start(self._items[ino])
            due = self._agenda.next_due()
            if self._running >= _PARALLEL or due is None:  # the end of one wakes us, or a new one
                self._wakes_at = _NEVER if due is None else 0.0
                await self._woken.wait()
                continue
            self._wakes_at = due
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - now)):
                    await self._woken.wait()

    # ---- one entry ----

    def _start(self, item: Item) -> None:
        self._running += 1
        item.running = self._share.spawn(self._store(item), f"upload of {item.node.key}")

    async def _store(self, item: Item) -> None:
        node = item.node
        try:
            await self._parent_first(node)
            if item.restored:
                await self._recognise(item)
            self._mark(item)
            await self._uploads.store(node, flushed=self._leaves_alone(item))
        except (FsError, OSError) as error:
            self._failed(item, error)
        else:
            if self._items.get(node.ino) is item:
                if self._uploads.is_stored(node):
                    self.cancel(node)
                else:  # written again meanwhile
                    changing = node.file is not None and node.file.is_changing
                    wait = ATTRIBUTES_WAIT if changing else RETRY_WAIT
                    item.due = time.monotonic() + wait
                    item.since = item.since if changing else time.monotonic()
        finally:
            item.running = None
            self._running -= 1
            if self._items.get(node.ino) is item:
                self._plan(item)
            self._woken.set()

    async def _parent_first(self, node: Node) -> None:
        """A directory's marker goes before what is in it, unless it has met an error.

        SeaweedFS loses one of 400 that come at the same time as an object below them.
        """
        parent = self._items.get(node.parent.ino) if node.parent is not None else None
        if parent is None or parent.held or parent.entry.attempts:
            return
        if parent.running is None:
            self._agenda.drop(parent.node.ino)
            self._start(parent)
        assert parent.running is not None  # noqa: S101  it was started
        await asyncio.wait([parent.running])

    def _leaves_alone(self, item: Item) -> bool:
        """Whether a file that is being changed is not to be stored as it is just now."""
        age = time.monotonic() - item.since
        return not self._share.settings.background or age < _CHANGING_WAIT

    def _mark(self, item: Item) -> None:
        """The journal knows by what our own upload will be known again."""
        node = item.node
        if node.is_dir:
            return
        if node.file is None:  # attributes alone
            self._make_file(node)
        assert node.file is not None  # noqa: S101  it was made
        if item.entry.mark != node.file.mark:
            item.entry.mark = node.file.mark
            self._share.store.journal.put(item.entry)

    def _failed(self, item: Item, error: FsError | OSError) -> None:
        node = item.node
        if error.errno == errno.ESTALE or node.removed:
            self.cancel(node)
            return
        item.entry.attempts += 1
        item.entry.last_error = str(error)
        pause = min(_LONGEST_PAUSE, 0.5 * 2.0 ** min(item.entry.attempts, 10))
        item.due = time.monotonic() + pause
        if self._items.get(node.ino) is item:
            self._share.store.journal.put(item.entry)
        log.warning("%s is not stored yet, next try in %.0f s: %s", node.key, pause, error)

    # ---- the journal ----

    def _new_entry(self, node: Node, *, data: bool) -> JournalEntry:
        file = node.file
        written = file.write_id if file is not None and data and file.has_new_data else None
        return JournalEntry(
            file_id=written or self._share.cache.new_file_id(),
            key=node.key,
            size=node.size,
            meta={},
            base_etag=node.etag,
            if_none=not node.stored,
            kind="dir" if node.is_dir else "meta",
            created_ns=time.time_ns(),
        )

    def _journal(self, item: Item, *, data: bool) -> None:
        """Write what is owed of a node; what was written of it before stands until then."""
        node, file, before = item.node, item.node.file, item.entry
        entry = replace(before, key=node.key, base_etag=node.etag, if_none=not node.stored)
        entry.meta = posix.to_meta(node.posix) if self._share.settings.posix else {}
        generation = None
        if file is not None:
            entry.mark = file.mark
            generation = self._take_data(entry, file) if data else None
        if entry.kind == "meta":
            entry.size = entry.base_size = node.size
        if entry.file_id != before.file_id:
            entry.replaces = before.file_id
        self._share.store.journal.put(entry)
        item.entry = entry
        if entry.kind == "file" and file is not None and generation is not None:
            file.journalled = generation
        if entry.file_id != before.file_id:
            self._share.store.journal.remove(before.file_id)
            self._share.cache.drop_writes(before.file_id)

    def _take_data(self, entry: JournalEntry, file: File) -> int:
        """Enter what was written of a file; return up to which generation that is."""
        state = file.content.state()  # before the entry is written: later writes are not in it
        if state.generation != file.stored_generation:
            file.add_write_segments(0, 1)  # an entry without any is one whose bytes have gone
            assert file.write_id is not None  # noqa: S101  it has segments
            entry.kind, entry.file_id = "file", file.write_id
            entry.size, entry.base_size = state.size, state.base_size
        return state.generation

    async def preserve(self, file: File) -> None:
        """Something is about to be cut off a file: what is owed of it goes aside, as it is."""
        item = self._items.get(file.node.ino)
        if item is None or item.entry.kind != "file" or item.entry.file_id != file.write_id:
            return
        file_id = self._share.cache.new_file_id()
        await self._share.cache.copy_writes(file.write_id, file_id, item.entry.size)
        before = item.entry
        item.entry = replace(before, file_id=file_id, replaces=before.file_id)
        self._share.store.journal.put(item.entry)
        self._share.store.journal.remove(before.file_id)
