# SPDX-License-Identifier: Apache-2.0
"""The host's side of the model: an object that is held by a descriptor, as the guest holds a node.

A guest names objects by node ids, which stay valid through renames and removals. Its equal on the
host is a descriptor opened with O_PATH, and the calls that take one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.operations.host import linkat, renameat2_at
from tests.operations.scene import brief_stat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Held:
    """A node of the guest and what it is on the host's twin."""

    nodeid: int
    fd: int

    @property
    def path(self) -> bytes:
        """A path of the object itself, whatever has become of its names."""
        return b"/proc/self/fd/%d" % self.fd

    def stat(self) -> tuple[int, ...]:
        """Attributes, times left out."""
        return brief_stat(os.fstat(self.fd))

    @property
    def type(self) -> int:
        """S_IFREG and the like."""
        return stat.S_IFMT(os.fstat(self.fd).st_mode)

    def after(self, change: Callable[..., None], *args: int) -> tuple[int, ...]:
        """Attributes after a call on the object's path."""
        change(self.path, *args)
        return self.stat()

    def hold(self, name: bytes) -> int:
        """A descriptor of what a name in this directory refers to."""
        return os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.fd)

    def make(self, name: bytes, flags: int, mode: int) -> int:
        """open(2) with O_CREAT, no symlink followed."""
        return os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, mode, dir_fd=self.fd)

    def open(self, flags: int) -> int:
        """Another descriptor, for reading and writing."""
        return os.open(self.path, flags)

    def rename(self, name: bytes, newdir: Held, newname: bytes, flags: int) -> None:
        """renameat2(2)."""
        renameat2_at(self.fd, name, newdir.fd, newname, flags)

    def link(self, newdir: Held, newname: bytes) -> None:
        """linkat(2)."""
        linkat(self.path, newdir.fd, newname)

    def names(self) -> set[bytes]:
        """The directory's entries.

        Raises:
            FileNotFoundError: It was removed. The kernel says so; the C library makes it the end.
        """
        with self.real() as fd:
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "removed")
            return {os.fsencode(name) for name in os.listdir(fd)}

    @contextlib.contextmanager
    def real(self) -> Iterator[int]:
        """A descriptor that may be listed."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)
