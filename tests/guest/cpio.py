# SPDX-License-Identifier: Apache-2.0
"""Writes initramfs archives (cpio, "newc"), which the kernel unpacks into its first root.

Written here rather than by cpio(1) because a device node in the archive needs no privilege this
way, and because the bytes depend on nothing but the entries: no inode numbers, times or owners of
the host.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

_PAD = b"\0" * 3


class Archive:
    """One archive, written entry by entry.

    Args:
        out: where it goes; the caller closes it, after `finish`.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._entries = 0
        self._directories: set[str] = set()

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Adds a directory and those above it; one that is there already is kept."""
        for parent in reversed(Path(name).parents):
            if str(parent) != ".":
                self._directory(str(parent), 0o755)
        self._directory(name, mode)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Adds a regular file and the directories above it."""
        self._above(name)
        self._entry(name, stat.S_IFREG | mode, content)

    def symlink(self, name: str, target: str) -> None:
        """Adds a symbolic link and the directories above it."""
        self._above(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Adds a character device and the directories above it."""
        self._above(name)
        self._entry(name, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self) -> None:
        """Writes the trailer."""
        self._entry("TRAILER!!!", 0, b"")

    def _above(self, name: str) -> None:
        parent = os.path.dirname(name)
        if parent:
            self.directory(parent)

    def _directory(self, name: str, mode: int) -> None:
        if name not in self._directories:
            self._directories.add(name)
            self._entry(name, stat.S_IFDIR | mode, b"")

    def _entry(self, name: str, mode: int, body: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._entries += 1
        path = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._entries, mode, 0, 0, links, 0, len(body), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._padded(header + path)
        self._padded(body)

    def _padded(self, data: bytes) -> None:
        self._out.write(data)
        self._out.write(_PAD[: -len(data) % 4])
