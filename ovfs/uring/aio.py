# SPDX-License-Identifier: Apache-2.0
"""``AsyncRing``: operations awaited on an asyncio loop.

    tick n     tasks call ring.read(...): SQEs are filled, one _turn is scheduled for the tick's end
    _turn      one io_uring_enter hands all of them over; what completed at once (cached data) is
               reaped and its futures are resolved without a trip through the selector
    later      the kernel writes the eventfd, the loop calls _turn, futures are resolved

Back-pressure: at most ``cq_entries`` operations are in flight, so that completions never overflow;
further ones wait here, in order, and so do the tasks that await them.

Cancellation: a task that is cancelled while it awaits an operation goes on only when the kernel is
done with the buffers, since it may reuse them then. The operation itself is cancelled at once,
which takes effect quickly, but for a disk transfer that has begun: that is completed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import weakref
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ovfs.uring._uring import lib
from ovfs.uring.calls import Calls, Kind
from ovfs.uring.core import _REAP_MAX, Core, Statistics
from ovfs.uring.errors import failure
from ovfs.uring.flags import SetupFlags, SqeFlags
from ovfs.uring.stat import StatResult

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

_CHAINS = SqeFlags.LINK | SqeFlags.HARDLINK
_BUSY = frozenset({-errno.EAGAIN, -errno.EBUSY, -errno.ENOMEM, -errno.EINTR})
_BUSY_DELAY = 0.001  # the kernel is short of memory: waiting is all there is to do
_CLOSE_INTERVAL = 0.1  # closing: how long to wait before cancelling once more


class AsyncOperation(asyncio.Future[T]):
    """The future of one operation; cancelling it cancels the operation."""

    def __init__(self, ring: AsyncRing, kind: Kind, target: Any, keep: Any) -> None:
        super().__init__(loop=ring._loop)  # noqa: SLF001  its ring's own
        self.kind = kind
        self.target = target
        self.token = 0  # while it waits for a slot
        self._ring = ring
        self._keep = keep
        self._cancelled_with: tuple[Any] | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Cancels; the future is done once the kernel is done with the buffers."""
        if self.done():
            return False
        if self.token == 0:
            return super().cancel(msg)
        if self._cancelled_with is None:
            self._cancelled_with = (msg,)
            self._ring._cancel_soon(self)  # noqa: SLF001  its ring's own
        return True

    def finish(self, result: int) -> None:
        """Called once, by the ring."""
        keep, self._keep = self._keep, None
        if self._cancelled_with is not None:
            if result >= 0 and self.kind.name == "openat":
                os.close(result)  # nobody will learn of this descriptor
            super().cancel(*self._cancelled_with)
        elif self.done():
            return  # cancelled while it waited; queued to break its chain
        elif (error := failure(self.kind.name, self.target, result)) is not None:
            self.set_exception(error)
        else:
            convert = self.kind.convert
            self.set_result(convert(result, keep) if convert else result)  # type: ignore[arg-type]


_Waiting = tuple[AsyncOperation[Any], int, tuple[Any, ...]]


class AsyncRing(Core, Calls[AsyncOperation[int], AsyncOperation[None], AsyncOperation[StatResult]]):
    """An io_uring for the running asyncio loop; its operations are awaitable.

    An operation starts when its method is called, awaited or not. Like the loop, it belongs to one
    thread. Arguments and errors are those of ``Ring``; ends with ``await ring.aclose()`` or as an
    async context manager.

    Raises:
        RuntimeError: There is no running loop in this thread.
    """

    __slots__ = ("_chain_open", "_closing", "_eventfd", "_handle", "_loop", "_waiting")

    def __init__(
        self,
        entries: int = 128,
        *,
        cq_entries: int | None = None,
        flags: SetupFlags = SetupFlags.DEFAULT,
    ) -> None:
        self._c = None
        self._loop = asyncio.get_running_loop()
        super().__init__(entries, cq_entries=cq_entries, flags=flags)
        self._waiting: deque[_Waiting] = deque()
        self._handle: asyncio.Handle | None = None
        self._chain_open = False
        self._closing = False
        self._eventfd: int = lib.uring_eventfd(self._c)
        if self._eventfd < 0:
            super()._shutdown()
            raise OSError(-self._eventfd, f"eventfd: {os.strerror(-self._eventfd)}")
        # Not a bound method: the loop would keep a forgotten ring alive for ever.
        self._loop.add_reader(self._eventfd, _turn_of, weakref.ref(self))

    def _start(
        self, kind: Kind, target: Any, keep: Any, flags: int, *args: Any
    ) -> AsyncOperation[Any]:
        if self._closing:
            raise ValueError("the ring is closed")
        operation: AsyncOperation[Any] = AsyncOperation(self, kind, target, keep)
        full = len(self._inflight) >= self.cq_entries and not self._chain_open
        if full or self._waiting:
            self._check()
            self._waiting.append((operation, flags, args))
            return operation
        self._queue(operation, operation.kind.prepare, flags, *args)
        self._chain_open = flags & _CHAINS != 0
        self._schedule()
        return operation

    def statistics(self) -> Statistics:
        """What was done so far."""
        return replace(super().statistics(), waiting=len(self._waiting))

    def _schedule(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_soon(self._turn)

    def _cancel_soon(self, operation: AsyncOperation[Any]) -> None:
        self._cancel(operation)
        self._schedule()

    def _turn(self) -> None:
        """Submits, reaps, resolves futures, and starts those that waited for a slot."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._chain_open = False  # the kernel ends a chain with the submission
        count = lib.uring_turn(self._c, self._out, _REAP_MAX)
        if count > 0:
            self._finish(count)
        elif count < 0:
            if count not in _BUSY:
                raise OSError(-count, f"io_uring_enter: {os.strerror(-count)}")
            self._handle = self._loop.call_later(_BUSY_DELAY, self._turn)
        if self._waiting:
            self._admit()
        # Cancellations complete too, and can overflow the queue: the eventfd tells once only.
        if self._handle is None and lib.uring_pending(self._c):
            self._schedule()

    def _admit(self) -> None:
        """Queues what waited, as far as there are slots; a chain once begun goes in whole."""
        while self._waiting and (len(self._inflight) < self.cq_entries or self._chain_open):
            operation, flags, args = self._waiting.popleft()
            linked = flags & _CHAINS != 0
            if not operation.done():
                self._queue(operation, operation.kind.prepare, flags, *args)
            elif linked or self._chain_open:
                # Cancelled, but part of a chain: takes its place to make the chain fail there.
                self._queue(operation, operation.kind.prepare, flags, *args)
                self._cancel(operation)
            self._chain_open = linked

    async def aclose(self) -> None:
        """Cancels what is in flight, waits until the kernel let go of it, and ends the ring.

        Operations that did not come to their end fail with ECANCELED.
        """
        if self._c is None:
            return
        self._check()
        self._closing = True
        while self._waiting:
            self._waiting.popleft()[0].finish(-errno.ECANCELED)
        while self._inflight:
            for operation in list(self._inflight.values()):
                self._cancel(operation)
            self._schedule()
            await asyncio.wait(list(self._inflight.values()), timeout=_CLOSE_INTERVAL)
        if self._c is not None:  # not closed meanwhile by another aclose()
            self._shutdown()

    def _shutdown(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._eventfd)
        super()._shutdown()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._c is None else f"{len(self._inflight)} in flight"
        return f"<AsyncRing of {self.entries}: {state}>"


def _turn_of(reference: weakref.ref[AsyncRing]) -> None:
    ring = reference()
    if ring is not None and not ring.closed:
        ring._turn()  # noqa: SLF001  this module's own
