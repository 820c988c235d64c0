# SPDX-License-Identifier: Apache-2.0
"""A guest in QEMU, with KVM where that works and emulated where not."""

import socket
import subprocess
import tempfile
from pathlib import Path

from tests.guest import host
from tests.guest.image import image
from tests.guest.machine import Guest
from tests.guest.qmp import Qmp, connect


class QemuGuest(Guest):
    """A QEMU virtual machine.

    Args:
        share: the daemon's socket.
        scratch: a directory for logs and sockets.
        memory: the size of the guest's memory, as QEMU takes it.
        queues: the number of request queues of the share.
        queue_size: the number of descriptors of each.
        cpus: the number of virtual CPUs.
        mount_options: as for Guest.
    """

    TAG = "share"

    def __init__(
        self,
        share: Path,
        scratch: Path,
        *,
        memory: str = "768M",
        queues: int = 1,
        queue_size: int = 128,
        cpus: int = 1,
        mount_options: str | None = "defaults",
    ) -> None:
        super().__init__(self.TAG, scratch, mount_options)
        self._share = share
        self._memory = memory
        self._queues = queues
        self._queue_size = queue_size
        self._cpus = cpus
        self._sockets = tempfile.TemporaryDirectory(prefix="qemu-", dir=scratch)
        self._qmp: Qmp | None = None

    def qmp(self, command: str, **arguments: object) -> object:
        """Runs a command of QEMU's control protocol, such as `stop`, `cont` or `system_reset`."""
        if self._qmp is None:
            self._qmp = Qmp(self._control)
        return self._qmp.execute(command, **arguments)

    def kill(self) -> None:
        super().kill()
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        self._sockets.cleanup()

    @property
    def _control(self) -> Path:
        return Path(self._sockets.name, "qmp")

    @property
    def _commands(self) -> Path:
        return Path(self._sockets.name, "commands")

    def command_line(self) -> list[str]:
        """The whole command that starts the virtual machine."""
        machine = host.machine()
        kernel = host.guest_kernel()
        append = f"console={machine.console} ovfs.port=hvc0 panic=-1 quiet"
        return [
            machine.program,
            *machine.options,
            *host.accelerator_options(host.accelerator()),
            *("-smp", str(self._cpus), "-m", self._memory),
            # The daemon maps the guest's memory, so it has to be a file that can be shared.
            *("-object", f"memory-backend-memfd,id=memory,size={self._memory},share=on"),
            *("-numa", "node,memdev=memory"),
            *("-kernel", str(kernel.path), "-initrd", str(image(kernel.modules))),
            *("-append", append),
            *("-nodefaults", "-display", "none", "-nic", "none"),
            *("-serial", f"file:{self.console}"),
            *("-qmp", f"unix:{self._control},server=on,wait=off"),
            *("-chardev", f"socket,id=commands,path={self._commands},server=on,wait=off"),
            *("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=commands"),
            *("-chardev", f"socket,id=share,path={self._share}"),
            *("-device", self._share_device()),
        ]

    def _share_device(self) -> str:
        return (
            f"vhost-user-fs-pci,chardev=share,tag={self.tag},"
            f"num-request-queues={self._queues},queue-size={self._queue_size}"
        )

    def _spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        process = subprocess.Popen(
            self.command_line(), stdin=subprocess.DEVNULL, start_new_session=True
        )
        return process, connect(self._commands, timeout=20)
