# SPDX-License-Identifier: Apache-2.0
"""The directory of one test, below the root of a share, and its twin, which no guest reaches.

Both begin alike:

    file        ten bytes, mode 0644            link        a symlink to "file"
    empty       no bytes                        dangling    a symlink to "nowhere"
    tool        ten bytes, mode 0755            fifo, sock, null    a FIFO, a socket, a device
    dir         an empty directory
    full        a directory with one file, "child"
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
import subprocess
from typing import TYPE_CHECKING, Any, Self

from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.operations.share import Share
    from tests.vmm.fuse_wire import Attr

CONTENT = b"0123456789"

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IMMUTABLE_FL = 0x10


def fill(top: bytes) -> None:
    """Makes a scene's objects; the process's umask does not matter."""
    os.mkdir(top)
    for name, content, mode in (
        (b"file", CONTENT, 0o644),
        (b"empty", b"", 0o644),
        (b"tool", CONTENT, 0o755),
    ):
        make_file(top + b"/" + name, content, mode)
    for name in (b"dir", b"full"):
        os.mkdir(top + b"/" + name)
    make_file(top + b"/full/child", CONTENT, 0o644)
    os.symlink(b"file", top + b"/link")
    os.symlink(b"nowhere", top + b"/dangling")
    os.mkfifo(top + b"/fifo")
    os.mknod(top + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(top + b"/sock")
    for name in (b"", b"/dir", b"/full", b"/sock"):
        set_mode(top + name, 0o755)
    for name in (b"/fifo", b"/null"):
        set_mode(top + name, 0o666)


def make_file(path: bytes, content: bytes = b"", mode: int = 0o644) -> None:
    """Writes a file on the host."""
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)


def set_mode(path: bytes, mode: int) -> None:
    """chmod(2), set-id bits and all."""
    os.chmod(path, mode)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or the name of its errno: two of them can be compared."""
    try:
        return call()
    except OSError as error:
        return os.strerror(error.errno or 0)


class Scene:
    """A filled directory, seen by the guest and by the host, and its twin.

    Attributes:
        top: The directory's node id.
        twin: The path of the twin.
    """

    def __init__(self, share: Share, name: bytes, path: bytes, twin: bytes) -> None:
        self.share = share
        self.fs = share.fs
        self._path = path
        self.twin = twin
        self._stack = contextlib.ExitStack()
        fill(path)
        fill(twin)
        self.top = self.fs.lookup(ROOT_ID, name).nodeid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def on_exit(self, callback: Callable[..., object], *args: object) -> None:
        """Undone when the scene ends, the last thing first."""
        self._stack.callback(callback, *args)

    def path(self, name: bytes = b"") -> bytes:
        """Where the host has a name of the scene."""
        return self._path + b"/" + name if name else self._path

    def both(self, act: Callable[[bytes], object]) -> None:
        """Does something on the host, to the scene and to its twin."""
        act(self._path)
        act(self.twin)

    def node(self, name: bytes) -> int:
        """The node id of a path below the scene, looked up name by name."""
        nodeid = self.top
        for part in name.split(b"/"):
            nodeid = self.fs.lookup(nodeid, part).nodeid
            assert nodeid != 0, name
        return nodeid

    def open(self, name: bytes, flags: int = os.O_RDWR) -> tuple[int, int]:
        """Node id and handle of a file that the guest opens."""
        nodeid = self.node(name)
        return nodeid, self.fs.open(nodeid, flags).fh

    def opendir(self, name: bytes = b"") -> tuple[int, int]:
        """Node id and handle of a directory that the guest opens; the scene's own without name."""
        nodeid = self.node(name) if name else self.top
        return nodeid, self.fs.opendir(nodeid).fh

    def freeze(self, name: bytes) -> None:
        """Makes an object and its twin immutable, so that what would change it is EPERM."""

        def put(top: bytes) -> None:
            path = top + b"/" + name
            ioctl_flags(path, lambda flags: flags | FS_IMMUTABLE_FL)
            self.on_exit(ioctl_flags, path, lambda flags: flags & ~FS_IMMUTABLE_FL)

        self.both(put)

    def mount(self, name: bytes = b"dir", options: str = "size=1m") -> None:
        """Mounts a tmpfs on a directory of the scene, and one on the twin's."""

        def put(top: bytes) -> None:
            target = top + b"/" + name
            words = [b"mount", b"-t", b"tmpfs", b"-o", options.encode(), b"ovfs-test", target]
            subprocess.run(words, check=True)
            self.on_exit(subprocess.run, [b"umount", b"-l", target])

        self.both(put)


def ioctl_flags(path: bytes, change: Callable[[int], int]) -> None:
    """Changes the flags that chattr(1) changes."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        (old,) = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", change(old)))
    finally:
        os.close(fd)


def brief(attr: Attr) -> tuple[int, ...]:
    """What an attribute tells about an object, as `brief_stat` has it."""
    size = 0 if stat.S_ISDIR(attr.mode) else attr.size
    return (attr.mode, attr.nlink, attr.uid, attr.gid, size, attr.rdev)


def brief_stat(st: os.stat_result) -> tuple[int, ...]:
    """The host's own word on an object, in the guest's encoding."""
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    major, minor = os.major(st.st_rdev), os.minor(st.st_rdev)
    rdev = (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
    return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, size, rdev)
