# SPDX-License-Identifier: Apache-2.0
"""One object on its way out, in parts, while what it will hold is still being written.

OpenDAL's writer commits when it is closed, and when an exception leaves its ``async with``; it has
no way to give up. So it is closed in exactly one place, ``commit``, after every byte was taken;
``abort`` lets go of it, which leaves the parts that were sent on the service. They are invisible,
but cost space: ``leftovers.py`` takes them away where the service is S3.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from ovfs.remote.errors import FsError, translate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opendal.file import AsyncFile

MIB = 1 << 20

# An object has at most 10,000 parts (S3's rule, and nearly everybody's).
MAX_PARTS = 10_000
PART = 8 * MIB
PARALLEL = 8
# A part has 60 s per attempt (operators.py); when none of those in flight ended in this time, the
# service has stopped moving.
STEP_DEADLINE = 75.0


class Upload:
    """A multipart upload. One task at a time; no use after ``commit`` or ``abort``."""

    def __init__(
        self,
        key: str,
        file: AsyncFile,
        part_size: int,
        on_end: Callable[[bool, int], Awaitable[None]],
    ) -> None:
        self.key = key
        self.part_size = part_size
        self.sent = 0  # bytes handed over so far
        self._tried = 0  # with those of a call that failed
        self._file: AsyncFile | None = file
        self._on_end = on_end

    async def write(self, data: bytes) -> None:
        """Append bytes; best in pieces of ``part_size``, of which each becomes a part.

        Returns as soon as there is room for more in flight, so an error may be an earlier part's.

        Raises:
            FsError: the upload has failed; only ``abort`` is left to do.
        """
        file = self._opened()
        if self.sent + len(data) > self.part_size * MAX_PARTS:
            raise FsError(errno.EFBIG, f"upload {self.key}: it has more than {MAX_PARTS} parts")
        self._file = None  # until it is known to have gone well
        self._tried = self.sent + len(data)
        try:
            async with asyncio.timeout(STEP_DEADLINE):
                await file.write(data)
        except Exception as exc:  # noqa: BLE001 (anything that can go wrong with a remote call)
            raise translate(exc, f"upload {self.key}") from None
        self._file = file
        self.sent += len(data)

    async def commit(self) -> None:
        """Make the object out of all that was written.

        Raises:
            ConflictError: the condition that the upload was opened with does not hold.
            FsError: it failed. Whether the object is there is unknown where it was the answer
                that got lost.
        """
        file = self._opened()
        self._file = None
        try:
            async with asyncio.timeout(STEP_DEADLINE):
                await file.close()
        except Exception as exc:  # noqa: BLE001 (anything that can go wrong with a remote call)
            raise translate(exc, f"upload {self.key}") from None
        await self._on_end(True, self.sent)

    async def abort(self) -> None:
        """Give up: no object comes of it. May follow a ``write`` or ``commit`` that failed.

        What was sent is taken away where that can be done; it is waited for a few seconds.
        """
        self._file = None
        await self._on_end(False, self._tried)

    def _opened(self) -> AsyncFile:
        if self._file is None:
            raise FsError(errno.EIO, f"upload {self.key}: it has failed before")
        return self._file


def part_size(expected: int, minimum: int | None, maximum: int | None) -> int:
    """Return how large the parts of an object of about ``expected`` bytes should be."""
    size = PART
    while size * (MAX_PARTS - 100) < expected:
        size *= 2
    return min(max(size, minimum or 0), maximum or size)


def parallel(size: int) -> int:
    """Return how many parts of a size may be in flight: memory is what bounds it."""
    return max(2, min(PARALLEL, PARALLEL * PART // size))
