# SPDX-License-Identifier: Apache-2.0
"""Every kind of request that asks the service, each about an object of its own, all at once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from tests.vmm import ROOT_ID, Opcode
from tests.vmm import fuse_wire as wire
from tests.vmm.ops_files import OPEN
from tests.vmm.ops_names import ATTR, ENTRY, PATH_MAX

if TYPE_CHECKING:
    from tests.remote.faulty import FaultyShare
    from tests.vmm import Pending

#: Beyond what is fetched whole when it is opened.
LARGE: Final = 3 << 20
#: Seconds that a test waits for an answer; the daemon's patience must end before.
LONG: Final = 150.0


class Every:
    """Requests, prepared while all is well.

    Args:
        share: With FRESH among its options, so that what is known does not answer.

    Attributes:
        new: Node id and handle of a new file that is not stored yet.
        old: Of one that is stored, and written to since.
    """

    def __init__(self, share: FaultyShare) -> None:
        self._share = share
        self._pending: dict[str, Pending] = {}
        self._began = 0.0
        bucket, fs = share.bucket, share.fs
        self.content = {
            name: os.urandom(5000) for name in ("looked", "known", "opened", "old", "gone", "moved")
        }
        self.content["read"] = os.urandom(LARGE)
        for name, data in self.content.items():
            bucket.put(name, data)
        bucket.put("link", b"target", {"mode": str(0o120777)})
        bucket.put("listed/inside", b"")
        bucket.put("tree/inside", b"")
        fs.mkdir(ROOT_ID, b"empty")
        self._nodes = {name: share.node(name) for name in ("known", "opened", "link")}
        self._read = share.open("read", os.O_RDONLY)
        self._listed = share.node("listed"), fs.opendir(share.node("listed")).fh
        self.new = share.make("new", b"new data")
        self.old = share.open("old")
        share.write(*self.old, b"newer")
        self._requests = self._made()

    def _made(self) -> dict[str, tuple[Opcode, int, bytes, int]]:
        """Opcode, node, arguments, and room for the reply."""
        umask = 0o022
        nodes = self._nodes
        create = wire.CreateIn(os.O_RDWR | os.O_CREAT, 0o100644, umask).pack()
        rename = wire.RenameIn(ROOT_ID).pack()
        read = wire.ReadIn(self._read[1], 2 << 20, 4096).pack()
        return {
            "lookup": (Opcode.LOOKUP, ROOT_ID, b"looked\0", ENTRY),
            "getattr": (Opcode.GETATTR, nodes["known"], wire.GetattrIn(0, 0).pack(), ATTR),
            "readlink": (Opcode.READLINK, nodes["link"], b"", PATH_MAX),
            "open": (Opcode.OPEN, nodes["opened"], wire.OpenIn(os.O_RDWR, 0).pack(), OPEN),
            "read": (Opcode.READ, self._read[0], read, 4096),
            "readdir": (
                Opcode.READDIR,
                self._listed[0],
                wire.ReadIn(self._listed[1], 0, 4096).pack(),
                4096,
            ),
            "create": (Opcode.CREATE, ROOT_ID, create + b"created\0", ENTRY + OPEN),
            "mknod": (
                Opcode.MKNOD,
                ROOT_ID,
                wire.MknodIn(0o100644, 0, umask).pack() + b"node\0",
                ENTRY,
            ),
            "mkdir": (
                Opcode.MKDIR,
                ROOT_ID,
                wire.MkdirIn(0o755, umask).pack() + b"made\0",
                ENTRY,
            ),
            "symlink": (Opcode.SYMLINK, ROOT_ID, b"symlink\0target\0", ENTRY),
            "flush": (Opcode.FLUSH, self.new[0], wire.FlushIn(self.new[1]).pack(), 0),
            "fsync": (Opcode.FSYNC, self.old[0], wire.FsyncIn(self.old[1], 0).pack(), 0),
            "unlink": (Opcode.UNLINK, ROOT_ID, b"gone\0", 0),
            "rmdir": (Opcode.RMDIR, ROOT_ID, b"empty\0", 0),
            "rename": (Opcode.RENAME, ROOT_ID, rename + b"moved\0elsewhere\0", 0),
            "rename tree": (Opcode.RENAME, ROOT_ID, rename + b"tree\0wood\0", 0),
        }

    def send(self) -> None:
        """Sends all of them at once."""
        self._began = time.monotonic()
        for name, (opcode, nodeid, args, room) in self._requests.items():
            self._pending[name] = self._share.fs.submit(opcode, nodeid, args, room, timeout=LONG)

    def wait(self) -> tuple[dict[str, int], float]:
        """Waits for all answers; returns the errno of each, and the seconds that the last took."""
        fs = self._share.fs
        errors = {name: -fs.wait_reply(one)[0].error for name, one in self._pending.items()}
        return errors, time.monotonic() - self._began
