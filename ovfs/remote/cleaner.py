# SPDX-License-Identifier: Apache-2.0
"""Sees to it that a multipart upload leaves an object or nothing, now or at the next start.

    begun       a note in the cache directory (upload_log.py), where there is one
    committed   the note goes
    aborted     its parts are taken off the service (leftovers.py), and the note goes
    killed      the next daemon finds the note of one that is gone, and does the same

What cannot be taken away, since the service is down or knows of nothing yet, keeps its note.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from ovfs.remote.errors import describe
from ovfs.remote.upload_stream import PART

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ovfs.remote.leftovers import Leftovers
    from ovfs.remote.upload_log import Noted, UploadLog

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds that somebody waits for what is only tidiness


class Cleaner:
    """For one service. Where either part is missing it does what it can without."""

    def __init__(self, notes: UploadLog | None, leftovers: Leftovers | None) -> None:
        self._notes = notes if leftovers is not None else None
        self._leftovers = leftovers
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Take away what daemons that are gone have left, beside everything else."""
        if self._notes is not None and self._leftovers is not None:
            self._spawn(self._clean_orphans(self._notes))

    def watch(self, key: str) -> Callable[[bool, int], Awaitable[None]]:
        """Return what is to be called at an upload's end: committed or not, and with what size."""
        noted = self._notes.note(key) if self._notes is not None else None
        since = time.time()

        async def end(committed: bool, sent: int) -> None:
            if committed or sent < PART or self._leftovers is None:
                # The service hears of an upload with its first whole part.
                if noted is not None:
                    noted.forget()
                return
            task = self._spawn(self._clean(key, since, time.time(), noted))
            await asyncio.wait({task}, timeout=_PATIENCE)

        return end

    async def close(self) -> None:
        """Wait a moment for what is under way, and leave the rest to the next start."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PATIENCE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _clean_orphans(self, notes: UploadLog) -> None:
        for noted in notes.orphans():
            await self._clean(noted.key, noted.since, noted.until, noted, done=True)

    async def _clean(
        self, key: str, since: float, until: float, noted: Noted | None, *, done: bool = False
    ) -> None:
        """Abort uploads of a key; ``done``: none that is still on its way can turn up later."""
        assert self._leftovers is not None  # noqa: S101 (the callers have looked)
        try:
            count = await self._leftovers.abort(key, since, until)
            if noted is not None and (count or done):
                noted.forget()
        except Exception as exc:  # noqa: BLE001 (tidiness must not fail what asked for it)
            log.warning("parts of an upload of %s stay on the service: %s", key, describe(exc))
        finally:
            if noted is not None:
                noted.leave()
