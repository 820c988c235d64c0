# SPDX-License-Identifier: Apache-2.0
"""A guest that writes at random, the same for the same seed, and keeps account of the answers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.remote.expectation import NO_DOUBT, Doubt, Names
from tests.remote.ledger import File, Resize, Write
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.vmm import FuseClient

MIB: Final = 1 << 20
DIRS: Final = ("a", "b", "c")
LARGE: Final = 20
MAX_HANDLES: Final = 5


@dataclass(slots=True, eq=False)
class Handle:
    """A file that the guest has open for reading and writing."""

    file: File
    fh: int


class Workload:
    """Random changes.

    Args:
        fs: The guest's requests.
        names: What is there already; kept up to date.
        rng: Whence the choices come.
        before: Called before every request.
        background: Closes are answered when they are journalled.
    """

    def __init__(
        self,
        fs: FuseClient,
        names: Names,
        rng: random.Random,
        before: Callable[[], None],
        *,
        background: bool,
    ) -> None:
        self._fs = fs
        self._names = names
        self._rng = rng
        self._before = before
        self._background = background
        self._handles: list[Handle] = []
        self._choices: dict[Callable[[], None], int] = {
            self.make: 12,
            self.open: 6,
            self.write: 16,
            self.append: 8,
            self.resize: 4,
            self.resize_closed: 2,
            self.flush: 6,
            self.fsync: 5,
            self.close: 14,
            self.rename: 8,
            self.unlink: 4,
            self.chmod: 3,
            self.mkdir: 2,
            self.rmdir: 1,
            self.rename_directory: 1,
            self.large: 2,
            self.read: 4,
            self.pause: 4,
        }

    def step(self) -> None:
        """One random change; most of them are one request."""
        kinds = list(self._choices)
        self._rng.choices(kinds, [self._choices[kind] for kind in kinds])[0]()

    # ---- choosing ----

    def _file_name(self) -> str:
        directory = self._rng.choice(list(self._names.dirs))
        return self._join(directory, f"f{self._rng.randrange(5)}")

    def _join(self, directory: str, name: str) -> str:
        return f"{directory}/{name}" if directory else name

    def _existing(self) -> str | None:
        return self._rng.choice(sorted(self._names.files)) if self._names.files else None

    def _handle(self) -> Handle | None:
        return self._rng.choice(self._handles) if self._handles else None

    def _bytes(self) -> bytes:
        return self._rng.randbytes(self._rng.choice((1, 100, 4096, 5000, 20_000, 70_000)))

    def _parent(self, name: str) -> tuple[int, bytes]:
        directory, _, last = name.rpartition("/")
        return self._names.dirs[directory], last.encode()

    def _find(self, name: str) -> File:
        file = self._names.files[name]
        if not file.nodeid:
            self._before()
            file.nodeid = self._fs.lookup(*self._parent(name)).nodeid
        return file

    # ---- files ----

    def make(self) -> None:
        """Makes a file, or opens the one that is there, often to write it anew."""
        self._create(self._file_name(), self._rng.choice((0, os.O_TRUNC, os.O_TRUNC)))

    def _create(self, name: str, flags: int) -> Handle:
        if len(self._handles) >= MAX_HANDLES:
            self.close()
        file = self._names.files.get(name)
        if file is not None and flags & os.O_TRUNC:
            file.begin(Resize(0))
        self._before()
        entry, opened = self._fs.create(*self._parent(name), os.O_RDWR | os.O_CREAT | flags)
        if file is None:
            file = self._names.files[name] = File(entry.nodeid)
        elif flags & os.O_TRUNC:
            file.apply()
        file.nodeid = entry.nodeid
        return self._opened(file, opened.fh)

    def _opened(self, file: File, fh: int) -> Handle:
        handle = Handle(file, fh)
        self._handles.append(handle)
        return handle

    def open(self) -> None:
        """Opens a file that is there."""
        name = self._existing()
        if name is None or len(self._handles) >= MAX_HANDLES:
            return
        file = self._find(name)
        self._before()
        self._opened(file, self._fs.open(file.nodeid, os.O_RDWR).fh)

    def write(self) -> None:
        """Writes somewhere in a file."""
        handle = self._handle()
        if handle is not None:
            offset = self._rng.randrange(len(handle.file.live) + 10_000)
            self._write(handle, offset, self._bytes())

    def append(self) -> None:
        """Writes at the end of a file."""
        handle = self._handle()
        if handle is not None:
            self._write(handle, len(handle.file.live), self._bytes())

    def _write(self, handle: Handle, offset: int, data: bytes) -> None:
        handle.file.begin(Write(offset, data))
        self._before()
        assert self._fs.write(handle.file.nodeid, handle.fh, offset, data) == len(data)
        handle.file.apply()

    def resize(self) -> None:
        """Sets the size of an open file."""
        handle = self._handle()
        if handle is not None:
            self._resize(handle.file, handle.fh)

    def resize_closed(self) -> None:
        """Sets the size of a file by its node; where nobody has it open, that is stored."""
        name = self._existing()
        if name is not None:
            self._resize(self._find(name), None)

    def _resize(self, file: File, fh: int | None) -> None:
        size = self._rng.randrange(len(file.live) * 3 // 2 + 2)
        file.begin(Resize(size))
        if any(handle.file is file for handle in self._handles):
            self._before()
            self._fs.setattr(file.nodeid, size=size, fh=fh)
            file.apply()
        else:  # then it is stored as well
            file.apply()
            version = file.offer()
            self._before()
            self._fs.setattr(file.nodeid, size=size, fh=fh)
            file.ack(version)

    def flush(self) -> None:
        """What closing a duplicate of a descriptor sends."""
        handle = self._handle()
        if handle is not None:
            self._store(handle, self._fs.flush)

    def fsync(self) -> None:
        """Stores a file that stays open."""
        handle = self._handle()
        if handle is not None:
            self._store(handle, self._fs.fsync)

    def close(self) -> None:
        """Closes a file."""
        handle = self._handle()
        if handle is not None:
            self._close(handle)

    def _close(self, handle: Handle) -> None:
        self._store(handle, self._fs.flush)
        self._handles.remove(handle)
        self._store(handle, self._fs.release)

    def _store(self, handle: Handle, request: Callable[[int, int], None]) -> None:
        version = handle.file.offer()
        self._before()
        request(handle.file.nodeid, handle.fh)
        handle.file.ack(version)

    def large(self) -> None:
        """A file of 20 MiB, written in one go."""
        handle = self._create(self._file_name(), os.O_TRUNC)
        for number in range(LARGE):
            self._write(handle, number * MIB, self._rng.randbytes(MIB))
        if self._rng.random() < 0.7:
            self._close(handle)

    def chmod(self) -> None:
        """Changes a file's mode."""
        name = self._existing()
        if name is None:
            return
        file, mode = self._find(name), self._rng.choice((0o600, 0o640, 0o755))
        file.modes.add(mode)
        file.offer()
        self._before()
        self._fs.setattr(file.nodeid, mode=0o100000 | mode)
        file.modes = {mode}

    def read(self) -> None:
        """Reads a file and compares."""
        handle = self._handle()
        if handle is None:
            return
        file, data = handle.file, bytearray()
        while True:
            self._before()
            piece = self._fs.read(file.nodeid, handle.fh, len(data), MIB)
            data += piece
            if len(piece) < MIB:
                break
        assert data == file.live

    def pause(self) -> None:
        """Does nothing for a while."""
        self._before()
        time.sleep(self._rng.uniform(0.0, 0.3) if self._background else 0.01)

    # ---- names ----

    def rename(self) -> None:
        """Gives a file another name, which often another one has."""
        old, new = self._existing(), self._file_name()
        if old is None or old == new:
            return
        file, target = self._names.files[old], self._names.files.get(new)
        self._names.doubt = Doubt(moved={old: new})
        version = file.offer()
        stored = file.acked is not None or self._names.covers(old)
        self._before()
        self._fs.rename(*self._parent(old), *self._parent(new))
        self._names.move(old, new)
        self._names.doubt = NO_DOUBT
        if self._background:
            if target is not None and file.acked is None:
                file.ack(version)
        elif stored:
            file.ack(version)

    def unlink(self) -> None:
        """Removes a file, which may be open."""
        name = self._existing()
        if name is not None:
            self._names.doubt = Doubt(gone=frozenset({name}))
            self._before()
            self._fs.unlink(*self._parent(name))
            self._names.remove(name)
            self._names.doubt = NO_DOUBT

    def mkdir(self) -> None:
        """Makes a directory."""
        name = self._rng.choice(DIRS)
        if name not in self._names.dirs:
            self._names.doubt = Doubt(made=frozenset({name}))
            self._before()
            self._names.dirs[name] = self._fs.mkdir(ROOT_ID, name.encode()).nodeid
            self._names.doubt = NO_DOUBT

    def rmdir(self) -> None:
        """Removes a directory that is empty."""
        for name in sorted(set(self._names.dirs) - {""}):
            if not any(file.startswith(f"{name}/") for file in self._names.files):
                self._names.doubt = Doubt(gone=frozenset({name}))
                self._before()
                self._fs.rmdir(ROOT_ID, name.encode())
                del self._names.dirs[name]
                self._names.doubt = NO_DOUBT
                return

    def rename_directory(self) -> None:
        """Gives a directory, with all that is in it, a name that is free."""
        free = [name for name in DIRS if name not in self._names.dirs]
        taken = sorted(set(self._names.dirs) - {""})
        if not free or not taken:
            return
        old, new = self._rng.choice(taken), self._rng.choice(free)
        inside = [name for name in self._names.files if name.startswith(f"{old}/")]
        moved = {name: new + name[len(old) :] for name in inside}
        for name in inside:
            self._names.files[name].offer()
        self._names.doubt = Doubt(frozenset({old}), frozenset({new}), moved)
        self._before()
        self._fs.rename(ROOT_ID, old.encode(), ROOT_ID, new.encode())
        self._names.move_directory(old, new)
        self._names.doubt = NO_DOUBT
