# SPDX-License-Identifier: Apache-2.0
"""A guest in User-mode Linux: Debian's 6.1 kernel at nearly native speed.

Virtio-fs is a module of it. It is a process of the host: its memory is a file below TMPDIR that it
offers to the daemon, and the share's tag and number of queues are what the daemon tells it, so the
daemon must have been given a tag.
"""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.guest.image import image
from tests.guest.machine import Guest

_MODULES = Path("/usr/lib/uml/modules")
_VIRTIO_FS = 26  # the device number of virtio-fs in the virtio specification


class UmlGuest(Guest):
    """A User-mode Linux kernel.

    Args:
        share: the daemon's socket.
        scratch: a directory for logs.
        tag: the tag that the daemon was started with.
        memory: the size of the guest's memory.
        mount_options: as for Guest.
        more: sockets of more daemons, whose tags are their own; the guest mounts them itself.
    """

    def __init__(
        self,
        share: Path,
        scratch: Path,
        *,
        tag: str = "share",
        memory: str = "512M",
        mount_options: str | None = "defaults",
        more: Sequence[Path] = (),
    ) -> None:
        super().__init__(tag, scratch, mount_options)
        self._sockets = [share, *more]
        self._scratch = scratch
        self._memory = memory

    def _spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs, self.console.open("wb") as console:
            process = subprocess.Popen(
                self._command_line(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "TMPDIR": "/dev/shm", "HOME": str(self._scratch)},
            )
        return process, ours

    def _command_line(self, port: int) -> list[str]:
        return [
            "linux.uml",
            f"mem={self._memory}",
            f"initrd={image(_modules())}",
            *(f"virtio_uml.device={share}:{_VIRTIO_FS}" for share in self._sockets),
            *("con0=null,fd:1", "con=null", f"ssl0=fd:{port}", "ssl=null"),
            *("root=/dev/ram0", "rw", "quiet", "ovfs.port=ttyS0"),
        ]


def _modules() -> list[Path]:
    """The modules for virtio-fs, in the order in which they load."""
    return [next(_MODULES.glob(f"*/kernel/fs/fuse/{name}.ko")) for name in ("fuse", "virtiofs")]
