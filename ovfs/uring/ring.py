# SPDX-License-Identifier: Apache-2.0
"""``Ring``: operations queued, submitted together, and collected by the thread that asked.

with Ring() as ring:
    with ring.batch() as batch:             # one system call for both
        head = batch.read(fd, buffer, 0)
        batch.write(other, b"data", 4096)
    print(head.result())

Ring.read ... -> Operation (queued) -> submit -> the kernel -> reap -> Operation (done)
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ovfs.uring.calls import Calls, Kind
from ovfs.uring.core import Core
from ovfs.uring.errors import failure
from ovfs.uring.flags import SetupFlags
from ovfs.uring.stat import StatResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

T = TypeVar("T")


class Operation(Generic[T]):
    """One operation: queued, running, or done. It holds its buffers until it is done."""

    __slots__ = ("_keep", "_result", "_sink", "_value", "kind", "target", "token")

    def __init__(
        self,
        kind: Kind,
        target: Any,
        keep: Any,
        sink: Callable[[Any], None],
    ) -> None:
        self.kind = kind
        self.target = target
        self.token = 0
        self._keep = keep
        self._sink = sink
        self._result: int | None = None
        self._value: Any = None

    @property
    def name(self) -> str:
        """What it is: ``"read"``, ``"openat"``..."""
        return self.kind.name

    @property
    def done(self) -> bool:
        """Whether it is complete, and its buffers are the caller's again."""
        return self._result is not None

    def exception(self) -> OSError | None:
        """The error it met, if any.

        Raises:
            RuntimeError: It is not done.
        """
        if self._result is None:
            raise RuntimeError(f"{self.name} is not done: wait for it first")
        return failure(self.name, self.target, self._result)

    def result(self) -> T:
        """What it resulted in.

        Raises:
            OSError: It failed; ECANCELED where it was cancelled, or linked to one that failed.
            RuntimeError: It is not done.
        """
        if self._result is None or self._result < 0:
            error = self.exception()
            if error is not None:
                raise error
        value: T = self._value
        return value

    def finish(self, result: int) -> None:
        """Called once, by the ring."""
        self._result = result
        if result >= 0:
            convert = self.kind.convert
            self._value = convert(result, self._keep) if convert else result
        self._keep = None
        self._sink(self)

    def __repr__(self) -> str:
        state = "in flight" if self._result is None else f"result {self._result}"
        return f"<Operation {self.name} {self.target!r}: {state}>"


_Calls = Calls[Operation[int], Operation[None], Operation[StatResult]]


class Ring(Core, _Calls):
    """An io_uring for one thread.

    Args:
        entries: Operations queued between two submissions before the ring submits by itself.
        cq_entries: Size of the completion queue, twice ``entries`` by default. More completions
            than that are kept by the kernel, not lost.
        flags: What to ask of the kernel; ``ring.flags`` tells what it granted.

    Raises:
        UringUnavailableError: io_uring is forbidden or missing; the message says what to do.
        OSError: Other failures, such as EMFILE.
        ValueError: Sizes out of range.
    """

    __slots__ = ("_ready",)

    def __init__(
        self,
        entries: int = 128,
        *,
        cq_entries: int | None = None,
        flags: SetupFlags = SetupFlags.DEFAULT,
    ) -> None:
        super().__init__(entries, cq_entries=cq_entries, flags=flags)
        self._ready: deque[Operation[Any]] = deque()

    def _start(self, kind: Kind, target: Any, keep: Any, flags: int, *args: Any) -> Operation[Any]:
        operation: Operation[Any] = Operation(kind, target, keep, self._ready.append)
        self._queue(operation, kind.prepare, flags, *args)
        return operation

    def batch(self, *, check: bool = True) -> Batch:
        """Operations to be submitted by one system call, and waited for, at the block's end.

        Args:
            check: Raise the first operation's error at the end of the block.
        """
        self._check()
        return Batch(self, check=check)

    def submit(self) -> int:
        """Hands what is queued to the kernel without waiting; returns how many that were."""
        return self._submit()

    def wait(self, count: int = 1, timeout: float | None = None) -> list[Operation[Any]]:
        """Submits what is queued and waits for completions.

        Args:
            count: How many to wait for, at most as many as are in flight; 0 does not wait.
            timeout: Seconds after which to return what is there.

        Returns:
            All operations that are complete and were not returned before, in the order of their
            completion: ``count`` or more, or fewer if the time was over. Those of a batch belong
            to the batch.
        """
        self._check()
        ready = self._ready
        deadline = None if timeout is None else time.monotonic() + timeout
        wanted, left, in_time = count - len(ready), -1, True
        while in_time:
            if deadline is not None:
                left = max(0, round((deadline - time.monotonic()) * 1e9))
            in_time = self._wait(max(0, min(wanted, len(self._inflight))), left)
            wanted = count - len(ready)
            if wanted <= 0 or not self._inflight:
                break
        done = list(ready)
        ready.clear()
        return done

    def _collect(self, done: list[Operation[Any]], count: int) -> None:
        """Submits, and waits until ``done`` holds ``count`` operations, which are in flight."""
        self._check()
        while len(done) < count and self._inflight:
            self._wait(count - len(done), -1)

    def completions(self) -> Iterator[Operation[Any]]:
        """Yields each operation as it completes, until none is in flight."""
        while self._ready or self._inflight:
            yield from self.wait()

    def cancel(self, operation: Operation[Any]) -> None:
        """Asks for the operation's end; waits for nothing.

        It completes with ECANCELED, or with its result where the kernel could not stop it (a disk
        read that has begun) or was already done. Its buffers stay in use until then.
        """
        self._cancel(operation)

    def close(self) -> None:
        """Cancels what is in flight, waits until the kernel let go of it, and ends the ring.

        Descriptors that cancelled ``openat`` calls brought nevertheless are in their results.
        """
        if self._c is not None:
            self._check()
            self._shutdown()

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._c is None else f"{len(self._inflight)} in flight"
        return f"<Ring of {self.entries}: {state}>"


class Batch(_Calls):
    """Operations submitted together; made by ``Ring.batch()``.

    At the end of the block they are submitted, and all of them waited for. If the block raises,
    none of those that are still queued is carried out.
    """

    __slots__ = ("_check_errors", "_done", "_finished", "_ring", "operations")

    def __init__(self, ring: Ring, *, check: bool) -> None:
        self._ring = ring
        self._check_errors = check
        self._finished = False
        self._done: list[Operation[Any]] = []
        #: The operations in the order of their submission.
        self.operations: list[Operation[Any]] = []

    def _start(self, kind: Kind, target: Any, keep: Any, flags: int, *args: Any) -> Operation[Any]:
        if self._finished:
            raise ValueError("the batch is finished")
        operation: Operation[Any] = Operation(kind, target, keep, self._done.append)
        self._ring._queue(operation, kind.prepare, flags, *args)  # noqa: SLF001  its ring's own
        self.operations.append(operation)
        return operation

    def supports(self, name: str) -> bool:
        """Whether the kernel implements the operation ``name``."""
        return self._ring.supports(name)

    def results(self) -> list[Any]:
        """The results in the order of submission; raises the first error."""
        return [operation.result() for operation in self.operations]

    def __iter__(self) -> Iterator[Operation[Any]]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finished = True
        ring = self._ring
        if kind is not None:
            for operation in self.operations:
                ring.cancel(operation)
        ring._collect(self._done, len(self.operations))  # noqa: SLF001  its ring's own
        if kind is None and self._check_errors:
            self.results()
