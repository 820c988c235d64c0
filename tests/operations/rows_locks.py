# SPDX-License-Identifier: Apache-2.0
"""Rows about locks, and about interrupting a wait for one."""

from __future__ import annotations

import fcntl
import time
from errno import EAGAIN, EBADF, EINTR, EINVAL
from typing import TYPE_CHECKING

from tests.operations.table import Refusal, Row
from tests.vmm import Opcode
from tests.vmm.fuse_wire import FileLock

if TYPE_CHECKING:
    from tests.operations.scene import Scene
    from tests.vmm.requests import How

ALICE, BOB = 0xA11CE, 0xB0B
LAST = (1 << 63) - 1


def write_lock(start: int = 0, end: int = LAST) -> FileLock:
    """An exclusive lock of these bytes, the last one included."""
    return FileLock(start, end, fcntl.F_WRLCK, 1)


def read_lock(start: int = 0, end: int = LAST) -> FileLock:
    """A shared lock."""
    return FileLock(start, end, fcntl.F_RDLCK, 1)


def unlock(start: int = 0, end: int = LAST) -> FileLock:
    """No lock any more."""
    return FileLock(start, end, fcntl.F_UNLCK, 1)


def _setlk(s: Scene, how: How) -> None:
    nodeid, fh = s.open(b"file")
    s.fs.setlk(nodeid, fh, ALICE, write_lock(2, 4), **how)
    assert s.fs.getlk(nodeid, fh, BOB, write_lock()).start == 2
    assert s.fs.getlk(nodeid, fh, BOB, write_lock(5, 9)).type == fcntl.F_UNLCK


def _setlkw(s: Scene, how: How) -> None:
    nodeid, fh = s.open(b"file")
    s.fs.setlk(nodeid, fh, ALICE, write_lock())
    waiting = s.fs.submit_setlkw(nodeid, fh, BOB, write_lock(), **how)
    time.sleep(0.01)
    if waiting.queue.poll(waiting.token):
        s.fs.wait(waiting)
        raise AssertionError("SETLKW did not wait")
    s.fs.setlk(nodeid, fh, ALICE, unlock())
    assert s.fs.wait(waiting) == b""
    s.fs.setlk(nodeid, fh, BOB, unlock())


def _getlk(s: Scene, how: How) -> None:
    nodeid, fh = s.open(b"file")
    assert s.fs.getlk(nodeid, fh, BOB, write_lock(), **how).type == fcntl.F_UNLCK
    s.fs.setlk(nodeid, fh, ALICE, read_lock(1, 3))
    found = s.fs.getlk(nodeid, fh, BOB, write_lock(), **how)
    assert (found.start, found.end, found.type) == (1, 3, fcntl.F_RDLCK)


def _interrupt(s: Scene, how: How) -> None:
    nodeid, fh = s.open(b"file")
    s.fs.setlk(nodeid, fh, ALICE, write_lock())
    waiting = s.fs.submit_setlkw(nodeid, fh, BOB, write_lock(), **how)
    time.sleep(0.01)
    s.fs.interrupt(waiting.unique)
    header, _ = s.fs.wait_reply(waiting)
    assert header.error == -EINTR
    s.fs.flush(nodeid, fh, lock_owner=ALICE)


def _taken(s: Scene) -> None:
    nodeid, fh = s.open(b"file")
    s.fs.setlk(nodeid, fh, ALICE, write_lock(0, 9))
    s.fs.setlk(nodeid, fh, BOB, read_lock(9, 20))


def _taken_flock(s: Scene) -> None:
    s.fs.setlk(*s.open(b"file"), ALICE, write_lock(), flock=True)
    s.fs.setlk(*s.open(b"file"), BOB, write_lock(), flock=True)


BACKWARDS = FileLock(9, 3, fcntl.F_WRLCK, 1)
NO_TYPE = FileLock(0, 9, 77, 1)

ROWS = (
    Row(
        Opcode.SETLK,
        _setlk,
        checks="handle",
        refusals=(
            Refusal(EAGAIN, _taken),
            Refusal(EAGAIN, _taken_flock),
            Refusal(EINVAL, lambda s: s.fs.setlk(*s.open(b"file"), ALICE, BACKWARDS)),
            Refusal(EINVAL, lambda s: s.fs.setlk(*s.open(b"file"), ALICE, NO_TYPE)),
            Refusal(EINVAL, lambda s: s.fs.setlk(*s.open(b"file"), ALICE, NO_TYPE, flock=True)),
            Refusal(EBADF, lambda s: s.fs.setlk(*s.opendir(b"dir"), ALICE, write_lock())),
        ),
    ),
    Row(
        Opcode.SETLKW,
        _setlkw,
        checks="handle",
        refusals=(
            Refusal(EINVAL, lambda s: s.fs.setlkw(*s.open(b"file"), ALICE, BACKWARDS)),
            Refusal(EINVAL, lambda s: s.fs.setlkw(*s.open(b"file"), ALICE, NO_TYPE)),
        ),
    ),
    Row(
        Opcode.GETLK,
        _getlk,
        checks="handle",
        refusals=(
            Refusal(EINVAL, lambda s: s.fs.getlk(*s.open(b"file"), ALICE, unlock())),
            Refusal(EINVAL, lambda s: s.fs.getlk(*s.open(b"file"), ALICE, BACKWARDS)),
        ),
    ),
    Row(Opcode.INTERRUPT, _interrupt, checks="nothing"),
)
