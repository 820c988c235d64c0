# SPDX-License-Identifier: Apache-2.0
"""How far to read ahead: grows while reads turn out sequential, stays small while they are random.

Only reads that miss get here, and one that passes the mark: the data plane serves the rest, and
says when a reader has come half way through what was fetched ahead of it, so that the next half is
under way before it is needed.

                      front        mark              fetched
    . . . what was read | . . . . . . | . . . . . . . . . | not asked for yet

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
STRIDE = 8 * MIB  # a window that large ends at a multiple of it: requests are of one size then
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

    def on_miss(self, offset: int, length: int) -> range:
        """Return what to fetch ahead for a read that missed; what it reads itself is not in it."""
        end = offset + length
        if self.front - BACKWARDS <= offset <= max(self.fetched, self.front) + FORWARDS:
            if end <= self.front:
                return range(0)
            self.misses = 0
            return self._go_on(end)
        self.misses += 1
        self.size = FIRST
        self.front = self.fetched = end
        return range(0)

    def on_mark(self) -> range:
        """Return what to fetch ahead now that a reader has come to the mark."""
        return self._go_on(max(self.mark, self.front))

    def _go_on(self, front: int) -> range:
        self.size = min(self.size * 2, LARGEST)
        self.front = front
        begin = max(self.fetched, front)
        end = front + self.size
        if self.size >= STRIDE:
            end -= end % STRIDE
        self.fetched = max(begin, end)
        return range(begin, self.fetched)

    @property
    def mark(self) -> int:
        """The offset at which a reader needs what comes next; only of use while it goes on."""
        return self.fetched - self.size // 2

    @property
    def is_random(self) -> bool:
        """Whether the reader jumps about."""
        return self.misses >= RANDOM_MISSES
