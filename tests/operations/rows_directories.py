# SPDX-License-Identifier: Apache-2.0
"""Rows about listing directories."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EINVAL, ENOTDIR
from typing import TYPE_CHECKING

from tests.operations.scene import Scene, brief, brief_stat
from tests.operations.table import Refusal, Row, with_fd
from tests.vmm import Opcode

if TYPE_CHECKING:
    from tests.vmm.fuse_pack import Dirent
    from tests.vmm.requests import How

Listing = dict[bytes, object]


def _opendir(s: Scene, how: How) -> None:
    nodeid = s.node(b"full")
    fh = s.fs.opendir(nodeid, **how).fh
    assert {entry.name for entry in s.fs.readdir(nodeid, fh)} == {b".", b"..", b"child"}


def _releasedir(s: Scene, how: How) -> None:
    s.fs.releasedir(*s.opendir(b"full"), **how)


def _readdir(s: Scene, how: How) -> Listing:
    """Inode number and type of each name."""
    entries = s.fs.readdir(*s.opendir(), **how)
    return {e.name: (e.ino, e.type) for e in entries if e.name not in {b".", b".."}}


def _host_readdir(s: Scene) -> Listing:
    with os.scandir(s.path()) as entries:
        return {e.name: (e.inode(), stat.S_IFMT(os.lstat(e.path).st_mode) >> 12) for e in entries}


def _compared_readdir(s: Scene, how: How) -> None:
    """Inode numbers are the scene's own, so it is the scene that is compared, not the twin."""
    assert _readdir(s, how) == _host_readdir(s)


def _plus(entry: Dirent) -> object:
    assert entry.entry is not None
    assert entry.entry.attr.ino == entry.ino
    return brief(entry.entry.attr)


def _readdirplus(s: Scene, how: How) -> Listing:
    entries = s.fs.readdirplus(*s.opendir(), **how)
    return {e.name: _plus(e) for e in entries if e.name not in {b".", b".."}}


def _host_readdirplus(top: bytes) -> Listing:
    return {name: brief_stat(os.lstat(top + b"/" + name)) for name in os.listdir(top)}


def _fsyncdir(s: Scene, how: How) -> None:
    s.fs.mkdir(s.top, b"new")
    s.fs.fsyncdir(*s.opendir(), **how)
    s.fs.fsyncdir(*s.opendir(), datasync=True, **how)


def _host_fsyncdir(top: bytes) -> object:
    os.mkdir(top + b"/new")
    return with_fd(top, os.O_RDONLY, os.fsync)


ROWS = (
    Row(
        Opcode.OPENDIR,
        _opendir,
        lambda t: with_fd(t + b"/full", os.O_RDONLY | os.O_DIRECTORY, lambda _: None),
        refusals=(
            Refusal(
                ENOTDIR,
                lambda s: s.fs.opendir(s.node(b"file")),
                lambda t: with_fd(t + b"/file", os.O_RDONLY | os.O_DIRECTORY, lambda _: None),
            ),
            Refusal(ENOTDIR, lambda s: s.fs.opendir(s.node(b"link"))),
            Refusal(ENOTDIR, lambda s: s.fs.opendir(s.node(b"fifo"))),
        ),
    ),
    Row(Opcode.RELEASEDIR, _releasedir, checks="handle"),
    Row(
        Opcode.READDIR,
        _compared_readdir,
        checks="handle",
        refusals=(
            Refusal(EBADF, lambda s: s.fs.readdir(*s.open(b"file"))),
            Refusal(EINVAL, lambda s: s.fs.readdir(*s.opendir(), size=16)),
        ),
    ),
    Row(
        Opcode.READDIRPLUS,
        _readdirplus,
        _host_readdirplus,
        checks="handle",
        refusals=(
            Refusal(EBADF, lambda s: s.fs.readdirplus(*s.open(b"file"))),
            Refusal(EINVAL, lambda s: s.fs.readdirplus(*s.opendir(), size=100)),
        ),
    ),
    Row(
        Opcode.FSYNCDIR,
        _fsyncdir,
        _host_fsyncdir,
        checks="handle",
        refusals=(Refusal(EBADF, lambda s: s.fs.fsyncdir(*s.open(b"file"))),),
    ),
)
