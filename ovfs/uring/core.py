# SPDX-License-Identifier: Apache-2.0
"""What Ring and AsyncRing share: the C ring, its owner, and the operations in flight.

Ownership. An operation enters ``_inflight`` under a fresh token when its SQE is filled, and leaves
it when its completion is reaped; in between it holds the buffers the kernel uses, whatever becomes
of the caller's references. So nothing here lets a buffer go early: not an exception, not a
cancellation, and closing reaps everything first.

Threads. A ring belongs to the thread that made it. Each call checks that, since the kernel would
answer EEXIST (SINGLE_ISSUER) where it answers at all.

Fork. The queues are not mapped in a child: using a ring there raises ValueError. Operations in
flight go on in the parent, and write to the parent's memory alone.
"""

import errno
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ovfs.uring._uring import ffi, lib
from ovfs.uring.errors import refusal
from ovfs.uring.flags import FALLBACKS, SetupFlags

_MAX_ENTRIES = 32768  # the kernel's
_REAP_MAX = 256  # pairs copied out at once: 4 KiB, and one C call for most batches
_REAP_INTERVAL_NS = 100_000_000  # closing: how long to wait before cancelling once more

_rings: "weakref.WeakSet[Core]" = weakref.WeakSet()
_orphans: list[object] = []
_get_ident = threading.get_ident


class Request(Protocol):
    """What is in flight: holds its buffers until ``finish``."""

    token: int

    def finish(self, result: int) -> None:
        """Takes the completion's result and lets the buffers go. Called once, by the ring."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts since the ring was opened."""

    submits: int
    """System calls that handed over operations."""
    submitted: int
    """Operations handed over."""
    in_flight: int
    """Operations queued or running, not yet reaped."""
    waiting: int
    """Operations held back until others complete (AsyncRing)."""


class Core:
    """The life of a ring; not for use by itself."""

    __slots__ = (
        "__weakref__",
        "_c",
        "_inflight",
        "_info",
        "_out",
        "_revoked",
        "_thread",
        "_token",
        "cq_entries",
        "entries",
        "flags",
    )

    _c: Any

    def __init__(
        self,
        entries: int = 128,
        *,
        cq_entries: int | None = None,
        flags: SetupFlags = SetupFlags.DEFAULT,
    ) -> None:
        self._c = None
        if not 1 <= entries <= _MAX_ENTRIES:
            raise ValueError(f"entries={entries}: 1 to {_MAX_ENTRIES}")
        if cq_entries is not None and not entries <= cq_entries <= 2 * _MAX_ENTRIES:
            raise ValueError(f"cq_entries={cq_entries}: {entries} (entries) to {2 * _MAX_ENTRIES}")
        if flags & ~SetupFlags.DEFAULT:
            raise ValueError(f"flags={flags!r}: only SetupFlags")
        self._thread = _get_ident()
        self._inflight: dict[int, Any] = {}
        self._revoked: set[int] = set()
        self._token: int = 0
        self._out = ffi.new("int64_t[]", 2 * _REAP_MAX)
        self._info = ffi.new("struct uring_info *")
        self._c = _open(entries, cq_entries or 0, flags)
        lib.uring_describe(self._c, self._info)
        #: Sizes of the queues, and those of the flags asked for that the kernel knows.
        self.entries: int = self._info.sq_entries
        self.cq_entries: int = self._info.cq_entries
        self.flags = SetupFlags(self._info.flags & SetupFlags.DEFAULT)
        _rings.add(self)

    @property
    def closed(self) -> bool:
        """Whether the ring is closed, or belongs to the process this one was forked from."""
        return self._c is None

    @property
    def in_flight(self) -> int:
        """Operations queued or running, not yet reaped."""
        return len(self._inflight)

    def fileno(self) -> int:
        """The ring's own descriptor."""
        self._check()
        return int(self._info.fd)

    def supports(self, name: str) -> bool:
        """Whether the kernel implements the operation ``name`` (``"read"``, ``"ftruncate"``...)."""
        self._check()
        return bool(lib.uring_supports(self._c, name.encode()))

    def statistics(self) -> Statistics:
        """What was done so far."""
        self._check()
        lib.uring_describe(self._c, self._info)
        return Statistics(self._info.submits, self._info.submitted, len(self._inflight), 0)

    def _check(self) -> None:
        if self._c is None:
            raise ValueError("the ring is closed")
        if _get_ident() != self._thread:
            raise RuntimeError("a ring is for the thread that made it; make one per thread")

    def _queue(self, request: Request, prepare: Callable[..., int], *args: Any) -> None:
        """Fills an SQE for ``request``, which is in flight from then on."""
        if self._c is None or _get_ident() != self._thread:
            self._check()
        self._token = token = self._token + 1
        request.token = token
        self._inflight[token] = request
        try:
            code = prepare(self._c, token, *args)
            if code:
                self._queue_slowly(code, token, prepare, args)
        except BaseException:
            # Refused, or interrupted by a signal before or after: only the queue knows.
            if lib.uring_revoke(self._c, token):
                self._revoked.add(token)
            else:
                del self._inflight[token]
            raise

    def _queue_slowly(
        self, code: int, token: int, prepare: Callable[..., int], args: tuple[Any, ...]
    ) -> None:
        """Goes on after ``code``: full queues are the usual reason, and reaping makes room."""
        while code == -errno.EBUSY:
            if self._reap() == 0:
                lib.uring_wait(self._c, 1, _REAP_INTERVAL_NS)
            code = prepare(self._c, token, *args)
        if code == -errno.E2BIG:
            raise RuntimeError(f"a chain of linked operations is longer than {self.entries}")
        if code:
            raise OSError(-code, f"io_uring_enter: {os.strerror(-code)}")

    def _submit(self) -> int:
        """Hands over what is queued; reaps where the kernel wants that first."""
        self._check()
        before = self._info_submitted()
        code = lib.uring_submit(self._c)
        while code == -errno.EBUSY:
            if self._reap() == 0:
                lib.uring_wait(self._c, 1, _REAP_INTERVAL_NS)
            code = lib.uring_submit(self._c)
        if code < 0:
            raise OSError(-code, f"io_uring_enter: {os.strerror(-code)}")
        return self._info_submitted() - before

    def _info_submitted(self) -> int:
        lib.uring_describe(self._c, self._info)
        return int(self._info.submitted)

    def _wait(self, count: int, timeout_ns: int) -> bool:
        """Submits, waits for ``count`` completions, reaps. False when the time was over."""
        code = lib.uring_wait(self._c, count, timeout_ns)
        self._reap()
        if code < 0 and code not in {-errno.ETIME, -errno.EINTR, -errno.EBUSY}:
            raise OSError(-code, f"io_uring_enter: {os.strerror(-code)}")
        return bool(code != -errno.ETIME)

    def _reap(self) -> int:
        """Finishes all operations whose completion is here; returns how many there were."""
        total = 0
        while True:
            count: int = lib.uring_reap(self._c, self._out, _REAP_MAX)
            self._finish(count)
            total += count
            if count < _REAP_MAX:
                return total

    def _finish(self, count: int) -> None:
        """Finishes the operations of the first ``count`` pairs in ``_out``."""
        pairs = iter(ffi.unpack(self._out, 2 * count))
        pop = self._inflight.pop
        for token, result in zip(pairs, pairs, strict=True):
            request = pop(token, None)
            if request is None:
                continue  # the completion of a cancellation
            if self._revoked and token in self._revoked:
                self._revoked.discard(token)
                result = -errno.ECANCELED  # noqa: PLW2901  what failed was only its stand-in
            request.finish(result)
        lib.uring_seen(self._c)

    def _cancel(self, request: Request) -> None:
        """Asks for the request's end; it completes with ECANCELED, or as if nothing was asked."""
        self._check()
        token = request.token
        if token not in self._inflight or token in self._revoked:
            return
        if lib.uring_revoke(self._c, token):
            self._revoked.add(token)
            return
        code = lib.uring_cancel(self._c, 0, 0, token)
        if code:
            self._queue_slowly(code, 0, lib.uring_cancel, (0, token))

    def _shutdown(self) -> None:
        """Cancels and reaps all that is in flight, then gives the ring back. Repeatable."""
        while self._inflight:
            for request in list(self._inflight.values()):
                self._cancel(request)
            # Once more after a while: a chain's next operation may have started in between.
            while self._inflight and self._wait(1, _REAP_INTERVAL_NS):
                pass
        ring, self._c = self._c, None
        _rings.discard(self)
        lib.uring_close(ring)

    def _disown(self) -> None:
        """In a forked child: the ring is the parent's; only the descriptor is ours to drop."""
        if self._c is not None:
            self._c = None
            os.close(self._info.fd)

    def __del__(self) -> None:
        if getattr(self, "_c", None) is None:
            return
        warnings.warn(f"unclosed ring {self!r}", ResourceWarning, source=self, stacklevel=2)
        if _get_ident() == self._thread:
            try:
                self._shutdown()
            finally:
                if self._inflight:
                    _orphans.append((self._c, self._inflight))
        elif self._inflight:
            # Only the owner can reap. The kernel may write to these buffers: never free them.
            _orphans.append((self._c, self._inflight))
        else:
            lib.uring_close(self._c)


def _open(entries: int, cq_entries: int, flags: SetupFlags) -> Any:
    """Opens a ring with as many of the flags as the kernel knows."""
    out = ffi.new("struct uring **")
    code = lib.uring_open(out, entries, cq_entries, flags)
    for doubtful in FALLBACKS:
        if code != -errno.EINVAL:
            break
        flags &= ~doubtful
        code = lib.uring_open(out, entries, cq_entries, flags)
    if code:
        raise refusal(-code)
    return out[0]


def _after_fork_in_child() -> None:
    for ring in list(_rings):
        ring._disown()  # noqa: SLF001  this module's own
    _rings.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
