# SPDX-License-Identifier: Apache-2.0
"""What a contender is asked to do, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from bench.remote.place import Place

MIB = 1 << 20
BLOCK = 4096


class Files(ABC):
    """Files of one contender, with empty caches when it was opened.

    Each method returns when a program that did the same would go on; for what was written, that
    means the contender's word that it is stored.
    """

    @abstractmethod
    def read(self, name: str, size: int) -> None:
        """Reads a file from start to end, 1 MiB at a time."""

    @abstractmethod
    def write(self, name: str, size: int) -> None:
        """Makes a file, writes it from start to end, fsyncs and closes it."""

    @abstractmethod
    def read_at(self, name: str, offsets: Sequence[int], depth: int) -> None:
        """Reads 4 KiB at each offset, so many at a time."""

    @abstractmethod
    def create(self, names: Sequence[str], data: bytes, writers: int) -> None:
        """Makes files of this content, closing each; so many at a time."""

    @abstractmethod
    def read_each(self, names: Sequence[str]) -> None:
        """Opens, reads and closes small files, one after the other."""

    @abstractmethod
    def list_long(self, directory: str) -> int:
        """Lists a directory with the attributes of everything in it; returns how many."""

    @abstractmethod
    def cpu_ns(self) -> int:
        """CPU time that the contender has used so far."""


@dataclass(frozen=True)
class Contender(ABC):
    """Somebody who can open files on a place.

    Attributes:
        name: What the report calls it.
        durable: Whether what is closed is stored.
    """

    name: str
    durable: bool

    @abstractmethod
    def open(self, place: Place) -> AbstractContextManager[Files]:
        """Everything fresh: a new mount, empty caches."""

    def missing(self) -> str | None:
        """What this machine lacks for it; None: nothing."""
        return None


def check(held: bool, otherwise: str) -> None:
    """Ends the run unless something held: figures of work that was not done mean nothing.

    Raises:
        RuntimeError: It did not.
    """
    if not held:
        raise RuntimeError(otherwise)
