# SPDX-License-Identifier: Apache-2.0
"""Rows about attributes, and about the file system as a whole."""

from __future__ import annotations

import os
from errno import EACCES, EBADF, EINVAL, EISDIR, EOPNOTSUPP, EPERM, EROFS
from typing import TYPE_CHECKING

from tests.operations.scene import Scene, brief, brief_stat
from tests.operations.table import Refusal, Row, frozen, mounted
from tests.vmm import Opcode

if TYPE_CHECKING:
    from tests.vmm.requests import How

NS = 10**9
WRONG_FH = 1 << 40


def _statx(s: Scene, how: How) -> tuple[int, ...]:
    sx = s.fs.statx(s.node(b"file"), **how).stat
    return (sx.mode, sx.nlink, sx.uid, sx.gid, sx.size, sx.mtime % NS >= 0)


def _host_statx(top: bytes) -> tuple[int, ...]:
    st = os.lstat(top + b"/file")
    return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, True)


def _statfs(s: Scene, how: How) -> tuple[int, ...]:
    st = s.fs.statfs(s.top, **how)
    return (st.blocks, st.files, st.bsize, st.namelen, st.frsize)


def _host_statfs(top: bytes) -> tuple[int, ...]:
    st = os.statvfs(top)
    return (st.f_blocks, st.f_files, st.f_bsize, st.f_namemax, st.f_frsize)


def _change(s: Scene, how: How) -> tuple[int, ...]:
    return brief(s.fs.setattr(s.node(b"file"), mode=0o600, size=4, mtime_ns=5 * NS, **how).attr)


def _host_change(top: bytes) -> tuple[int, ...]:
    path = top + b"/file"
    os.chmod(path, 0o600)
    os.truncate(path, 4)
    os.utime(path, ns=(0, 5 * NS))
    return brief_stat(os.lstat(path))


ROWS = (
    Row(
        Opcode.GETATTR,
        lambda s, how: brief(s.fs.getattr(s.node(b"null"), **how).attr),
        lambda t: brief_stat(os.lstat(t + b"/null")),
        refusals=(Refusal(EBADF, lambda s: s.fs.getattr(s.node(b"file"), WRONG_FH)),),
    ),
    Row(
        Opcode.STATX,
        _statx,
        _host_statx,
        refusals=(Refusal(EBADF, lambda s: s.fs.statx(s.node(b"file"), WRONG_FH)),),
    ),
    Row(
        Opcode.SETATTR,
        _change,
        _host_change,
        refusals=(
            Refusal(
                EISDIR,
                lambda s: s.fs.setattr(s.node(b"dir"), size=0),
                lambda t: os.truncate(t + b"/dir", 0),
            ),
            Refusal(
                EINVAL,
                lambda s: s.fs.setattr(s.node(b"fifo"), size=0),
                lambda t: os.truncate(t + b"/fifo", 0),
            ),
            Refusal(EINVAL, lambda s: s.fs.setattr(s.node(b"file"), size=1 << 63)),
            Refusal(EINVAL, lambda s: s.fs.setattr(s.node(b"file"), owner=0xFFFF_FFFF)),
            Refusal(EOPNOTSUPP, lambda s: s.fs.setattr(s.node(b"link"), mode=0o600)),
            Refusal(EBADF, lambda s: s.fs.setattr(s.node(b"file"), size=1, fh=WRONG_FH)),
            Refusal(
                EPERM,
                frozen(b"file", lambda s: s.fs.setattr(s.node(b"file"), mode=0o600)),
                lambda t: os.chmod(t + b"/file", 0o600),
            ),
            Refusal(
                EPERM,
                frozen(b"file", lambda s: s.fs.setattr(s.node(b"file"), size=1)),
                lambda t: os.truncate(t + b"/file", 1),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.setattr(s.node(b"dir"), owner=1)),
                lambda t: os.chown(t + b"/dir", 1, -1),
            ),
        ),
    ),
    Row(
        Opcode.ACCESS,
        lambda s, how: s.fs.access(s.node(b"tool"), os.R_OK | os.X_OK, **how),
        lambda t: None if os.access(t + b"/tool", os.R_OK | os.X_OK) else "refused",
        refusals=(
            Refusal(EACCES, lambda s: s.fs.access(s.node(b"file"), os.W_OK, uid=1000, gid=1000)),
            Refusal(EACCES, lambda s: s.fs.access(s.node(b"file"), os.X_OK)),
            Refusal(EINVAL, lambda s: s.fs.access(s.node(b"file"), 0o10)),
        ),
    ),
    Row(Opcode.STATFS, _statfs, _host_statfs),
)
