# SPDX-License-Identifier: Apache-2.0
"""A remote plane with a guest on one side and a clerk on the other, who answers its mail.

No daemon and no socket: the rings of the fake VMM are handed to the plane directly.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
import time
from typing import TYPE_CHECKING, Self

from ovfs.native import Attr, Entry, MemRegion, PlaneOptions, Vring
from ovfs.native.mailbox import Mail, Mailbox, Note
from ovfs.native.plane import Plane
from tests.vmm import Opcode, Vmm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT_INO = 1


def attr_of(
    size: int = 0, mode: int = stat.S_IFREG | 0o644, mtime_ns: int = 10**9, flags: int = 0
) -> Attr:
    return Attr(
        size=size,
        atime_ns=mtime_ns,
        mtime_ns=mtime_ns,
        ctime_ns=mtime_ns,
        mode=mode,
        nlink=1,
        uid=1000,
        gid=100,
        flags=flags,
    )


DIRECTORY = attr_of(mode=stat.S_IFDIR | 0o755)


def entry_of(ino: int, attr: Attr | None = None, valid: float = 60.0) -> Entry:
    return Entry(ino=ino, attr=attr or attr_of(), attr_valid=valid, entry_valid=valid)


class Clerk:
    """Takes mail in a thread of its own, which is the plane's remote thread.

    Attributes:
        answers: What to do about each opcode; a mail of another one is kept open.
        seen: All mail but notes, in the order in which it was taken.
        notes: (note, ino), likewise.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.answers: dict[int, Callable[[Mail], object]] = {}
        self.seen: list[Mail] = []
        self.notes: list[tuple[Note, int]] = []
        self._calls: list[Callable[[], object]] = []
        self._results: list[object] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="clerk")
        self._thread.start()

    def close(self) -> None:
        self._ends = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.mailbox.fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._ends:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    os.eventfd_read(fd)
                    self._do_calls()
                else:
                    self._take()

    def _do_calls(self) -> None:
        with self._changed:
            calls, self._calls = self._calls, []
        for call in calls:
            result = call()
            with self._changed:
                self._results.append(result)
                self._changed.notify_all()

    def _take(self) -> None:
        for mail in self.mailbox.take():
            with self._changed:
                if mail.is_note:
                    self.notes.append((Note(mail.opcode), mail.ino))
                else:
                    self.seen.append(mail)
                self._changed.notify_all()
            answer = None if mail.is_note else self.answers.get(mail.opcode)
            if answer is not None:
                answer(mail)

    def call(self, what: Callable[[], object]) -> object:
        """Have the clerk's thread do something; returns its result."""
        with self._changed:
            self._results.clear()
            self._calls.append(what)
            os.eventfd_write(self._wake, 1)
            assert self._changed.wait_for(lambda: self._results, 10)
            return self._results.pop()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the clerk's thread from taking mail meanwhile."""
        began, ends = threading.Event(), threading.Event()

        def wait() -> bool:
            began.set()
            return ends.wait(10)

        helper = threading.Thread(target=self.call, args=(wait,))
        helper.start()
        try:
            assert began.wait(10)
            yield
        finally:
            ends.set()
            helper.join()

    def wait(self, *opcodes: Opcode) -> list[Mail]:
        """Wait until mail of exactly these opcodes was seen since the last `forget`."""
        wanted = [int(opcode) for opcode in opcodes]
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.seen) >= len(wanted), 10)
            assert done, self.seen
            assert [mail.opcode for mail in self.seen] == wanted
            return list(self.seen)

    def wait_note(self, note: Note, ino: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (note, ino) in self.notes, 10), self.notes

    def forget(self) -> None:
        with self._changed:
            self.seen.clear()
            self.notes.clear()


class Scene:
    """A running remote plane with its guest; closed in the only order that is allowed."""

    def __init__(
        self, *, queue_size: int = 128, xattr: bool = True, readonly: bool = False
    ) -> None:
        self._stack = contextlib.ExitStack()
        try:
            self._open(queue_size, xattr=xattr, readonly=readonly)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, queue_size: int, *, xattr: bool, readonly: bool) -> None:
        read_end, write_end = os.pipe2(os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC)
        mail_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for fd in (read_end, write_end, mail_fd):
            self._stack.callback(os.close, fd)
        options = PlaneOptions(
            root_fd=-1,
            event_fd=write_end,
            queues=2,
            fd_cache=0,
            xattr=xattr,
            readonly=readonly,
            remote=True,
            mail_fd=mail_fd,
        )
        self.vmm = self._stack.enter_context(Vmm(None, queues=1, queue_size=queue_size))
        self.plane = self._stack.enter_context(Plane(options))
        self.clerk = Clerk(Mailbox(self.plane))
        self._stack.callback(self.clerk.close)
        self.mailbox = self.clerk.mailbox
        self.plane.set_memory(self.regions())
        for index in range(2):
            self.start(index)
        self.fuse = self.vmm.fuse()
        self.fuse.init()
        self.clerk.wait_note(Note.RESET, 0)
        self.clerk.forget()
        self.clerk.call(lambda: self.mailbox.set_attr(ROOT_INO, DIRECTORY, 60.0))

    def regions(self) -> list[MemRegion]:
        memory = self.vmm.memory
        return [
            MemRegion(
                region.guest_addr,
                region.size,
                region.user_addr,
                region.mmap_offset,
                memory.fd(index),
            )
            for index, region in memory.regions.items()
        ]

    def start(self, index: int, base: int = 0) -> None:
        ring = self.vmm.queues[index].ring
        user = self.vmm.memory.user_addr
        self.plane.start_queue(
            index,
            Vring(
                num=ring.size,
                base=base,
                desc_addr=user(ring.desc_addr),
                avail_addr=user(ring.avail_addr),
                used_addr=user(ring.used_addr),
                kick_fd=ring.kick_fd,
                call_fd=ring.call_fd,
                err_fd=-1,
                event_idx=True,
                indirect=True,
            ),
        )

    def stop(self, index: int = 1) -> float:
        """Stop a queue and start it again; returns the seconds that stopping took."""
        began = time.monotonic()
        base = self.plane.stop_queue(index)
        took = time.monotonic() - began
        assert base is not None
        self.start(index, base)
        return took

    def wait_in_flight(self, count: int) -> None:
        """Wait until the queues have taken so many requests and not answered them."""
        deadline = time.monotonic() + 10
        while self.plane.stats().in_flight != count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def enter(self, name: bytes, entry: Entry, parent: int = 1) -> int:
        """Have the guest look a name up; returns its node id."""
        self.clerk.answers[Opcode.LOOKUP] = lambda mail: self.mailbox.entry(mail.tag, entry)
        nodeid = self.fuse.lookup(parent, name).nodeid
        del self.clerk.answers[Opcode.LOOKUP]
        self.clerk.forget()
        return nodeid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()
