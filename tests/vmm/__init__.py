# SPDX-License-Identifier: Apache-2.0
"""A fake VMM: the frontend half of vhost-user-fs, with real split virtqueues in real shared memory.

    with Daemon.start(directory) as daemon, Vmm.connect(daemon.socket, queues=2) as vmm:
        fs = vmm.fuse()
        fs.init()
        entry = fs.lookup(ROOT_ID, b"name")

What happens per request is C (`vmm_api.h` and the files it speaks of), so that the benchmarks can
stand on it; what happens rarely is Python. In reading order:

    memory    regions of guest memory, an allocator    ring      a split ring, driver's half
    session   the vhost-user connection                queue     bytes on a ring, laid out at will
    machine   Vmm: all of these together               daemon    a daemon as a process
    fuse_*    the FUSE wire                            client    one method an opcode
    bench     many requests in flight, and their figures

Nothing in here shares code with ovfs: it is the other side, and reads the specifications itself.
"""

from tests.vmm.client import FuseClient
from tests.vmm.fuse_flags import ROOT_ID, Init, Opcode
from tests.vmm.machine import NULL_ECHO, NULL_SINGLE, NULL_SLEEP, Vmm
from tests.vmm.memory import DEFAULT_REGIONS, GuestMemory, Region
from tests.vmm.messages import Feature, ProtocolFeature, Request
from tests.vmm.queue import Layout, Queue
from tests.vmm.requests import Pending, WireError
from tests.vmm.ring import Ring, Segment, Used
from tests.vmm.session import BackendClosedError, BackendRefusedError, Session

__all__ = [
    "DEFAULT_REGIONS",
    "NULL_ECHO",
    "NULL_SINGLE",
    "NULL_SLEEP",
    "ROOT_ID",
    "BackendClosedError",
    "BackendRefusedError",
    "Feature",
    "FuseClient",
    "GuestMemory",
    "Init",
    "Layout",
    "Opcode",
    "Pending",
    "ProtocolFeature",
    "Queue",
    "Region",
    "Request",
    "Ring",
    "Segment",
    "Session",
    "Used",
    "Vmm",
    "WireError",
]
