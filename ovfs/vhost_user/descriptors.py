# SPDX-License-Identifier: Apache-2.0
"""File descriptors that came with a message, and who closes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType


class Descriptors:
    """Owns descriptors until somebody takes them; closes the rest.

    A front-end may send descriptors with any message, right or wrong. Leaving the ``with`` block
    closes whatever the message's handler did not take, so no path can leak one.
    """

    def __init__(self, fds: Iterable[int] = ()) -> None:
        self._fds = list(fds)

    def __len__(self) -> int:
        return len(self._fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, fds: Iterable[int]) -> None:
        """Own these too."""
        self._fds.extend(fds)

    def borrow(self) -> Sequence[int]:
        """Return all of them, still owned here."""
        return tuple(self._fds)

    def take(self) -> int:
        """Hand the first one over to the caller, who closes it from now on."""
        return self._fds.pop(0)

    def close(self) -> None:
        """Close what is still owned."""
        while self._fds:
            os.close(self._fds.pop())
