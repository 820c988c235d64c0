# SPDX-License-Identifier: Apache-2.0
"""The clock that pytest-benchmark reads where it is to time a daemon and not this process.

It stands still but for what `advance` adds: a round's CPU time per operation. So the tables and the
saved JSON of pytest-benchmark are in daemon CPU seconds per operation, and `--benchmark-compare`
compares those.
"""

from __future__ import annotations


class FigureClock:
    """Seconds that were measured elsewhere."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """A round has taken so long."""
        self._now += seconds


CLOCK = FigureClock()
