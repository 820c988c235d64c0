# SPDX-License-Identifier: Apache-2.0
"""ovfs, with the fake VMM in a guest's place.

It sends what a Linux guest would send for the same system calls: names are looked up once (the
guest's dentry cache), a buffered write is one WRITE at a time, close is a FLUSH that is waited for
and a RELEASE that is not, sequential reading is a readahead of four requests of 1 MiB. Bulk data
goes through the C driver, so that this process does not take the CPU that the daemon needs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.remote.files import BLOCK, MIB, Contender, Files, check
from tests.vmm import fuse_wire as wire
from tests.vmm.bench import BenchResult, run_job
from tests.vmm.daemon import Daemon
from tests.vmm.fuse_flags import ROOT_ID, Opcode
from tests.vmm.machine import Vmm
from tests.vmm.ops_files import OPEN
from tests.vmm.ops_names import ENTRY

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from contextlib import AbstractContextManager

    from bench.remote.place import Place
    from tests.vmm.bench import Mode
    from tests.vmm.requests import Pending

READAHEAD: Final = 4
ARENA: Final = 2 * READAHEAD * MIB  # the driver clears it first, and the clock runs
REPLY_SECONDS: Final = 120.0
CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

#: A program in the guest: yields requests, is sent errno and reply of each.
if TYPE_CHECKING:
    Program = Generator[Pending, tuple[int, bytes], None]


class GuestFiles(Files):
    """Files of a daemon, seen by a guest that has just mounted them.

    Args:
        daemon: The daemon.
        vmm: A device on it.
    """

    def __init__(self, daemon: Daemon, vmm: Vmm) -> None:
        self.daemon = daemon
        self.vmm = vmm
        self.fs = vmm.fuse()
        self.fs.init()
        self._directories = {"": ROOT_ID}
        self._background: list[Pending] = []

    def cpu_ns(self) -> int:
        """CPU time of the daemon."""
        return self.daemon.cpu_ns()

    # Names

    def directory(self, path: str, *, make: bool = False) -> int:
        """The node of a directory, looked up once; made where it is missing."""
        if path not in self._directories:
            above, _, name = path.rpartition("/")
            parent = self.directory(above, make=make)
            try:
                node = self.fs.lookup(parent, name.encode()).nodeid
            except FileNotFoundError:
                node = 0
            if not node and make:
                node = self.fs.mkdir(parent, name.encode()).nodeid
            check(node != 0, f"{path} is missing")
            self._directories[path] = node
        return self._directories[path]

    def node(self, name: str) -> int:
        """The node of a file."""
        directory, _, last = name.rpartition("/")
        node = self.fs.lookup(self.directory(directory), last.encode()).nodeid
        check(node != 0, f"{name} is missing")
        return node

    # Large files

    def read(self, name: str, size: int) -> None:
        """Reads a file from start to end."""
        self.read_in_c(name, size)

    def read_in_c(self, name: str, size: int, mode: Mode = "sleep") -> BenchResult:
        """Reads a file from start to end; returns the driver's figures."""
        node = self.node(name)
        fh = self.fs.open(node, os.O_RDONLY).fh
        result = run_job(
            self.vmm,
            "read",
            nodeid=node,
            fh=fh,
            file_size=size,
            size=MIB,
            depth=READAHEAD,
            random=False,
            ops=size // MIB,
            mode=mode,
            arena=ARENA,
        )
        check(result.bytes == size, f"{result.bytes} bytes of {size} read")
        self.fs.release(node, fh)
        return result

    def write(self, name: str, size: int) -> None:
        """Makes a file, writes, fsyncs and closes it."""
        directory, _, last = name.rpartition("/")
        entry, opened = self.fs.create(self.directory(directory), last.encode(), CREATE_FLAGS)
        result = run_job(
            self.vmm,
            "write",
            nodeid=entry.nodeid,
            fh=opened.fh,
            file_size=size,
            size=MIB,
            depth=1,
            random=False,
            ops=size // MIB,
            mode="sleep",
            arena=ARENA,
        )
        check(result.bytes == size, f"{result.bytes} bytes of {size} written")
        self.fs.fsync(entry.nodeid, opened.fh, timeout=REPLY_SECONDS)
        self.fs.flush(entry.nodeid, opened.fh, timeout=REPLY_SECONDS)
        self.fs.release(entry.nodeid, opened.fh, timeout=REPLY_SECONDS)

    def read_at(self, name: str, offsets: Sequence[int], depth: int) -> None:
        """Reads 4 KiB at each offset."""
        node = self.node(name)
        fh = self.fs.open(node, os.O_RDONLY).fh
        left = iter(offsets)

        def reader() -> Program:
            for offset in left:
                error, data = yield self.fs.submit_read(node, fh, offset, BLOCK)
                check(not error and len(data) == BLOCK, f"errno {error}, {len(data)} bytes read")

        self.run([reader() for _ in range(depth)])
        self.fs.release(node, fh)

    # Small files

    def create(self, names: Sequence[str], data: bytes, writers: int) -> None:
        """Makes files of one directory, closing each; what is in them is the driver's."""
        (directory,) = {os.path.dirname(name) for name in names}
        result = run_job(
            self.vmm,
            "store_file",
            nodeid=self.directory(directory, make=True),
            names=[os.path.basename(name).encode() for name in names],
            size=len(data),
            depth=writers,
            ops=len(names),
            flags=CREATE_FLAGS,
            mode="sleep",
            arena=MIB,
            forget=False,
        )
        check(result.ops == len(names), f"{result.ops} files of {len(names)} made")

    def _close(self, node: int, fh: int) -> Program:
        """What close(2) waits for, and what it does not."""
        error, _ = yield self.fs.submit(Opcode.FLUSH, node, wire.FlushIn(fh, 0).pack(), 0)
        check(not error, f"FLUSH: {os.strerror(error)}")
        release = wire.ReleaseIn(fh).pack()
        self._background.append(self.fs.submit(Opcode.RELEASE, node, release, 0))

    def read_each(self, names: Sequence[str]) -> None:
        """Opens, reads and closes small files."""

        def reader() -> Program:
            fs = self.fs
            for name in names:
                directory, _, last = name.rpartition("/")
                parent = self.directory(directory)
                error, reply = yield fs.submit(Opcode.LOOKUP, parent, last.encode() + b"\0", ENTRY)
                check(not error, f"LOOKUP of {name}: {os.strerror(error)}")
                node = wire.Entry.unpack(reply).nodeid
                args = wire.OpenIn(os.O_RDONLY).pack()
                error, reply = yield fs.submit(Opcode.OPEN, node, args, OPEN)
                check(not error, f"OPEN of {name}: {os.strerror(error)}")
                fh = wire.OpenOut.unpack(reply).fh
                error, data = yield fs.submit_read(node, fh, 0, BLOCK)
                check(not error and len(data) == BLOCK, f"READ of {name}: {len(data)} bytes")
                yield from self._close(node, fh)

        self.run([reader()])

    def list_long(self, directory: str) -> int:
        """Lists a directory as `ls -l` does.

        A kernel looks up the names that came without a node, one after the other.
        """
        node = self.directory(directory)
        fh = self.fs.opendir(node, timeout=REPLY_SECONDS).fh
        offset = count = 0
        bare: list[bytes] = []
        while entries := self.fs.readdirplus(node, fh, offset, timeout=REPLY_SECONDS):
            offset = entries[-1].off
            count += len(entries)
            bare += [each.name for each in entries if not each.entry or not each.entry.nodeid]
        for name in bare:
            if name not in {b".", b".."}:
                self.fs.lookup(node, name, timeout=REPLY_SECONDS)
        self.fs.releasedir(node, fh)
        return count - 2  # "." and ".."

    # Many programs at once

    def run(self, programs: Sequence[Program]) -> None:
        """Runs programs side by side until all have ended and nothing is in flight.

        Raises:
            TimeoutError: A request is not answered.
        """
        waiting: dict[Program, Pending | None] = {each: next(each, None) for each in programs}
        deadline = time.monotonic() + REPLY_SECONDS
        while any(waiting.values()):
            idle = True
            for program, sent in waiting.items():
                if sent is not None and sent.queue.poll(sent.token):
                    idle = False
                    header, data = self.fs.wait_reply(sent)
                    try:
                        waiting[program] = program.send((-header.error, data))
                    except StopIteration:
                        waiting[program] = None
            if idle:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no reply for {REPLY_SECONDS} s")
                self.vmm.queues[1].ring.wait(0.1)
            else:
                deadline = time.monotonic() + REPLY_SECONDS
        for sent in self._background:
            self.fs.wait(sent)
        self._background.clear()


@dataclass(frozen=True)
class Ovfs(Contender):
    """ovfs on a service.

    Attributes:
        options: Of its command line.
    """

    name: str = "ovfs"
    durable: bool = True
    options: tuple[str, ...] = ()

    def open(self, place: Place) -> AbstractContextManager[GuestFiles]:
        """A new daemon with an empty cache directory."""
        return remote(place, self.options)


@contextlib.contextmanager
def remote(
    place: Place, options: Sequence[str] = (), program: Sequence[str] = ("-m", "ovfs")
) -> Iterator[GuestFiles]:
    """Ovfs on a service, with an empty cache directory.

    Args:
        place: Where.
        options: Of its command line.
        program: What Python is told to run, up to the socket.
    """
    cache = tempfile.mkdtemp(prefix="ovfs-bench-")
    url = place.service.url(place.root, endpoint=place.endpoint)
    command = (sys.executable, *program, "{socket}", "--cache-dir", cache, *options)
    try:
        with (
            Daemon.start("", command=command, env={"OVFS_BACKEND_URL": url}) as daemon,
            Vmm.connect(daemon.socket) as vmm,
        ):
            yield GuestFiles(daemon, vmm)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


@contextlib.contextmanager
def local(directory: str | os.PathLike[str]) -> Iterator[GuestFiles]:
    """Ovfs on a directory of this host, to measure the warm remote backend by."""
    with Daemon.start(directory) as daemon, Vmm.connect(daemon.socket) as vmm:
        yield GuestFiles(daemon, vmm)
