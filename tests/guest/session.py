# SPDX-License-Identifier: Apache-2.0
"""Daemon and guest in one go, for tests to which any kernel will do."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.guest.daemon import Daemon
from tests.guest.machine import Guest
from tests.guest.qemu import QemuGuest
from tests.guest.uml import UmlGuest

_UML_TAG = "share"


def has_uml() -> bool:
    """Says whether User-mode Linux exists for this architecture."""
    return platform.machine() == "x86_64"


@contextmanager
def boot(
    share: Path, scratch: Path, options: Sequence[str] = (), *, uml: bool | None = None
) -> Iterator[Guest]:
    """Serves a directory to a guest that has it mounted.

    Args:
        share: the directory.
        scratch: a directory for sockets and logs.
        options: options of `ovfs`.
        uml: User-mode Linux or QEMU; None takes the one that boots faster.
    """
    if uml is None:
        uml = has_uml()
    # User-mode Linux learns the tag from the daemon; QEMU 7.2 crashes on a daemon that has one.
    tag = ["--tag", _UML_TAG] if uml else []
    with Daemon(share, scratch, [*options, *tag]) as daemon:
        guest: Guest
        if uml:
            guest = UmlGuest(daemon.socket, scratch, tag=_UML_TAG)
        else:
            guest = QemuGuest(daemon.socket, scratch)
        with guest:
            yield guest
