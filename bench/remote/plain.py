# SPDX-License-Identifier: Apache-2.0
"""OpenDAL without a file system: what the service gives through the library that ovfs uses.

With its best settings, found by trying: ranges of 8 MiB, eight in flight on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import opendal

from bench.remote.files import BLOCK, MIB, Contender, Files, check
from bench.remote.place import noise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from bench.remote.place import Place

RANGE: Final = 8 * MIB
IN_FLIGHT: Final = 8


class PlainFiles(Files):
    """Objects through OpenDAL's async operator.

    Args:
        parameters: What the operator is told.
    """

    def __init__(self, parameters: dict[str, str]) -> None:
        self._parameters = parameters

    def cpu_ns(self) -> int:
        """CPU time of this process, which is the contender here."""
        return time.process_time_ns()

    def _run(self, task: Callable[[opendal.AsyncOperator], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            return await task(opendal.AsyncOperator("s3", **self._parameters))

        return asyncio.run(run())

    def read(self, name: str, size: int) -> None:
        """Reads an object in parallel ranges."""

        async def read(operator: opendal.AsyncOperator) -> int:
            async def part(offset: int) -> int:
                length = min(RANGE, size - offset)
                return len(await operator.read(name, offset=offset, size=length))

            return sum(await _each(part, range(0, size, RANGE), IN_FLIGHT))

        got = self._run(read)
        check(got == size, f"{got} bytes of {size} read")

    def write(self, name: str, size: int) -> None:
        """Writes an object in parallel parts."""
        data = noise(size)
        self._run(lambda operator: operator.write(name, data, chunk=RANGE, concurrent=IN_FLIGHT))

    def read_at(self, name: str, offsets: Sequence[int], depth: int) -> None:
        """Reads 4 KiB at each offset."""

        async def read(operator: opendal.AsyncOperator) -> None:
            async def block(offset: int) -> None:
                data = await operator.read(name, offset=offset, size=BLOCK)
                check(len(data) == BLOCK, f"{len(data)} bytes read")

            await _each(block, offsets, depth)

        self._run(read)

    def create(self, names: Sequence[str], data: bytes, writers: int) -> None:
        """Writes objects."""
        self._run(lambda operator: _each(lambda name: operator.write(name, data), names, writers))

    def read_each(self, names: Sequence[str]) -> None:
        """Reads objects, one after the other."""

        async def read(operator: opendal.AsyncOperator) -> None:
            for name in names:
                check(len(await operator.read(name)) == BLOCK, f"{name} is short")

        self._run(read)

    def list_long(self, directory: str) -> int:
        """Lists a prefix; sizes and times come with it."""

        async def listing(operator: opendal.AsyncOperator) -> int:
            return len([entry async for entry in await operator.list(f"{directory}/")])

        return int(self._run(listing))


async def _each(task: Callable[[Any], Any], items: Iterable[Any], at_once: int) -> list[Any]:
    """Runs a task for each item, so many at a time."""
    free = asyncio.Semaphore(at_once)

    async def run(item: Any) -> Any:
        async with free:
            return await task(item)

    return await asyncio.gather(*(run(item) for item in items))


@dataclass(frozen=True)
class Plain(Contender):
    """OpenDAL itself."""

    name: str = "OpenDAL"
    durable: bool = True

    @contextlib.contextmanager
    def open(self, place: Place) -> Iterator[PlainFiles]:
        """A new operator, with new connections."""
        yield PlainFiles(place.parameters(place.endpoint))
