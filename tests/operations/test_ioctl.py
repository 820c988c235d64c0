# SPDX-License-Identifier: Apache-2.0
"""IOCTL: the four commands behind chattr, lsattr and project ids; nothing else."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import FS_IMMUTABLE_FL, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, ioctl_flags
from tests.vmm.fuse_flags import IOCTL_DIR, IOCTL_UNRESTRICTED

if TYPE_CHECKING:
    from tests.operations.scene import Scene

FSGETXATTR = 0x801C581F
FSSETXATTR = 0x401C5820
NODUMP = 0x40
XFLAG_NODUMP = 0x80


def flags_of(path: bytes) -> int:
    """What lsattr shows."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))[0])
    finally:
        os.close(fd)


@pytest.mark.promise("ioctl-1")
@pytest.mark.parametrize("name", [b"file", b"dir"])
def test_flags_are_the_hosts(scene: Scene, name: bytes) -> None:
    opened = scene.opendir(name) if name == b"dir" else scene.open(name, os.O_RDONLY)
    flags = IOCTL_DIR if name == b"dir" else 0
    result, data = scene.fs.ioctl(*opened, FS_IOC_GETFLAGS, out_size=4, flags=flags)
    before = flags_of(scene.path(name))
    assert (result, struct.unpack("i", data)[0]) == (0, before)
    wanted = struct.pack("i", before | NODUMP)
    assert scene.fs.ioctl(*opened, FS_IOC_SETFLAGS, wanted, flags=flags) == (0, b"")
    assert flags_of(scene.path(name)) == before | NODUMP


@pytest.mark.promise("ioctl-1")
def test_extended_flags_are_the_hosts(scene: Scene) -> None:
    nodeid, fh = scene.open(b"file", os.O_RDONLY)
    _, data = scene.fs.ioctl(nodeid, fh, FSGETXATTR, out_size=28)
    fd = os.open(scene.path(b"file"), os.O_RDONLY)
    assert data == fcntl.ioctl(fd, FSGETXATTR, bytes(28))
    xflags = struct.unpack_from("I", data)[0] | XFLAG_NODUMP
    scene.fs.ioctl(nodeid, fh, FSSETXATTR, struct.pack("I", xflags) + data[4:])
    assert struct.unpack_from("I", fcntl.ioctl(fd, FSGETXATTR, bytes(28)))[0] == xflags
    os.close(fd)
    assert flags_of(scene.path(b"file")) & NODUMP


@pytest.mark.promise("ioctl-2")
def test_who_may_set_what(scene: Scene) -> None:
    """The owner what harms nobody else; what binds even root takes root, as on the host."""
    os.chown(scene.path(b"file"), 1000, 1000)
    nodeid, fh = scene.open(b"file", os.O_RDONLY)
    before = flags_of(scene.path(b"file"))
    for uid, bits, allowed in (
        (2000, NODUMP, False),
        (1000, FS_IMMUTABLE_FL, False),
        (1000, NODUMP, True),
        (0, NODUMP | FS_IMMUTABLE_FL, True),
    ):
        data = struct.pack("i", before | bits)
        if allowed:
            scene.fs.ioctl(nodeid, fh, FS_IOC_SETFLAGS, data, uid=uid, gid=uid)
            assert flags_of(scene.path(b"file")) == before | bits
        else:
            with pytest.raises(PermissionError):
                scene.fs.ioctl(nodeid, fh, FS_IOC_SETFLAGS, data, uid=uid, gid=uid)
            assert flags_of(scene.path(b"file")) == before
    with pytest.raises(PermissionError):
        scene.fs.unlink(scene.top, b"file")
    ioctl_flags(scene.path(b"file"), lambda _: before)


@pytest.mark.promise("ioctl-3")
@pytest.mark.parametrize(
    "cmd",
    [0x5401, 0x5413, 0x80087601, 0xC0189436, 0x40086604, 0x1277, 0, 0xFFFF_FFFF, 0x40049409],
    ids=hex,
)
def test_no_other_command_reaches_the_host(scene: Scene, cmd: int) -> None:
    nodeid, fh = scene.open(b"file")
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        scene.fs.ioctl(nodeid, fh, cmd, bytes(64), 64)


@pytest.mark.promise("ioctl-3")
def test_an_unrestricted_ioctl_is_refused(scene: Scene) -> None:
    """It would have the daemon say which of the caller's memory to copy."""
    nodeid, fh = scene.open(b"file")
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        scene.fs.ioctl(nodeid, fh, FS_IOC_GETFLAGS, out_size=4, flags=IOCTL_UNRESTRICTED)


@pytest.mark.parametrize(("cmd", "size"), [(FS_IOC_GETFLAGS, 3), (FSGETXATTR, 27)])
def test_a_wrong_size_is_refused(scene: Scene, cmd: int, size: int) -> None:
    nodeid, fh = scene.open(b"file")
    with pytest.raises(OSError, match="Invalid argument"):
        scene.fs.ioctl(nodeid, fh, cmd, out_size=size)
