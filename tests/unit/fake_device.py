# SPDX-License-Identifier: Apache-2.0
"""A data plane that only remembers what it was told."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovfs.native import MemRegion, Vring


class FakeDevice:
    """Keeps calls in order, running queues with their vrings, and memory.

    ``fail`` names methods that are to meet an errno, as the real plane does when the host is short.
    Each queue is ``served`` requests further when it stops.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: list[MemRegion] = []
        self.running: dict[int, Vring] = {}
        self.resets = 0
        self.fail: dict[str, int] = {}
        self.served = 5

    def _called(self, name: str, detail: object = "") -> None:
        self.calls.append(f"{name} {detail}".strip())
        if name in self.fail:
            raise OSError(self.fail[name], os.strerror(self.fail[name]))

    def set_memory(self, regions: Sequence[MemRegion]) -> None:
        self._called("set_memory", len(regions))
        for region in regions:
            os.fstat(region.fd)  # lent for the call: it must be open
        self.memory = list(regions)

    def add_memory(self, region: MemRegion) -> None:
        self._called("add_memory")
        os.fstat(region.fd)
        self.memory.append(region)

    def remove_memory(self, guest_addr: int, size: int, user_addr: int) -> None:
        self._called("remove_memory")
        left = [
            region
            for region in self.memory
            if (region.guest_addr, region.size, region.user_addr) != (guest_addr, size, user_addr)
        ]
        if len(left) == len(self.memory):
            raise OSError(errno.ENOENT, "no such region")
        self.memory = left

    def start_queue(self, index: int, vring: Vring) -> None:
        self._called("start_queue", index)
        assert index not in self.running
        for fd in (vring.kick_fd, vring.call_fd, vring.err_fd):
            if fd != -1:
                os.fstat(fd)
        self.running[index] = vring

    def stop_queue(self, index: int) -> int | None:
        self._called("stop_queue", index)
        vring = self.running.pop(index, None)
        return None if vring is None else (vring.base + self.served) & 0xFFFF

    def set_call(self, index: int, call_fd: int) -> None:
        self._called("set_call", index)
        if index not in self.running:
            raise OSError(errno.ENOENT, "the queue does not run")
        if call_fd != -1:
            os.fstat(call_fd)

    def reset(self) -> None:
        self._called("reset")
        assert not self.running
        self.resets += 1
