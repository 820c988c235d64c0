# SPDX-License-Identifier: Apache-2.0
"""What is due when: the earliest comes first, and giving something another time is cheap."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T", bound="Hashable")


class Agenda(Generic[T]):
    """Things with a time each, in any unit."""

    def __init__(self) -> None:
        self._turns: dict[T, int] = {}  # which entry of the heap counts
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = count()

    def set(self, thing: T, due: float) -> None:
        """Enter a thing, or give it another time."""
        turn = next(self._numbers)
        self._turns[thing] = turn
        heapq.heappush(self._heap, (due, turn, thing))

    def drop(self, thing: T) -> None:
        """Take a thing out, if it is there."""
        self._turns.pop(thing, None)

    def next_due(self) -> float | None:
        """Return the earliest time; None where there is nothing."""
        while self._heap:
            due, turn, thing = self._heap[0]
            if self._turns.get(thing) == turn:
                return due
            heapq.heappop(self._heap)
        return None

    def take(self, now: float) -> T | None:
        """Take out what is due first, if anything is due by now."""
        due = self.next_due()
        if due is None or due > now:
            return None
        thing = heapq.heappop(self._heap)[2]
        del self._turns[thing]
        return thing
