# SPDX-License-Identifier: Apache-2.0
"""A VMM in a process of its own, to be killed: it keeps reads, writes and a waiting lock in flight.

    python -m tests.process.victim SOCKET

It says "busy" once all of these are under way, and never ends by itself.
"""

from __future__ import annotations

import fcntl
import sys

from tests.process.place import opened
from tests.vmm import ROOT_ID, Vmm
from tests.vmm import fuse_wire as wire


def main() -> None:
    """Keeps the queues of one device full."""
    with Vmm.connect(sys.argv[1], queues=2) as vmm:
        fs = vmm.fuse()
        fs.init()
        node, fh = opened(fs)
        scratch, out = fs.create(ROOT_ID, b"scratch")
        lock = wire.FileLock(0, 100, fcntl.F_WRLCK, 1)
        fs.setlk(node, fh, 1, lock)
        fs.submit_setlkw(node, fh, 2, lock)
        turn = 0
        while True:
            pending = []
            for queue in (1, 2):
                for at in range(16):
                    offset = (turn + at) % 64 << 16
                    pending.append(fs.submit_read(node, fh, offset, 65536, queue=queue))
                    pending.append(
                        fs.submit_write(scratch.nodeid, out.fh, offset, bytes(4096), queue=queue)
                    )
            if turn == 1:
                print("busy", flush=True)
            for one in pending:
                fs.wait(one)
            turn += 1


if __name__ == "__main__":
    main()
