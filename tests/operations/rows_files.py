# SPDX-License-Identifier: Apache-2.0
"""Rows about opening and making files, reading and writing."""

from __future__ import annotations

import os
from errno import (
    EBADF,
    EEXIST,
    EFBIG,
    EINVAL,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENOSPC,
    ENOTDIR,
    ENXIO,
    EPERM,
    EROFS,
)
from typing import TYPE_CHECKING

from tests.operations.host import link_fd
from tests.operations.scene import set_mode
from tests.operations.table import (
    TOO_LONG,
    Refusal,
    Row,
    frozen,
    mounted,
    touch,
    with_fd,
)
from tests.vmm import Opcode
from tests.vmm import fuse_wire as wire

if TYPE_CHECKING:
    from tests.operations.scene import Scene
    from tests.vmm.requests import How

MAKE = os.O_RDWR | os.O_CREAT


def _open(s: Scene, how: How) -> None:
    nodeid = s.node(b"file")
    fh = s.fs.open(nodeid, os.O_RDWR | os.O_TRUNC, **how).fh
    s.fs.release(nodeid, fh)


def _create(s: Scene, how: How) -> None:
    entry, opened = s.fs.create(s.top, b"new", MAKE | os.O_EXCL, 0o6755, **how)
    assert s.fs.write(entry.nodeid, opened.fh, 0, b"made") == 4
    s.fs.release(entry.nodeid, opened.fh)


def _host_create(top: bytes) -> None:
    path = top + b"/new"
    with_fd_made(path)
    set_mode(path, 0o6755)  # the twin's writer is root, which keeps set-id bits either way


def with_fd_made(path: bytes) -> None:
    """A new file with four bytes."""
    fd = os.open(path, MAKE | os.O_EXCL, 0o755)
    os.write(fd, b"made")
    os.close(fd)


def _tmpfile(s: Scene, how: How) -> None:
    entry, opened = s.fs.tmpfile(s.top, mode=0o100640, **how)
    assert entry.attr.nlink == 0
    assert s.fs.write(entry.nodeid, opened.fh, 0, b"made") == 4
    s.fs.link(entry.nodeid, s.top, b"new")
    s.fs.release(entry.nodeid, opened.fh)


def _host_tmpfile(top: bytes) -> None:
    fd = os.open(top, os.O_RDWR | os.O_TMPFILE, 0o640)
    os.write(fd, b"made")
    link_fd(fd, top + b"/new")
    os.close(fd)


def _read(s: Scene, how: How) -> bytes:
    return s.fs.read(*s.open(b"file", os.O_RDONLY), 3, 4096, **how)


def _write(s: Scene, how: How) -> int:
    return s.fs.write(*s.open(b"file"), 8, b"written", **how)


def _flush(s: Scene, how: How) -> None:
    s.fs.flush(*s.open(b"file"), lock_owner=7, **how)


def _release(s: Scene, how: How) -> None:
    nodeid, fh = s.open(b"file")
    s.fs.release(nodeid, fh, **how)


def _fsync(s: Scene, how: How) -> None:
    nodeid, fh = s.open(b"file")
    s.fs.write(nodeid, fh, 0, b"synced")
    s.fs.fsync(nodeid, fh, **how)
    s.fs.fsync(nodeid, fh, datasync=True, **how)


def _write_and_sync(fd: int) -> None:
    os.write(fd, b"synced")
    os.fsync(fd)


def _host_fsync(top: bytes) -> object:
    return with_fd(top + b"/file", os.O_RDWR, _write_and_sync)


def _fill_up(s: Scene) -> object:
    """Writes into a file system that has no room left."""
    s.both(lambda top: _use_up(top + b"/dir/big"))
    return s.fs.write(*s.open(b"dir/big"), 1 << 20, b"x" * 65536)


def _use_up(path: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 65536)
            except OSError:
                return


def _oversized_write(s: Scene) -> bytes:
    """Says that more data follows than does."""
    nodeid, fh = s.open(b"file")
    args = wire.WriteIn(fh, 0, 100).pack() + b"short"
    return s.fs.exact(Opcode.WRITE, nodeid, args, wire.WriteOut.wire_size())


ROWS = (
    Row(
        Opcode.OPEN,
        _open,
        lambda t: touch(t + b"/file", os.O_RDWR | os.O_TRUNC),
        refusals=(
            Refusal(
                EISDIR,
                lambda s: s.fs.open(s.node(b"dir"), os.O_WRONLY),
                lambda t: touch(t + b"/dir", os.O_WRONLY),
            ),
            Refusal(
                ELOOP,
                lambda s: s.fs.open(s.node(b"link")),
                lambda t: touch(t + b"/link", os.O_NOFOLLOW),
            ),
            Refusal(ENXIO, lambda s: s.fs.open(s.node(b"fifo"))),
            Refusal(ENXIO, lambda s: s.fs.open(s.node(b"null"))),
            Refusal(
                ENXIO,
                lambda s: s.fs.open(s.node(b"sock")),
                lambda t: touch(t + b"/sock", os.O_RDONLY),
            ),
            Refusal(EINVAL, lambda s: s.fs.open(s.node(b"file"), os.O_ACCMODE)),
            Refusal(
                EPERM,
                frozen(b"file", lambda s: s.fs.open(s.node(b"file"), os.O_WRONLY)),
                lambda t: touch(t + b"/file", os.O_WRONLY),
            ),
        ),
    ),
    Row(
        Opcode.CREATE,
        _create,
        _host_create,
        makes=b"new",
        refusals=(
            Refusal(
                EEXIST,
                lambda s: s.fs.create(s.top, b"file", MAKE | os.O_EXCL),
                lambda t: touch(t + b"/file", MAKE | os.O_EXCL),
            ),
            Refusal(
                EEXIST,
                lambda s: s.fs.create(s.top, b"dangling", MAKE | os.O_EXCL),
                lambda t: touch(t + b"/dangling", MAKE | os.O_EXCL),
            ),
            Refusal(
                EISDIR,
                lambda s: s.fs.create(s.top, b"dir", MAKE),
                lambda t: touch(t + b"/dir", MAKE),
            ),
            Refusal(
                ELOOP,
                lambda s: s.fs.create(s.top, b"dangling", MAKE),
                lambda t: touch(t + b"/dangling", MAKE | os.O_NOFOLLOW),
            ),
            Refusal(ENXIO, lambda s: s.fs.create(s.top, b"fifo", MAKE)),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.create(s.node(b"file"), b"new", MAKE),
                lambda t: touch(t + b"/file/new", MAKE),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.create(s.top, TOO_LONG, MAKE),
                lambda t: touch(t + b"/" + TOO_LONG, MAKE),
            ),
            Refusal(EINVAL, lambda s: s.fs.create(s.top, b"..", MAKE)),
            Refusal(
                EPERM,
                frozen(b"dir", lambda s: s.fs.create(s.node(b"dir"), b"new", MAKE)),
                lambda t: touch(t + b"/dir/new", MAKE),
            ),
            Refusal(
                ENOSPC,
                mounted(
                    "size=64k,nr_inodes=1", lambda s: s.fs.create(s.node(b"dir"), b"new", MAKE)
                ),
                lambda t: touch(t + b"/dir/new", MAKE),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.create(s.node(b"dir"), b"new", MAKE)),
                lambda t: touch(t + b"/dir/new", MAKE),
            ),
        ),
    ),
    Row(
        Opcode.TMPFILE,
        _tmpfile,
        _host_tmpfile,
        makes=b"new",
        refusals=(
            Refusal(
                ENOTDIR,
                lambda s: s.fs.tmpfile(s.node(b"file")),
                lambda t: touch(t + b"/file", os.O_RDWR | os.O_TMPFILE),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.tmpfile(s.node(b"dir"))),
                lambda t: touch(t + b"/dir", os.O_RDWR | os.O_TMPFILE),
            ),
        ),
    ),
    Row(
        Opcode.READ,
        _read,
        lambda t: with_fd(t + b"/file", os.O_RDONLY, lambda fd: os.pread(fd, 4096, 3)),
        checks="handle",
        refusals=(
            Refusal(
                EBADF,
                lambda s: s.fs.read(*s.open(b"file", os.O_WRONLY), 0, 10),
                lambda t: with_fd(t + b"/file", os.O_WRONLY, lambda fd: os.pread(fd, 10, 0)),
            ),
            Refusal(EBADF, lambda s: s.fs.read(*s.opendir(b"dir"), 0, 10)),
            Refusal(EINVAL, lambda s: s.fs.read(*s.open(b"file"), 1 << 63, 10)),
        ),
    ),
    Row(
        Opcode.WRITE,
        _write,
        lambda t: with_fd(t + b"/file", os.O_RDWR, lambda fd: os.pwrite(fd, b"written", 8)),
        checks="handle",
        refusals=(
            Refusal(
                EBADF,
                lambda s: s.fs.write(*s.open(b"file", os.O_RDONLY), 0, b"x"),
                lambda t: with_fd(t + b"/file", os.O_RDONLY, lambda fd: os.pwrite(fd, b"x", 0)),
            ),
            Refusal(EFBIG, lambda s: s.fs.write(*s.open(b"file"), 1 << 63, b"x")),
            Refusal(EINVAL, _oversized_write),
            Refusal(
                ENOSPC,
                mounted("size=64k", _fill_up),
                lambda t: with_fd(
                    t + b"/dir/big", os.O_RDWR, lambda fd: os.pwrite(fd, b"x" * 65536, 1 << 20)
                ),
            ),
        ),
    ),
    Row(
        Opcode.FLUSH,
        _flush,
        lambda t: touch(t + b"/file", os.O_RDWR),
        checks="handle",
    ),
    Row(
        Opcode.RELEASE,
        _release,
        lambda t: touch(t + b"/file", os.O_RDWR),
        checks="handle",
    ),
    Row(Opcode.FSYNC, _fsync, _host_fsync, checks="handle"),
)
