# SPDX-License-Identifier: Apache-2.0
"""So many at a time, and yet nobody waits for long behind what does not move.

A limit on calls bounds memory, and keeps them from slowing each other down. A call that the service
does not answer does neither: after ``patience`` seconds it no longer counts, and the next one may
go. Those that do not count are limited too, or a dead service would take all descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


#: An object's share of the places: as many small reads as are worth while at a time, and fewer
#: large ones than there may be in all.
_SMALL = 16
_LARGE = 6


class Lane:
    """One object's own places: where it does not answer, there are still some for the others."""

    __slots__ = ("large", "small")

    def __init__(self) -> None:
        self.small = asyncio.Semaphore(_SMALL)
        self.large = asyncio.Semaphore(_LARGE)


class Slots:
    """Places for calls. On one event loop.

    Args:
        count: How many calls move at a time.
        most: How many there may be, with those that have not ended for long.
        patience: Seconds until a call no longer counts among the first.
    """

    def __init__(self, count: int, most: int, patience: float) -> None:
        self._moving = asyncio.Semaphore(count)
        self._all = asyncio.Semaphore(most)
        self._patience = patience

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold a place, once there is one; whoever comes first gets it first."""
        async with self._all:
            await self._moving.acquire()
            counts = True

            def count_no_more() -> None:
                nonlocal counts
                counts = False
                self._moving.release()

            timer = asyncio.get_running_loop().call_later(self._patience, count_no_more)
            try:
                yield
            finally:
                timer.cancel()
                if counts:
                    self._moving.release()
