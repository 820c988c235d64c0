# SPDX-License-Identifier: Apache-2.0
"""What a session needs of the data plane; ``ovfs.native.plane.Plane`` is the one there is.

Each method may raise OSError: the host is short of something, or what the VMM named does not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovfs.native import MemRegion, Vring


class Device(Protocol):
    """Guest memory, queues, and the guest's nodes and files. Descriptors are borrowed."""

    def set_memory(self, regions: Sequence[MemRegion]) -> None:
        """Replace the memory table; running queues change over."""

    def add_memory(self, region: MemRegion) -> None:
        """Add a region."""

    def remove_memory(self, guest_addr: int, size: int, user_addr: int) -> None:
        """Remove a region; no queue touches it any more on return."""

    def start_queue(self, index: int, vring: Vring) -> None:
        """Start serving a queue."""

    def stop_queue(self, index: int) -> int | None:
        """Answer what is in flight and stop; the next avail index, None if it did not run."""

    def set_call(self, index: int, call_fd: int) -> None:
        """Change how a running queue interrupts the guest."""

    def reset(self) -> None:
        """Forget nodes, open files and locks; queues must be stopped."""
