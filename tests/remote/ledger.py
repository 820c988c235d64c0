# SPDX-License-Identifier: Apache-2.0
"""What a service may hold after a daemon was killed: a guest's changes, and what was answered.

A file's life is a list of steps, each a write or a new size. A *version* is the content at a step
at which storing it was asked for: by a close, an fsync, a rename. The last one that was answered
is `acked`; later ones are `offered`. Which contents the service may then hold:

    durable       the acknowledged version or an offered one, whole
    background    the same; or, where the daemon was killed before it was uploaded, such a version
                  with what the guest wrote over it in the cache directory afterwards, in order and
                  up to some write (the last of those perhaps in part). What was cut off a file
                  later is not cut off a version.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that the guest wrote; not ones it added by setting the size."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """The guest set the size."""

    size: int


@dataclass(frozen=True, slots=True)
class Version:
    """A content that was to be stored, and how many steps of the file had led to it."""

    data: bytes
    steps: int


@dataclass(slots=True, eq=False)
class File:
    """A file of the guest, whatever its name is.

    Attributes:
        nodeid: The guest's name of it.
        live: What the guest reads.
        modes: What its mode may be on the service.
    """

    nodeid: int
    live: bytearray = field(default_factory=bytearray)
    acked: Version | None = None
    offered: list[Version] = field(default_factory=list)
    modes: set[int] = field(default_factory=lambda: {0o644})
    steps: list[Write | Resize] = field(default_factory=list)

    @classmethod
    def stored(cls, data: bytes) -> File:
        """One that is on the service, and that the guest has not met."""
        return cls(0, bytearray(data), Version(data, 0))

    def frozen(self) -> File:
        """What it is on the service now: a file that has no name any more is not stored again."""
        return replace(self, offered=list(self.offered), steps=list(self.steps))

    def begin(self, step: Write | Resize) -> None:
        """The guest asks for a step."""
        self.steps.append(step)

    def apply(self) -> None:
        """The last step was answered."""
        _apply(self.live, self.steps[-1])

    def offer(self) -> Version:
        """Storing what is there now is asked for."""
        version = Version(bytes(self.live), len(self.steps))
        self.offered.append(version)
        return version

    def ack(self, version: Version) -> None:
        """That was answered: nothing older is good enough any more."""
        self.acked = version
        self.offered = [each for each in self.offered if each.steps > version.steps]

    def versions(self) -> Iterator[Version]:
        """The versions that may be on the service."""
        if self.acked is not None:
            yield self.acked
        yield from self.offered

    def allows(self, data: bytes, *, patched: bool) -> bool:
        """Whether an object may hold this.

        Args:
            data: The object's.
            patched: Whether a version may have later writes over it.
        """
        return any(
            data == version.data or (patched and self._patches(version, data))
            for version in self.versions()
        )

    def _patches(self, version: Version, data: bytes) -> bool:
        """Whether later writes make the data of the version."""
        if len(data) != len(version.data):
            return False
        content = bytearray(version.data)
        for step in self.steps[version.steps :]:
            if isinstance(step, Resize):
                if step.size < len(content):
                    return False
                continue
            if _is_partial(content, step, data):
                return True
            content[step.offset : step.offset + len(step.data)] = step.data
            del content[len(version.data) :]
        return content == data


def _apply(content: bytearray, step: Write | Resize) -> None:
    size = step.size if isinstance(step, Resize) else step.offset
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if isinstance(step, Resize):
        del content[size:]
    else:
        content[step.offset : step.offset + len(step.data)] = step.data


def _is_partial(content: bytearray, step: Write, data: bytes) -> bool:
    """Whether the data is the content with the first bytes of a write over it, or none of them."""
    end = min(step.offset + len(step.data), len(content))
    if step.offset >= end:
        return content == data
    if content[: step.offset] != data[: step.offset] or content[end:] != data[end:]:
        return False
    new, there = step.data[: end - step.offset], data[step.offset : end]
    taken = _common(new, there)
    return content[step.offset + taken : end] == there[taken:]


def _common(one: bytes, other: bytes) -> int:
    """How many bytes of two equally long strings are the same from the beginning on."""
    low, high = 0, len(one)
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
