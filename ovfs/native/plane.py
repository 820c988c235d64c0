# SPDX-License-Identifier: Apache-2.0
"""The data plane of one shared directory, as an object with an owner.

Thin on purpose: values in, one C call, a value or an exception out. Every method is for the one
control thread; what each may block for is said in ``c/ovfs_api.h`` and repeated where it matters.
"""

from __future__ import annotations

import errno
import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from ovfs.errors import UsageError
from ovfs.native._plane import ffi, lib
from ovfs.native.values import (
    Cache,
    Event,
    EventKind,
    FileHandles,
    MemRegion,
    PlaneOptions,
    Stats,
    Vring,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

EVENT_SIZE: int = ffi.sizeof("struct ovfs_event")
MEM_SLOTS: int = lib.ovfs_mem_slots()

_WHY_SIZE = 512
_NANOSECONDS = 1_000_000_000
_CACHE = {
    Cache.NEVER: lib.OVFS_CACHE_NEVER,
    Cache.METADATA: lib.OVFS_CACHE_METADATA,
    Cache.AUTO: lib.OVFS_CACHE_AUTO,
    Cache.ALWAYS: lib.OVFS_CACHE_ALWAYS,
}
_FILE_HANDLES = {
    FileHandles.NEVER: lib.OVFS_HANDLES_NEVER,
    FileHandles.PREFER: lib.OVFS_HANDLES_PREFER,
    FileHandles.MANDATORY: lib.OVFS_HANDLES_MANDATORY,
}


def _check(result: int, action: str) -> None:
    """Turn a negative errno into the exception that names it."""
    if result < 0:
        raise OSError(-result, f"{os.strerror(-result)} ({action})")


def ring_probe() -> int:
    """Return 0 where this process may use io_uring, else the errno of io_uring_setup."""
    return -int(lib.ovfs_ring_probe())


def decode_event(packet: bytes) -> Event:
    """Return the event in one packet of the pipe."""
    raw = ffi.new("struct ovfs_event *")
    ffi.memmove(raw, packet, min(len(packet), EVENT_SIZE))
    text = ffi.string(raw.text, len(raw.text)).decode("utf-8", "backslashreplace")
    return Event(EventKind(raw.kind), text)


def opcode(number: int) -> tuple[str, bool] | None:
    """Return name and whether it is served of a FUSE opcode; None for one that is not known."""
    name = ffi.new("const char **")
    served = lib.ovfs_opcode(number, name)
    return None if served < 0 else (ffi.string(name[0]).decode("ascii"), served == 1)


class Plane:
    """Serves one shared directory on up to ``options.queues`` virtqueues.

    Args:
        options: settings, fixed for the plane's life. The descriptors in it stay the caller's;
            ``event_fd`` must stay open until ``close``.

    Raises:
        UsageError: the directory, the host or our privileges do not allow these settings.
    """

    def __init__(self, options: PlaneOptions) -> None:
        raw = ffi.new(
            "struct ovfs_options *",
            {
                "root_fd": options.root_fd,
                "event_fd": options.event_fd,
                "cache": _CACHE[options.cache],
                "attr_timeout_ns": round(options.attr_timeout * _NANOSECONDS),
                "entry_timeout_ns": round(options.entry_timeout * _NANOSECONDS),
                "writeback": options.writeback,
                "readonly": options.readonly,
                "xattr": options.xattr,
                "posix_acl": options.posix_acl,
                "allow_direct_io": options.allow_direct_io,
                "posix_lock": options.posix_lock,
                "flock": options.flock,
                "file_handles": _FILE_HANDLES[options.file_handles],
                "queues": options.queues,
                "fd_cache": options.fd_cache,
                "poll_ns": round(options.poll * _NANOSECONDS),
                "plain_rings": options.plain_rings,
                "remote": options.remote,
                "mail_fd": options.mail_fd,
                "posix_metadata": options.posix_metadata,
            },
        )
        out = ffi.new("struct ovfs_plane **")
        why = ffi.new("char[]", _WHY_SIZE)
        result = lib.ovfs_plane_new(raw, out, why, _WHY_SIZE)
        if result < 0:
            text = ffi.string(why).decode("utf-8", "backslashreplace")
            raise UsageError(text or f"cannot serve this directory: {os.strerror(-result)}")
        self._plane = out[0]
        self.queues = options.queues
        self.mail_fd = options.mail_fd if options.remote else -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def handle(self) -> Any:
        """The C object, for ``mailbox``; NULL once it is closed."""
        return self._plane

    def close(self) -> None:
        """Stop all queues and release everything. May be called again."""
        plane, self._plane = self._plane, ffi.NULL
        lib.ovfs_plane_free(plane)

    def reset(self) -> None:
        """Forget all nodes, open files and locks; queues must be stopped."""
        _check(lib.ovfs_plane_reset(self._plane), "forgetting the session")

    def sync(self) -> None:
        """Write back dirty data of the file systems that the guest has files open on. Blocks."""
        _check(lib.ovfs_plane_sync(self._plane), "writing back data")

    def stats(self) -> Stats:
        """Return a snapshot of the counters."""
        raw = ffi.new("struct ovfs_stats *")
        lib.ovfs_plane_stats(self._plane, raw)
        return Stats(**{field.name: getattr(raw, field.name) for field in fields(Stats)})

    def set_memory(self, regions: Sequence[MemRegion]) -> None:
        """Replace the memory table; blocks until every running queue has changed over."""
        raw = ffi.new("struct ovfs_mem_region[]", [_raw_region(region) for region in regions])
        _check(lib.ovfs_mem_set(self._plane, raw, len(regions)), "replacing the memory table")

    def add_memory(self, region: MemRegion) -> None:
        """Add a region to the memory table."""
        raw = ffi.new("struct ovfs_mem_region *", _raw_region(region))
        _check(lib.ovfs_mem_add(self._plane, raw), "adding a memory region")

    def remove_memory(self, guest_addr: int, size: int, user_addr: int) -> None:
        """Remove a region; returns when no queue can touch it any more."""
        result = lib.ovfs_mem_remove(self._plane, guest_addr, size, user_addr)
        _check(result, "removing a memory region")

    def start_queue(self, index: int, vring: Vring) -> None:
        """Start the thread of a queue."""
        raw = ffi.new(
            "struct ovfs_vring *",
            {
                "num": vring.num,
                "base": vring.base,
                "desc_addr": vring.desc_addr,
                "avail_addr": vring.avail_addr,
                "used_addr": vring.used_addr,
                "kick_fd": vring.kick_fd,
                "call_fd": vring.call_fd,
                "err_fd": vring.err_fd,
                "event_idx": vring.event_idx,
                "indirect": vring.indirect,
            },
        )
        _check(lib.ovfs_queue_start(self._plane, index, raw), f"starting queue {index}")

    def stop_queue(self, index: int) -> int | None:
        """Stop a queue, its requests answered: the next avail index, None if it did not run.

        Returns within a second, blocking until then.
        """
        base = ffi.new("uint32_t *")
        result = lib.ovfs_queue_stop(self._plane, index, base)
        if result == -errno.ENOENT:
            return None
        _check(result, f"stopping queue {index}")
        return int(base[0])

    def set_call(self, index: int, call_fd: int) -> None:
        """Change the call descriptor of a running queue; -1 for none."""
        result = lib.ovfs_queue_set_call(self._plane, index, call_fd)
        _check(result, f"changing the call descriptor of queue {index}")


def _raw_region(region: MemRegion) -> dict[str, int]:
    return {field.name: getattr(region, field.name) for field in fields(MemRegion)}
