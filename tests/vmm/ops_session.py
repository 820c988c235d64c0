# SPDX-License-Identifier: Apache-2.0
"""Opcodes about the session, the file system as a whole, and the lifetime of nodes."""

from __future__ import annotations

import os
from typing import Unpack

from tests.vmm import fuse_pack as pack
from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import (
    KERNEL_MINOR_VERSION,
    KERNEL_VERSION,
    LINUX_6_12,
    ROOT_ID,
    Init,
    Opcode,
)
from tests.vmm.requests import How, Requests, WireError


class SessionOps(Requests):
    """Opcodes about the session and the lifetime of nodes."""

    def init(
        self,
        flags: Init = LINUX_6_12,
        *,
        major: int = KERNEL_VERSION,
        minor: int = KERNEL_MINOR_VERSION,
        max_readahead: int = 128 << 10,
        **how: Unpack[How],
    ) -> wire.InitOut:
        """INIT. The flags both sides have are kept in `init_flags`."""
        args = wire.InitIn(major, minor, max_readahead, flags & 0xFFFF_FFFF, flags >> 32).pack()
        reply = self.exact(Opcode.INIT, 0, args, wire.InitOut.wire_size(), **how)
        out = wire.InitOut.unpack(reply)
        granted = out.flags
        if granted & Init.INIT_EXT:
            granted |= out.flags2 << 32
        if granted & ~flags:
            raise WireError(f"INIT: flags {Init(granted & ~flags)!r} were not offered")
        self.init_flags = Init(granted)
        self.max_write = out.max_write
        return out

    def destroy(self, **how: Unpack[How]) -> None:
        """DESTROY."""
        self.exact(Opcode.DESTROY, 0, b"", 0, **how)

    def forget(self, nodeid: int, nlookup: int = 1, **how: Unpack[How]) -> None:
        """FORGET; returns when the daemon has taken it."""
        self.one_way(Opcode.FORGET, nodeid, pack.pack_forget(nlookup), how)

    def batch_forget(self, items: list[tuple[int, int]], **how: Unpack[How]) -> None:
        """BATCH_FORGET of (node, count) pairs."""
        self.one_way(Opcode.BATCH_FORGET, 0, pack.pack_batch_forget(items), how)

    def interrupt(self, unique: int, **how: Unpack[How]) -> None:
        """INTERRUPT of the request with that number; it has no reply of its own unless it fails.

        Raises:
            OSError: ENOSYS where the daemon does not do it, EAGAIN where the request is unknown.
        """
        args = wire.InterruptIn(unique).pack()
        on_hiprio: How = {"queue": 0, **how}
        pending = self.submit(Opcode.INTERRUPT, 0, args, 0, **on_hiprio)
        data = pending.queue.wait(pending.token, pending.timeout)
        if data:
            error = wire.OutHeader.unpack(data).error
            if error != 0:
                raise OSError(-error, f"INTERRUPT: {os.strerror(-error)}")

    def statfs(self, nodeid: int = ROOT_ID, **how: Unpack[How]) -> wire.Statfs:
        """STATFS."""
        return wire.Statfs.unpack(
            self.exact(Opcode.STATFS, nodeid, b"", wire.Statfs.wire_size(), **how)
        )

    def syncfs(self, nodeid: int = ROOT_ID, **how: Unpack[How]) -> None:
        """SYNCFS."""
        self.exact(Opcode.SYNCFS, nodeid, bytes(8), 0, **how)
