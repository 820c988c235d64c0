# SPDX-License-Identifier: Apache-2.0
"""What the parts of the remote file system share: one object instead of globals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ovfs.native import heap
from ovfs.remote.errors import FsError
from ovfs.remote.slots import Slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from ovfs.native.mailbox import Mailbox
    from ovfs.remote.cache import Cache
    from ovfs.remote.file import File
    from ovfs.remote.node import Tree
    from ovfs.remote.posix import Defaults
    from ovfs.remote.service import Service
    from ovfs.remote.slots import Lane
    from ovfs.remote.store import Store

log = logging.getLogger(__name__)

# Bytes are held three times while they pass (OpenDAL's, Python's, the page cache's): so many large
# requests at once fill a link of a gigabyte a second at ten milliseconds, and bound the memory.
_LARGE = 1 << 20
_LARGE_TRANSFERS = 8
_WRITING = 4
_STUCK = 5.0  # seconds until a large transfer no longer counts
_STUCK_TRANSFERS = 8
_IDLE = 2.0  # seconds without a large transfer, until the memory of the last ones is given back
PLACE_DEADLINE = 60.0  # seconds that a transfer waits for its turn


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says of a share.

    Attributes:
        defaults: attributes of objects that carry none.
        posix: attributes are kept as user metadata (``--posix-metadata``, and the service can).
        validity: seconds that what the service told stands (``--attr-timeout``).
        background: close answers before the object is stored (``--upload=background``).
        delay: seconds from then until it is begun to be stored (``--upload-delay``).
        readonly: nothing is changed.
        cache_size: bytes of clean data kept on disk.
    """

    defaults: Defaults
    posix: bool
    validity: float
    background: bool
    delay: float
    readonly: bool
    cache_size: int


@dataclass(slots=True)
class Share:
    """One share: its service, its disk, its tables. Everything runs on one event loop."""

    service: Service
    cache: Cache
    store: Store
    mailbox: Mailbox
    tree: Tree
    settings: Settings
    # Who uses a clean segment, by its hash and number, to be told when it is evicted.
    holders: dict[tuple[str, int], set[File]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _large: Slots = field(
        default_factory=lambda: Slots(_LARGE_TRANSFERS, _LARGE_TRANSFERS + _STUCK_TRANSFERS, _STUCK)
    )

    # What has arrived and is being written to the cache. A transfer keeps its place until there is
    # one here, so that memory stays bounded where the disk is slower than the network.
    writing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WRITING))

    _trim: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def transfers(self, size: int, lane: Lane) -> AsyncIterator[None]:
        """Hold a place for a transfer; small ones never wait behind large ones.

        Raises:
            FsError: EIO, those before it do not come to an end.
        """
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(PLACE_DEADLINE):
                    if size > _LARGE:
                        await held.enter_async_context(lane.large)
                        await held.enter_async_context(self._large.take())
                    else:
                        await held.enter_async_context(lane.small)
            except TimeoutError:
                raise FsError(errno.EIO, "earlier requests to the service do not end") from None
            yield
        if size > _LARGE:
            self._trim_later()

    def _trim_later(self) -> None:
        """Keep the memory of buffers for the next ones, and give it back when none comes."""
        if self._trim is not None:
            self._trim.cancel()
        self._trim = asyncio.get_running_loop().call_later(
            _IDLE, lambda: self.spawn(asyncio.to_thread(heap.trim), "trimming the heap")
        )

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start work that nobody waits for; what goes wrong in it is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, FsError):
            log.debug("%s: %s", task.get_name(), error)
        elif error is not None:
            log.error("internal error in %s", task.get_name(), exc_info=error)

    async def cancel_all(self) -> None:
        """End what is still under way."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
