# SPDX-License-Identifier: Apache-2.0
"""Real guest kernels on a directory that the daemon serves.

`Daemon` starts the daemon; `QemuGuest` and `UmlGuest` boot a kernel with the share mounted on /mnt,
and `run` commands in it; `boot` does both. All state lives below .cache/guest, so that a second run
boots what the first one built.
"""

from tests.guest.daemon import Daemon
from tests.guest.machine import Guest, GuestError, GuestTimeoutError, Job, Result
from tests.guest.qemu import QemuGuest
from tests.guest.session import boot, has_uml
from tests.guest.uml import UmlGuest

__all__ = [
    "Daemon",
    "Guest",
    "GuestError",
    "GuestTimeoutError",
    "Job",
    "QemuGuest",
    "Result",
    "UmlGuest",
    "boot",
    "has_uml",
]
