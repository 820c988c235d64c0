# SPDX-License-Identifier: Apache-2.0
"""A guest whose daemon may be killed: a request that nobody will answer ends at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.vmm import FuseClient

if TYPE_CHECKING:
    from tests.vmm import Pending, Vmm
    from tests.vmm.daemon import Daemon
    from tests.vmm.fuse_wire import OutHeader

POLL = 0.05
PATIENCE = 30.0


class KilledError(Exception):
    """The daemon is gone, and the request was not answered."""


class MortalClient(FuseClient):
    """FUSE requests to a daemon that may be killed meanwhile."""

    def __init__(self, vmm: Vmm, daemon: Daemon) -> None:
        super().__init__(vmm.memory, vmm.queues)
        self._daemon = daemon

    def wait_reply(self, pending: Pending) -> tuple[OutHeader, bytes]:
        """As the base class does; an answer that was given before the end still counts.

        Raises:
            KilledError: There is none, and there will be none.
        """
        short = replace(pending, timeout=POLL)
        for _ in range(int(PATIENCE / POLL)):
            gone = not self._daemon.running
            try:
                return super().wait_reply(short)
            except TimeoutError:
                if gone:
                    raise KilledError from None
        raise TimeoutError(f"opcode {pending.opcode}: no answer within {PATIENCE} s")
