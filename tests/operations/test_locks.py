# SPDX-License-Identifier: Apache-2.0
"""Record locks and flock: between owners, guests and the host; waits, and their ends."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.operations.rows_locks import ALICE, BOB, LAST, read_lock, unlock, write_lock
from tests.operations.share import PLAIN, Guest, Share
from tests.vmm.daemon import Daemon
from tests.vmm.fuse_flags import RELEASE_FLOCK_UNLOCK, Init

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.operations.scene import Scene
    from tests.vmm import FuseClient, Pending

CAROL = 0xCA201


def busy(call: Callable[[], object]) -> bool:
    """Whether somebody else's lock is in the way."""
    try:
        call()
    except BlockingIOError:
        return True
    return False


def host_can_lock(
    path: bytes, kind: int = fcntl.LOCK_EX, *, start: int = 0, length: int = 0
) -> bool:
    """Whether a process of the host gets a record lock."""
    with open(path, "r+b") as file:
        return not busy(lambda: fcntl.lockf(file, kind | fcntl.LOCK_NB, length, start))


def is_waiting(pending: Pending) -> bool:
    """Whether no reply has come, after a time in which one would have."""
    time.sleep(0.02)
    return not pending.queue.poll(pending.token)


@pytest.mark.promise("lock-1")
def test_two_owners_exclude_each_other(scene: Scene) -> None:
    fs = scene.fs
    nodeid, fh = scene.open(b"file")
    other = fs.open(nodeid, os.O_RDWR).fh
    fs.setlk(nodeid, fh, ALICE, write_lock(0, 4))
    assert busy(lambda: fs.setlk(nodeid, other, BOB, write_lock(4, 9), queue=2))
    assert busy(lambda: fs.setlk(nodeid, other, BOB, read_lock(0, 0)))
    fs.setlk(nodeid, other, BOB, write_lock(5, 9))
    fs.setlk(nodeid, fh, ALICE, read_lock(0, 4))
    fs.setlk(nodeid, other, BOB, read_lock(0, 4))
    assert busy(lambda: fs.setlk(nodeid, fh, ALICE, write_lock(0, 4)))


@pytest.mark.promise("lock-1")
def test_an_owner_does_not_exclude_itself(scene: Scene) -> None:
    """Whatever handles it uses: a lock is the owner's, in the file."""
    fs = scene.fs
    nodeid, fh = scene.open(b"file")
    other = fs.open(nodeid, os.O_RDWR).fh
    fs.setlk(nodeid, fh, ALICE, write_lock())
    fs.setlk(nodeid, other, ALICE, write_lock(3, 5))
    fs.setlk(nodeid, other, ALICE, unlock(0, 9))
    fs.setlk(nodeid, fh, BOB, write_lock(0, 9))
    assert busy(lambda: fs.setlk(nodeid, fh, BOB, write_lock(10, 10)))


@pytest.mark.promise("lock-2")
def test_locks_reach_the_host(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    scene.fs.setlk(nodeid, fh, ALICE, write_lock(0, 4))
    assert not host_can_lock(scene.path(b"file"), length=2)
    assert host_can_lock(scene.path(b"file"), start=5)
    with open(scene.path(b"file"), "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 5, 5)
        assert busy(lambda: scene.fs.setlk(nodeid, fh, ALICE, write_lock(5, 5)))
        found = scene.fs.getlk(nodeid, fh, ALICE, write_lock(0, 9))
        assert (found.start, found.end, found.type) == (5, 9, fcntl.F_WRLCK)


@pytest.mark.promise("lock-3")
@pytest.mark.parametrize("name", [b"file", b"tool"])
def test_flush_lets_go_of_the_owners_locks_on_that_file(scene: Scene, name: bytes) -> None:
    """close(2) of any descriptor drops the process's locks on the file, and no other's."""
    fs = scene.fs
    nodeid, fh = scene.open(name)
    fs.setlk(nodeid, fh, ALICE, write_lock(0, 4))
    fs.setlk(nodeid, fh, BOB, write_lock(5, 9))
    other_file = scene.open(b"empty")
    fs.setlk(*other_file, ALICE, write_lock())
    fs.flush(nodeid, fs.open(nodeid, os.O_RDWR).fh, lock_owner=ALICE)
    assert host_can_lock(scene.path(name), length=5)
    assert not host_can_lock(scene.path(name), start=5, length=1)
    assert not host_can_lock(scene.path(b"empty"))


@pytest.mark.promise("lock-4")
def test_getlk_names_who_is_in_the_way(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    lock = write_lock(2, 6)
    scene.fs.setlk(nodeid, fh, ALICE, type(lock)(lock.start, lock.end, lock.type, 4321))
    found = scene.fs.getlk(nodeid, fh, BOB, read_lock(5, LAST))
    assert (found.start, found.end, found.type, found.pid) == (2, 6, fcntl.F_WRLCK, 4321)
    assert scene.fs.getlk(nodeid, fh, ALICE, read_lock()).type == fcntl.F_UNLCK


@pytest.mark.promise("lock-5")
def test_a_waiting_lock_holds_nothing_up(scene: Scene) -> None:
    """Its own queue goes on serving, the unlock that it waits for included."""
    fs = scene.fs
    nodeid, fh = scene.open(b"file")
    fs.setlk(nodeid, fh, ALICE, write_lock())
    waiting = fs.submit_setlkw(nodeid, fh, BOB, write_lock(), queue=1)
    for _ in range(50):
        assert fs.read(nodeid, fh, 0, 4, queue=1) == b"0123"
        fs.getattr(nodeid, queue=1)
    assert is_waiting(waiting)
    fs.setlk(nodeid, fh, ALICE, unlock(), queue=1)
    assert fs.wait(waiting) == b""
    assert not host_can_lock(scene.path(b"file"))


@pytest.mark.promise("lock-5")
def test_waiting_for_the_host(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    with open(scene.path(b"file"), "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        waiting = scene.fs.submit_setlkw(nodeid, fh, ALICE, write_lock())
        assert is_waiting(waiting)
        fcntl.lockf(file, fcntl.LOCK_UN)
        assert scene.fs.wait(waiting) == b""


@pytest.mark.promise("lock-5")
def test_many_waiters_get_it_one_after_the_other(scene: Scene) -> None:
    fs = scene.fs
    nodeid, fh = scene.open(b"file")
    fs.setlk(nodeid, fh, ALICE, write_lock())
    owners = range(100, 110)
    waiting = {
        owner: fs.submit_setlkw(nodeid, fh, owner, write_lock(), queue=1 + owner % 2)
        for owner in owners
    }
    assert all(is_waiting(one) for one in waiting.values())
    fs.setlk(nodeid, fh, ALICE, unlock())
    while waiting:
        got = [owner for owner, one in waiting.items() if one.queue.poll(one.token)]
        assert len(got) <= 1
        for owner in got:
            fs.wait(waiting.pop(owner))
            fs.setlk(nodeid, fh, owner, unlock())


@pytest.mark.promise("lock-6")
def test_too_many_waiters_are_refused(memory_scene: Scene) -> None:
    """A quarter of a queue's places at most, so that there are places for what unlocks."""
    fs = memory_scene.fs
    nodeid, fh = memory_scene.open(b"file")
    fs.setlk(nodeid, fh, ALICE, write_lock())
    waiting = [fs.submit_setlkw(nodeid, fh, 100 + n, write_lock()) for n in range(100)]
    time.sleep(0.2)
    refused = [one for one in waiting if one.queue.poll(one.token)]
    assert 0 < len(refused) < 100
    for one in refused:
        assert fs.wait_reply(one)[0].error == -errno.ENOLCK
    fs.getattr(nodeid)
    for one in waiting:
        if one not in refused:
            fs.interrupt(one.unique)
            assert fs.wait_reply(one)[0].error == -errno.EINTR
    fs.setlk(nodeid, fh, ALICE, unlock())


@pytest.mark.promise("lock-7")
@pytest.mark.parametrize("flock", [False, True], ids=["posix", "flock"])
def test_an_interrupted_wait_is_over(scene: Scene, flock: bool) -> None:
    fs = scene.fs
    nodeid, fh = scene.open(b"file")
    other = fs.open(nodeid, os.O_RDWR).fh
    fs.setlk(nodeid, fh, ALICE, write_lock(), flock=flock)
    waiting = fs.submit_setlkw(nodeid, other, BOB, write_lock(), flock=flock, queue=2)
    assert is_waiting(waiting)
    fs.interrupt(waiting.unique)
    header, _ = fs.wait_reply(waiting)
    assert header.error == -errno.EINTR
    # It does not get the lock later on.
    fs.setlk(nodeid, fh, ALICE, unlock(), flock=flock)
    time.sleep(0.02)
    fs.setlk(nodeid, fs.open(nodeid, os.O_RDWR).fh, CAROL, write_lock(), flock=flock)


@pytest.mark.promise("lock-7")
def test_interrupting_what_is_over_does_nothing(scene: Scene) -> None:
    for unique in (0, 1, 12345, (1 << 64) - 1):
        scene.fs.interrupt(unique)
    assert scene.fs.getattr(scene.top).attr.nlink >= 2


@pytest.mark.promise("flock-1")
def test_flock_belongs_to_the_open_file(scene: Scene) -> None:
    fs = scene.fs
    nodeid, first = scene.open(b"file")
    second = fs.open(nodeid, os.O_RDONLY).fh
    fs.setlk(nodeid, first, ALICE, read_lock(), flock=True)
    fs.setlk(nodeid, second, BOB, read_lock(), flock=True)
    assert busy(lambda: fs.setlk(nodeid, first, ALICE, write_lock(), flock=True))
    fs.setlk(nodeid, second, BOB, unlock(), flock=True)
    fs.setlk(nodeid, first, ALICE, write_lock(), flock=True)
    with open(scene.path(b"file"), "rb") as file:
        assert busy(lambda: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB))


@pytest.mark.promise("flock-1")
def test_flock_and_record_locks_do_not_meet(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file")
    scene.fs.setlk(nodeid, fh, ALICE, write_lock(), flock=True)
    scene.fs.setlk(nodeid, fh, BOB, write_lock())


@pytest.mark.promise("flock-2")
@pytest.mark.parametrize("release_flags", [0, RELEASE_FLOCK_UNLOCK])
def test_release_lets_go_of_a_flock(scene: Scene, release_flags: int) -> None:
    nodeid, fh = scene.open(b"file")
    scene.fs.setlk(nodeid, fh, ALICE, write_lock(), flock=True)
    scene.fs.release(nodeid, fh, release_flags=release_flags)
    with open(scene.path(b"file"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.promise("lock-2")
@pytest.mark.parametrize("flock", [False, True], ids=["posix", "flock"])
def test_two_guests_on_one_directory(scene: Scene, flock: bool) -> None:
    """Two daemons, each with a guest: what the one locks is locked for the other."""
    name = os.path.basename(scene.path())
    with Daemon.start(scene.share.root, options=PLAIN) as daemon, Guest(daemon, queues=1) as guest:
        theirs: FuseClient = guest.fs
        node = theirs.lookup(theirs.lookup(1, name).nodeid, b"file").nodeid
        their_fh = theirs.open(node, os.O_RDWR).fh
        nodeid, fh = scene.open(b"file")
        scene.fs.setlk(nodeid, fh, ALICE, write_lock(), flock=flock)
        assert busy(lambda: theirs.setlk(node, their_fh, ALICE, write_lock(), flock=flock))
        waiting = theirs.submit_setlkw(node, their_fh, ALICE, write_lock(), flock=flock)
        assert is_waiting(waiting)
        scene.fs.setlk(nodeid, fh, ALICE, unlock(), flock=flock)
        assert theirs.wait(waiting) == b""
        assert busy(lambda: scene.fs.setlk(nodeid, fh, BOB, read_lock(), flock=flock))
        # A guest that is gone holds nothing.
        guest.close()
        scene.fs.setlkw(nodeid, fh, BOB, write_lock(), flock=flock)


@pytest.mark.promise("lock-8")
def test_a_session_that_ends_lets_go() -> None:
    with Share("tmpfs") as share, share.scene() as scene:
        nodeid, fh = scene.open(b"file")
        scene.fs.setlk(nodeid, fh, ALICE, write_lock())
        assert not host_can_lock(scene.path(b"file"))
        scene.fs.destroy()
        assert host_can_lock(scene.path(b"file"))


@pytest.mark.promise("lock-8")
def test_a_waiter_does_not_outlive_its_session() -> None:
    with Share("tmpfs") as share, share.scene() as scene:
        nodeid, fh = scene.open(b"file")
        with open(scene.path(b"file"), "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            waiting = scene.fs.submit_setlkw(nodeid, fh, ALICE, write_lock())
            assert is_waiting(waiting)
            started = time.monotonic()
            share.reconnect()
            assert time.monotonic() - started < 5
        assert host_can_lock(scene.path(b"file"))
        assert share.daemon.stop() == 0


@pytest.mark.promise("lock-9")
@pytest.mark.parametrize("flock", [False, True], ids=["posix", "flock"])
def test_without_the_options_locks_are_the_guests_own(flock: bool) -> None:
    """Its kernel is told not to send them; one that does is told that there are none."""
    with Share("tmpfs", ["--entry-timeout", "0"]) as share, share.scene() as scene:
        assert not share.fs.init_flags & (Init.POSIX_LOCKS | Init.FLOCK_LOCKS)
        nodeid, fh = scene.open(b"file")
        with pytest.raises(OSError, match="Function not implemented"):
            share.fs.setlk(nodeid, fh, ALICE, write_lock(), flock=flock)
        assert host_can_lock(scene.path(b"file"))


@pytest.mark.promise("lock-1")
def test_a_lock_on_a_file_that_only_may_be_read(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file", os.O_RDONLY)
    scene.fs.setlk(nodeid, fh, ALICE, read_lock())
    assert not host_can_lock(scene.path(b"file"))
    assert scene.fs.getlk(nodeid, fh, BOB, write_lock()).type == fcntl.F_RDLCK
