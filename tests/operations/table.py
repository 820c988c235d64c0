# SPDX-License-Identifier: Apache-2.0
"""What a row of the operations table says, and the short words rows are written with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.operations.scene import Scene
    from tests.vmm import Opcode
    from tests.vmm.requests import How

Guest: TypeAlias = "Callable[[Scene, How], object]"
Host: TypeAlias = "Callable[[bytes], object]"

#: Mode bits that no umask of the tests touches.
DIR_MODE = 0o755
FILE_MODE = 0o644
LONG = b"n" * 255
TOO_LONG = b"n" * 256


@dataclass(frozen=True)
class Refusal:
    """A request that fails, and how.

    Attributes:
        error: The errno.
        guest: Makes the request.
        host: Makes the same call in the twin, which must fail the same way. None where the host
            has no such call: the error is the protocol's own.
    """

    error: int
    guest: Callable[[Scene], object]
    host: Host | None = None


@dataclass(frozen=True)
class Row:
    """An opcode: what it does, whose name is on the result, how it fails.

    Attributes:
        opcode: Of the request.
        guest: Makes a request that succeeds, with these keywords (the caller, the queue); what it
            returns must be what `host` returns, and both trees alike afterwards.
        host: The same call in the twin; None where the host has none: then `guest` asserts.
        makes: A new object, which belongs to the caller.
        checks: What of the request the session must hold, else ESTALE or EBADF.
        refusals: How it fails.
    """

    opcode: Opcode
    guest: Guest
    host: Host | None = None
    makes: bytes | None = None
    checks: Literal["node", "handle", "nothing"] = "node"
    refusals: tuple[Refusal, ...] = ()


def touch(path: bytes, flags: int, mode: int = FILE_MODE) -> None:
    """open(2) and close(2)."""
    os.close(os.open(path, flags, mode))


def with_fd(path: bytes, flags: int, act: Callable[[int], object]) -> object:
    """What a call on an open descriptor returns."""
    fd = os.open(path, flags)
    try:
        return act(fd)
    finally:
        os.close(fd)


def done(_: object) -> None:
    """For a call whose result the host has no equal of."""


def frozen(name: bytes, act: Callable[[Scene], object]) -> Callable[[Scene], object]:
    """The call, on a scene in which that object is immutable."""

    def call(s: Scene) -> object:
        s.freeze(name)
        return act(s)

    return call


def mounted(options: str, act: Callable[[Scene], object]) -> Callable[[Scene], object]:
    """The call, on a scene whose "dir" is a small file system of its own."""

    def call(s: Scene) -> object:
        s.mount(b"dir", options)
        return act(s)

    return call
