# SPDX-License-Identifier: Apache-2.0
"""How far to read ahead: grows while reads turn out sequential, stays small while they are random.

Only reads that miss get here, since the data plane serves the rest. A reader that is quicker than
the network meets the edge of what has arrived all the time, so it is heard of often enough; one
that is slower finds everything there and costs one wait for each whole window.

    offset within or just behind what was fetched last     sequential: the window doubles
    elsewhere                                              random: the blocks asked for, no more

Requests of one reader arrive out of order (a guest keeps several in flight), hence the tolerance.
After a few random misses in an object that fits into the cache, the rest of it is fetched behind
the reader's back: at ten milliseconds a miss, the link carries megabytes in the time of one.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20

FIRST = 1 * MIB
LARGEST = 64 * MIB
BACKWARDS = 4 * MIB  # how far behind the front a late request of the same reader may lie
FORWARDS = 1 * MIB  # how far beyond what was fetched the next one may start
RANDOM_MISSES = 4


@dataclass(slots=True)
class ReadWindow:
    """The read-ahead of one file. Offsets and sizes in bytes."""

    size: int = FIRST
    front: int = 0  # behind the last byte that was asked for
    fetched: int = 0  # behind the last byte that was fetched ahead
    misses: int = 0  # in a row that were random

    def on_miss(self, offset: int, length: int) -> int:
        """Return up to which offset to fetch for a read that missed."""
        end = offset + length
        if self.front - BACKWARDS <= offset <= max(self.fetched, self.front) + FORWARDS:
            if end > self.front:
                self.size = min(self.size * 2, LARGEST)
                self.misses = 0
            self.front = max(self.front, end)
            self.fetched = max(self.fetched, self.front + self.size)
            return max(end, self.fetched)
        self.misses += 1
        self.size = FIRST
        self.front = self.fetched = end
        return end

    @property
    def is_random(self) -> bool:
        """Whether the reader jumps about."""
        return self.misses >= RANDOM_MISSES
