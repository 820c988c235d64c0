# SPDX-License-Identifier: Apache-2.0
"""Opcodes about open files and directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from tests.vmm import fuse_pack as pack
from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import FSYNC_FDATASYNC, LK_FLOCK, Opcode
from tests.vmm.ops_names import ENTRY, NameOps
from tests.vmm.requests import How, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vmm.requests import Pending

OPEN = wire.OpenOut.wire_size()


class FileOps(NameOps):
    """Opening, reading and writing, listing, locks and what else takes a handle."""

    def open(self, nodeid: int, flags: int = os.O_RDONLY, **how: Unpack[How]) -> wire.OpenOut:
        """OPEN; flags are those of the system call."""
        args = wire.OpenIn(flags, 0).pack()
        return wire.OpenOut.unpack(self.exact(Opcode.OPEN, nodeid, args, OPEN, **how))

    def opendir(self, nodeid: int, flags: int = os.O_RDONLY, **how: Unpack[How]) -> wire.OpenOut:
        """OPENDIR."""
        args = wire.OpenIn(flags, 0).pack()
        return wire.OpenOut.unpack(self.exact(Opcode.OPENDIR, nodeid, args, OPEN, **how))

    def _create(
        self, opcode: Opcode, parent: int, args: wire.CreateIn, name: bytes, how: How
    ) -> tuple[wire.Entry, wire.OpenOut]:
        data = self.exact(opcode, parent, args.pack() + name + b"\0", ENTRY + OPEN, **how)
        return wire.Entry.unpack(data), wire.OpenOut.unpack(data, ENTRY)

    def create(
        self,
        parent: int,
        name: bytes,
        flags: int = os.O_RDWR | os.O_CREAT,
        mode: int = 0o100644,
        *,
        umask: int = 0o022,
        groups: Sequence[int] = (),
        **how: Unpack[How],
    ) -> tuple[wire.Entry, wire.OpenOut]:
        """CREATE."""
        args = wire.CreateIn(flags, mode, umask)
        return self._create(Opcode.CREATE, parent, args, name, self.creating(how, groups))

    def tmpfile(
        self,
        parent: int,
        flags: int = os.O_RDWR | os.O_TMPFILE,
        mode: int = 0o100600,
        *,
        umask: int = 0o022,
        groups: Sequence[int] = (),
        **how: Unpack[How],
    ) -> tuple[wire.Entry, wire.OpenOut]:
        """TMPFILE; Linux sends "/" as the name."""
        args = wire.CreateIn(flags, mode, umask)
        return self._create(Opcode.TMPFILE, parent, args, b"/", self.creating(how, groups))

    def release(
        self,
        nodeid: int,
        fh: int,
        flags: int = 0,
        *,
        release_flags: int = 0,
        lock_owner: int = 0,
        **how: Unpack[How],
    ) -> None:
        """RELEASE."""
        args = wire.ReleaseIn(fh, flags, release_flags, lock_owner).pack()
        self.exact(Opcode.RELEASE, nodeid, args, 0, **how)

    def releasedir(self, nodeid: int, fh: int, **how: Unpack[How]) -> None:
        """RELEASEDIR."""
        self.exact(Opcode.RELEASEDIR, nodeid, wire.ReleaseIn(fh).pack(), 0, **how)

    def flush(self, nodeid: int, fh: int, *, lock_owner: int = 0, **how: Unpack[How]) -> None:
        """FLUSH."""
        self.exact(Opcode.FLUSH, nodeid, wire.FlushIn(fh, lock_owner).pack(), 0, **how)

    def fsync(self, nodeid: int, fh: int, *, datasync: bool = False, **how: Unpack[How]) -> None:
        """FSYNC."""
        args = wire.FsyncIn(fh, FSYNC_FDATASYNC if datasync else 0).pack()
        self.exact(Opcode.FSYNC, nodeid, args, 0, **how)

    def fsyncdir(self, nodeid: int, fh: int, *, datasync: bool = False, **how: Unpack[How]) -> None:
        """FSYNCDIR."""
        args = wire.FsyncIn(fh, FSYNC_FDATASYNC if datasync else 0).pack()
        self.exact(Opcode.FSYNCDIR, nodeid, args, 0, **how)

    def read(
        self,
        nodeid: int,
        fh: int,
        offset: int,
        size: int,
        *,
        flags: int = 0,
        **how: Unpack[How],
    ) -> bytes:
        """READ; shorter than asked at the end of the file."""
        args = wire.ReadIn(fh, offset, size, flags=flags).pack()
        return self.request(Opcode.READ, nodeid, args, size, **how)

    def submit_read(
        self, nodeid: int, fh: int, offset: int, size: int, **how: Unpack[How]
    ) -> Pending:
        """The first half of `read`."""
        return self.submit(Opcode.READ, nodeid, wire.ReadIn(fh, offset, size).pack(), size, **how)

    def write(
        self,
        nodeid: int,
        fh: int,
        offset: int,
        data: bytes,
        *,
        write_flags: int = 0,
        flags: int = 0,
        **how: Unpack[How],
    ) -> int:
        """WRITE; returns the bytes taken."""
        args = wire.WriteIn(fh, offset, len(data), write_flags, flags=flags).pack()
        size = wire.WriteOut.wire_size()
        reply = wire.WriteOut.unpack(self.exact(Opcode.WRITE, nodeid, args + data, size, **how))
        if reply.size > len(data):
            raise WireError(f"WRITE: {reply.size} of {len(data)} bytes taken")
        return reply.size

    def submit_write(
        self, nodeid: int, fh: int, offset: int, data: bytes, **how: Unpack[How]
    ) -> Pending:
        """The first half of `write`; `wait` returns a WriteOut's bytes."""
        args = wire.WriteIn(fh, offset, len(data)).pack()
        return self.submit(Opcode.WRITE, nodeid, args + data, wire.WriteOut.wire_size(), **how)

    def readdir(
        self, nodeid: int, fh: int, offset: int = 0, size: int = 4096, **how: Unpack[How]
    ) -> list[pack.Dirent]:
        """READDIR: one reply's entries from an offset on; none at the end."""
        args = wire.ReadIn(fh, offset, size).pack()
        return pack.unpack_dirents(self.request(Opcode.READDIR, nodeid, args, size, **how))

    def readdirplus(
        self, nodeid: int, fh: int, offset: int = 0, size: int = 4096, **how: Unpack[How]
    ) -> list[pack.Dirent]:
        """READDIRPLUS: entries that count as lookups, except "." and ".."."""
        args = wire.ReadIn(fh, offset, size).pack()
        data = self.request(Opcode.READDIRPLUS, nodeid, args, size, **how)
        return pack.unpack_dirents(data, plus=True)

    def list_names(self, nodeid: int, *, size: int = 4096, **how: Unpack[How]) -> list[bytes]:
        """OPENDIR, READDIR to the end, RELEASEDIR; without "." and ".."."""
        fh = self.opendir(nodeid, **how).fh
        names: list[bytes] = []
        offset = 0
        while entries := self.readdir(nodeid, fh, offset, size, **how):
            names.extend(entry.name for entry in entries)
            offset = entries[-1].off
        self.releasedir(nodeid, fh, **how)
        return [name for name in names if name not in {b".", b".."}]

    def fallocate(
        self, nodeid: int, fh: int, offset: int, length: int, mode: int = 0, **how: Unpack[How]
    ) -> None:
        """FALLOCATE."""
        args = wire.FallocateIn(fh, offset, length, mode).pack()
        self.exact(Opcode.FALLOCATE, nodeid, args, 0, **how)

    def lseek(self, nodeid: int, fh: int, offset: int, whence: int, **how: Unpack[How]) -> int:
        """LSEEK: SEEK_DATA or SEEK_HOLE."""
        args = wire.LseekIn(fh, offset, whence).pack()
        return int.from_bytes(self.exact(Opcode.LSEEK, nodeid, args, 8, **how), "little")

    def copy_file_range(
        self,
        source: tuple[int, int, int],
        target: tuple[int, int, int],
        length: int,
        flags: int = 0,
        **how: Unpack[How],
    ) -> int:
        """COPY_FILE_RANGE between two (node, handle, offset); returns the bytes copied."""
        nodeid, fh_in, off_in = source
        args = wire.CopyFileRangeIn(fh_in, off_in, *target, length, flags).pack()
        size = wire.WriteOut.wire_size()
        reply = self.exact(Opcode.COPY_FILE_RANGE, nodeid, args, size, **how)
        return wire.WriteOut.unpack(reply).size

    # Locks.

    def getlk(
        self, nodeid: int, fh: int, owner: int, lock: wire.FileLock, **how: Unpack[How]
    ) -> wire.FileLock:
        """GETLK: the lock in the way, or one of type F_UNLCK. Linux asks with pid 0."""
        args = pack.pack_lk(fh, owner, lock)
        size = wire.FileLock.wire_size()
        return wire.FileLock.unpack(self.exact(Opcode.GETLK, nodeid, args, size, **how))

    def setlk(
        self,
        nodeid: int,
        fh: int,
        owner: int,
        lock: wire.FileLock,
        *,
        flock: bool = False,
        **how: Unpack[How],
    ) -> None:
        """SETLK: EAGAIN where another holds it."""
        args = pack.pack_lk(fh, owner, lock, LK_FLOCK if flock else 0)
        self.exact(Opcode.SETLK, nodeid, args, 0, **how)

    def submit_setlkw(
        self,
        nodeid: int,
        fh: int,
        owner: int,
        lock: wire.FileLock,
        *,
        flock: bool = False,
        **how: Unpack[How],
    ) -> Pending:
        """The first half of `setlkw`."""
        args = pack.pack_lk(fh, owner, lock, LK_FLOCK if flock else 0)
        return self.submit(Opcode.SETLKW, nodeid, args, 0, **how)

    def setlkw(
        self,
        nodeid: int,
        fh: int,
        owner: int,
        lock: wire.FileLock,
        *,
        flock: bool = False,
        **how: Unpack[How],
    ) -> None:
        """SETLKW: waits for the lock."""
        self.wait(self.submit_setlkw(nodeid, fh, owner, lock, flock=flock, **how))

    def ioctl(
        self,
        nodeid: int,
        fh: int,
        cmd: int,
        data: bytes = b"",
        out_size: int = 0,
        *,
        arg: int = 0,
        flags: int = 0,
        **how: Unpack[How],
    ) -> tuple[int, bytes]:
        """IOCTL; returns its result and its data."""
        args = wire.IoctlIn(fh, flags, cmd, arg, len(data), out_size).pack() + data
        head = wire.IoctlOut.wire_size()
        reply = self.request(Opcode.IOCTL, nodeid, args, head + out_size, **how)
        return wire.IoctlOut.unpack(reply).result, reply[head:]
