# SPDX-License-Identifier: Apache-2.0
"""Two hundred valid sessions, each spoilt at random from a seed that can be tried again alone.

    pytest tests/hostile/test_mutations.py -k 'seed_137'

A session opens, makes, reads, writes, renames and removes; what is sent of it is mangled in its
bytes, in its descriptors, or in both. Then this guest hangs up, and the next one is served.
"""

from __future__ import annotations

import os
import random
import struct
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.hostile.mangle import Desc, mangled, mangled_table
from tests.vmm import ROOT_ID, Opcode
from tests.vmm import fuse_pack as pack
from tests.vmm import fuse_wire as wire

if TYPE_CHECKING:
    from tests.hostile.prey import Prey
    from tests.vmm import FuseClient, Vmm

SEEDS: Final = 200
RAW: Final = 32
REQUESTS: Final = 12  # of each seed
ROOM: Final = 4096
PATIENCE: Final = 2.0  # seconds that an answer may take; some requests have none

Row = tuple[int, int, bytes]  # opcode, node, arguments


def _rows(fs: FuseClient) -> list[Row]:
    """A catalogue of requests that are all right, on things that are there."""
    node = fs.lookup(ROOT_ID, b"data").nodeid
    sub = fs.lookup(ROOT_ID, b"sub").nodeid
    link = fs.lookup(ROOT_ID, b"up").nodeid
    fh = fs.open(node, os.O_RDWR).fh
    listing = fs.opendir(ROOT_ID).fh
    lock = wire.FileLock(0, 10, 1, 1)
    create = wire.CreateIn(os.O_RDWR | os.O_CREAT, 0o644, 0).pack()
    return [
        (Opcode.LOOKUP, ROOT_ID, b"data\0"),
        (Opcode.GETATTR, node, bytes(16)),
        (
            Opcode.SETATTR,
            node,
            struct.pack("<II", 1, 0) + bytes(60) + struct.pack("<5I", 0o644, 0, 0, 0, 0),
        ),
        (Opcode.READLINK, link, b""),
        (Opcode.SYMLINK, sub, b"made\0../../outside\0"),
        (Opcode.MKNOD, sub, struct.pack("<IIII", 0o100644, 0, 0, 0) + b"node\0"),
        (Opcode.MKDIR, sub, struct.pack("<II", 0o755, 0) + b"dir\0"),
        (Opcode.UNLINK, sub, b"made\0"),
        (Opcode.RMDIR, sub, b"dir\0"),
        (Opcode.RENAME, sub, struct.pack("<Q", ROOT_ID) + b"node\0moved\0"),
        (Opcode.RENAME2, ROOT_ID, struct.pack("<QII", sub, 0, 0) + b"moved\0node\0"),
        (Opcode.LINK, sub, struct.pack("<Q", node) + b"linked\0"),
        (Opcode.OPEN, node, wire.OpenIn(os.O_RDWR, 0).pack()),
        (Opcode.READ, node, wire.ReadIn(fh, 0, ROOM).pack()),
        (Opcode.WRITE, node, wire.WriteIn(fh, 100, 64).pack() + bytes(64)),
        (Opcode.STATFS, ROOT_ID, b""),
        (Opcode.FLUSH, node, wire.FlushIn(fh, 1).pack()),
        (Opcode.FSYNC, node, wire.FsyncIn(fh, 0).pack()),
        (Opcode.SETXATTR, node, struct.pack("<IIII", 5, 0, 0, 0) + b"user.x\0value"),
        (Opcode.GETXATTR, node, struct.pack("<II", 100, 0) + b"user.x\0"),
        (Opcode.LISTXATTR, node, struct.pack("<II", 100, 0)),
        (Opcode.REMOVEXATTR, node, b"user.x\0"),
        (Opcode.OPENDIR, sub, bytes(8)),
        (Opcode.READDIR, ROOT_ID, wire.ReadIn(listing, 0, ROOM).pack()),
        (Opcode.READDIRPLUS, ROOT_ID, wire.ReadIn(listing, 0, ROOM).pack()),
        (Opcode.GETLK, node, pack.pack_lk(fh, 1, lock)),
        (Opcode.SETLK, node, pack.pack_lk(fh, 1, lock)),
        (Opcode.SETLKW, node, pack.pack_lk(fh, 2, lock)),
        (Opcode.ACCESS, node, bytes(8)),
        (Opcode.CREATE, sub, create + fs.create_extension() + b"new\0"),
        (Opcode.TMPFILE, sub, create + b"/\0"),
        (Opcode.FORGET, node, pack.pack_forget(1)),
        (Opcode.BATCH_FORGET, 0, pack.pack_batch_forget([(node, 1), (sub, 1)])),
        (Opcode.INTERRUPT, 0, struct.pack("<Q", 2)),
        (Opcode.FALLOCATE, node, wire.FallocateIn(fh, 0, 8192, 0).pack()),
        (Opcode.LSEEK, node, wire.LseekIn(fh, 0, 3).pack()),
        (Opcode.COPY_FILE_RANGE, node, wire.CopyFileRangeIn(fh, 0, node, fh, 8192, 100, 0).pack()),
        (Opcode.SYNCFS, ROOT_ID, bytes(8)),
        (Opcode.STATX, node, wire.StatxIn(0, 0, 0, 0xFFF).pack()),
        (Opcode.IOCTL, node, wire.IoctlIn(fh, 0, 0x80086601, 0, 0, 8).pack()),
        (Opcode.RELEASE, node, wire.ReleaseIn(fh).pack()),
        (Opcode.RELEASEDIR, ROOT_ID, wire.ReleaseIn(listing).pack()),
    ]


def _send_bytes(dice: random.Random, vmm: Vmm, request: bytes) -> None:
    queue = vmm.queues[dice.randrange(3)]
    queue.submit(request, dice.choice((0, 15, 16, 100, ROOM)) or 0)


def _send_table(dice: random.Random, vmm: Vmm, first: int, request: bytes) -> None:
    memory, ring = vmm.memory, vmm.queues[1].ring
    asked, answer = memory.alloc(8192, region=1), memory.alloc(8192, region=2)
    memory.write(asked, request[:4096])
    split = dice.randint(0, len(request))
    rows: list[Desc] = [
        (asked, split, 1, 1),
        (asked + split, len(request) - split, 1, 2),
        (answer, 16, 3, 3),
        (answer + 16, ROOM, 2, 0),
    ]
    ends = [at for r in memory.regions.values() for at in (r.guest_addr, r.guest_end)]
    rows = mangled_table(dice, rows, ends)
    if dice.random() < 0.5:
        table = memory.alloc(64, region=0)
        memory.write(table, b"".join(struct.pack("<QIHH", *row) for row in rows))
        rows = (
            mangled_table(dice, [(table, 64, 4, 0)], ends)
            if dice.random() < 0.3
            else [(table, 64, 4, 0)]
        )
    for at, (addr, length, flags, link) in enumerate(rows):
        ring.raw_desc(first + at, addr, length, flags, (first + link) & 0xFFFF)
    ring.raw_offer(first)
    ring.kick()


def _wait_a_little(vmm: Vmm) -> int:
    """Until all is answered, or will not be; returns what is not."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        left = 0
        for queue in vmm.queues:
            with queue._lock:
                queue._reap()
            left += queue.in_flight
        if left == 0:
            return 0
        time.sleep(0.002)
    return left


def _attack(seed: int, vmm: Vmm, first: int, fs: FuseClient) -> None:
    dice = random.Random(seed)
    rows = _rows(fs)
    for number in range(REQUESTS):
        opcode, node, args = dice.choice(rows)
        header = wire.InHeader(40 + len(args), opcode, 100_000 + 2 * number, node)
        request = header.pack() + args
        match dice.randrange(4):
            case 0:  # the arguments alone, so that the handler is reached
                args = mangled(dice, args or b"\0")
                header = wire.InHeader(40 + len(args), opcode, 100_000 + 2 * number, node)
                _send_bytes(dice, vmm, header.pack() + args)
            case 1:
                _send_bytes(dice, vmm, mangled(dice, request) or b"\0")
            case 2:
                _send_table(dice, vmm, first, request)
            case _:
                _send_table(dice, vmm, first, mangled(dice, request) or b"\0")


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed_{seed}")
def test_a_spoilt_session(seed: int, prey: Prey) -> None:
    with prey.guest(queue_size=128) as (vmm, fs):
        # Raw descriptors are taken before anything is sent; here they are the last of the table.
        _attack(seed, vmm, vmm.queues[1].ring.size - RAW, fs)
        _wait_a_little(vmm)
    prey.check_next()
    assert prey.daemon.running
