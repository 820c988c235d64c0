# SPDX-License-Identifier: Apache-2.0
"""What the front-end has said about one vring so far, and whether that is enough to run it.

The control thread owns all of it, the descriptors included: the data plane works on duplicates.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ovfs.native import Vring

if TYPE_CHECKING:
    from ovfs.vhost_user.messages import VringAddr

NO_DESCRIPTOR = -1


class Ring:
    """One vring of the session."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.running = False
        self.num = 0
        self.base = 0
        self.addr: VringAddr | None = None
        self.enable: bool | None = None  # as SET_VRING_ENABLE said; None: nothing said
        self._kick: int | None = None  # None: not started; NO_DESCRIPTOR: started, polled
        self._call = NO_DESCRIPTOR
        self._err = NO_DESCRIPTOR

    @property
    def described(self) -> bool:
        """Whether size, addresses and kick are known: it runs as soon as it is enabled."""
        return self.num > 0 and self.addr is not None and self._kick is not None

    @property
    def call(self) -> int:
        """The descriptor that interrupts the guest."""
        return self._call

    def set_kick(self, fd: int) -> None:
        """Own a new kick descriptor, or know that the ring is polled: it is started."""
        self._kick = self._replace(self._kick, fd)

    def set_call(self, fd: int) -> None:
        """Own a new call descriptor."""
        self._call = self._replace(self._call, fd)

    def set_err(self, fd: int) -> None:
        """Own a new error descriptor."""
        self._err = self._replace(self._err, fd)

    def stopped(self) -> None:
        """Forget the kick: the ring runs again once another SET_VRING_KICK comes."""
        self._replace(self._kick, NO_DESCRIPTOR)
        self._kick = None

    def clear(self) -> None:
        """Close all descriptors and forget all that was said."""
        self.stopped()
        self.set_call(NO_DESCRIPTOR)
        self.set_err(NO_DESCRIPTOR)
        self.num = self.base = 0
        self.addr = self.enable = None

    def vring(self, *, event_idx: bool, indirect: bool) -> Vring:
        """Return the ring as the data plane wants it. Only where ``described``."""
        if self.addr is None or self._kick is None:
            raise ValueError("the ring is not described")
        return Vring(
            num=self.num,
            base=self.base,
            desc_addr=self.addr.desc,
            avail_addr=self.addr.avail,
            used_addr=self.addr.used,
            kick_fd=self._kick,
            call_fd=self._call,
            err_fd=self._err,
            event_idx=event_idx,
            indirect=indirect,
        )

    @staticmethod
    def _replace(old: int | None, new: int) -> int:
        if old is not None and old != NO_DESCRIPTOR:
            os.close(old)
        return new
