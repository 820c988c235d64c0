# SPDX-License-Identifier: Apache-2.0
"""User metadata, which no listing tells: one stat for each version of an object, and ahead of time.

Whoever looks up the names of a directory in their order is about to look up the others: those are
learnt in batches, each four times as long as the one before, of which the next begins when half of
the last was asked for. With each batch that has come in the data plane gets the listing anew, with
all that was learnt, so that most lookups never come here.

Batches take fewer calls at a time than the service gives for such calls, so that others get
through; a name that is asked for waits for no batch.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ovfs.remote.errors import FsError
from ovfs.remote.service import CONTROL_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ovfs.remote.node import Directory, Node
    from ovfs.remote.share import Share

FIRST = 64  # names of the first batch
LARGEST = 4096
_FACTOR = 4
_CALLS = CONTROL_CALLS * 3 // 4


@dataclass(slots=True)
class _Batch:
    """Names of a directory that are learnt together, and how many of them still are."""

    directory: Directory
    left: int


class Learning:
    """The metadata that is being learnt.

    Args:
        share: Whose.
        learn: Learns the metadata of one node.
        publish: Gives the data plane a listing.
    """

    def __init__(
        self,
        share: Share,
        learn: Callable[[Node], Coroutine[Any, Any, None]],
        publish: Callable[[Directory], None],
    ) -> None:
        self._share = share
        self._learn = learn
        self._publish = publish
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._queue: deque[tuple[_Batch, Node]] = deque()
        self._workers = 0

    async def learn(self, node: Node) -> None:
        """Read the user metadata of a node; one call for all who ask."""
        if not node.learnt:
            await asyncio.shield(self._start(node))

    def ahead(self, directory: Directory, name: str) -> None:
        """A name was looked up whose metadata is not known: learn that of those behind it."""
        if directory.lookups < 2:
            return
        order = directory.order
        at = bisect.bisect_left(order, name) + 1
        if not directory.ahead - directory.batch <= at <= directory.ahead + FIRST:
            directory.ahead, directory.batch = at, 0  # not in order
        if at + directory.batch // 2 < directory.ahead:
            return
        directory.batch = min(directory.batch * _FACTOR, LARGEST) or FIRST
        first = max(at, directory.ahead)
        directory.ahead = min(len(order), first + directory.batch)
        children = [directory.children.get(each) for each in order[first : directory.ahead]]
        wanted = [child for child in children if child is not None and not child.learnt]
        if wanted:
            self._add(_Batch(directory, len(wanted)), wanted)

    def _add(self, batch: _Batch, nodes: list[Node]) -> None:
        self._queue.extend((batch, node) for node in nodes)
        for _ in range(min(len(nodes), _CALLS - self._workers)):
            self._workers += 1
            self._share.spawn(self._work(), "metadata ahead of time")

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._learn_next(*self._queue.popleft())
        finally:
            self._workers -= 1

    async def _learn_next(self, batch: _Batch, node: Node) -> None:
        with contextlib.suppress(FsError):  # who asks for it is told
            await self.learn(node)
        batch.left -= 1
        if not batch.left and not batch.directory.removed:
            self._publish(batch.directory)

    def _start(self, node: Node) -> asyncio.Task[None]:
        task = self._tasks.get(node.ino)
        if task is None:
            task = self._share.spawn(self._learn(node), f"metadata of {node.key}")
            self._tasks[node.ino] = task
            task.add_done_callback(lambda _: self._tasks.pop(node.ino, None))
        return task
