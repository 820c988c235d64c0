# SPDX-License-Identifier: Apache-2.0
"""A longer way to a server on this host: the TCP proxy of proxy.c, built and run.

with DelayProxy(seaweed.port, round_trip=0.010) as proxy:
url = seaweed.url("/", endpoint=proxy.endpoint)
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Self

from bench.program import build

if TYPE_CHECKING:
    from types import TracebackType


class DelayProxy:
    """A running proxy. A context manager.

    Args:
        upstream: The server's port on this host.
        round_trip: Seconds that go by between a request and the earliest answer, half each way.
    """

    def __init__(self, upstream: int, round_trip: float = 0.0) -> None:
        self.round_trip = round_trip
        command = [str(build("proxy")), str(upstream), str(round(round_trip * 1e9))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """The proxy's address, in place of an HTTP server's."""
        return f"http://127.0.0.1:{self.port}"

    def bytes_passed(self) -> tuple[int, int]:
        """The bytes that have come from clients and from the server so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?")
        self._process.stdin.flush()
        up, down = self._process.stdout.readline().split()
        return int(up), int(down)

    def close(self) -> None:
        """Ends it, and every connection through it."""
        self._process.communicate()
