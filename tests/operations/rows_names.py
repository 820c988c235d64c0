# SPDX-License-Identifier: Apache-2.0
"""Rows about names: looking up and making them. `rows_moves` has the rest."""

from __future__ import annotations

import os
import stat
from errno import (
    EEXIST,
    EINVAL,
    ENAMETOOLONG,
    ENOENT,
    ENOSPC,
    ENOTDIR,
    EPERM,
    EROFS,
)

from tests.operations.scene import brief, brief_stat
from tests.operations.table import DIR_MODE, LONG, TOO_LONG, Refusal, Row, done, frozen, mounted
from tests.vmm import Opcode

FULL = "size=64k,nr_inodes=1"
FIFO = stat.S_IFIFO | 0o644

ROWS = (
    Row(
        Opcode.LOOKUP,
        lambda s, how: brief(s.fs.lookup(s.top, b"file", **how).attr),
        lambda t: brief_stat(os.lstat(t + b"/file")),
        refusals=(
            Refusal(ENOENT, lambda s: s.fs.lookup(s.top, b"no"), lambda t: os.lstat(t + b"/no")),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.lookup(s.node(b"file"), b"x"),
                lambda t: os.lstat(t + b"/file/x"),
            ),
            Refusal(ENOTDIR, lambda s: s.fs.lookup(s.node(b"link"), b"x")),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.lookup(s.top, TOO_LONG),
                lambda t: os.lstat(t + b"/" + TOO_LONG),
            ),
            Refusal(EINVAL, lambda s: s.fs.lookup(s.top, b"..")),
            Refusal(EINVAL, lambda s: s.fs.lookup(s.top, b".")),
            Refusal(EINVAL, lambda s: s.fs.lookup(s.top, b"full/child")),
            Refusal(ENOENT, lambda s: s.fs.lookup(s.top, b"")),
        ),
    ),
    Row(
        Opcode.READLINK,
        lambda s, how: s.fs.readlink(s.node(b"link"), **how),
        lambda t: os.readlink(t + b"/link"),
        refusals=(
            Refusal(
                EINVAL,
                lambda s: s.fs.readlink(s.node(b"file")),
                lambda t: os.readlink(t + b"/file"),
            ),
            Refusal(EINVAL, lambda s: s.fs.readlink(s.top), os.readlink),
        ),
    ),
    Row(
        Opcode.SYMLINK,
        lambda s, how: done(s.fs.symlink(s.top, b"new", b"a/../target", **how)),
        lambda t: os.symlink(b"a/../target", t + b"/new"),
        makes=b"new",
        refusals=(
            Refusal(
                EEXIST,
                lambda s: s.fs.symlink(s.top, b"link", b"x"),
                lambda t: os.symlink(b"x", t + b"/link"),
            ),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.symlink(s.node(b"file"), b"new", b"x"),
                lambda t: os.symlink(b"x", t + b"/file/new"),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.symlink(s.top, TOO_LONG, b"x"),
                lambda t: os.symlink(b"x", t + b"/" + TOO_LONG),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.symlink(s.top, b"new", b"x" * 4096),
                lambda t: os.symlink(b"x" * 4096, t + b"/new"),
            ),
            Refusal(
                ENOENT,
                lambda s: s.fs.symlink(s.top, b"new", b""),
                lambda t: os.symlink(b"", t + b"/new"),
            ),
            Refusal(EINVAL, lambda s: s.fs.symlink(s.top, b"..", b"x")),
            Refusal(
                ENOSPC,
                mounted(FULL, lambda s: s.fs.symlink(s.node(b"dir"), b"new", b"x")),
                lambda t: os.symlink(b"x", t + b"/dir/new"),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.symlink(s.node(b"dir"), b"new", b"x")),
                lambda t: os.symlink(b"x", t + b"/dir/new"),
            ),
        ),
    ),
    Row(
        Opcode.MKNOD,
        lambda s, how: done(s.fs.mknod(s.top, b"new", FIFO, **how)),
        lambda t: os.mknod(t + b"/new", FIFO),
        makes=b"new",
        refusals=(
            Refusal(
                EEXIST,
                lambda s: s.fs.mknod(s.top, b"dangling", FIFO),
                lambda t: os.mknod(t + b"/dangling", FIFO),
            ),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.mknod(s.node(b"fifo"), b"new", FIFO),
                lambda t: os.mknod(t + b"/fifo/new", FIFO),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.mknod(s.top, TOO_LONG, FIFO),
                lambda t: os.mknod(t + b"/" + TOO_LONG, FIFO),
            ),
            Refusal(
                EPERM,
                lambda s: s.fs.mknod(s.top, b"new", stat.S_IFDIR | 0o755),
                lambda t: os.mknod(t + b"/new", stat.S_IFDIR | 0o755),
            ),
            Refusal(
                EINVAL,
                lambda s: s.fs.mknod(s.top, b"new", stat.S_IFLNK | 0o755),
                lambda t: os.mknod(t + b"/new", stat.S_IFLNK | 0o755),
            ),
            Refusal(EINVAL, lambda s: s.fs.mknod(s.top, b"a/b", FIFO)),
            Refusal(
                ENOSPC,
                mounted(FULL, lambda s: s.fs.mknod(s.node(b"dir"), b"new", FIFO)),
                lambda t: os.mknod(t + b"/dir/new", FIFO),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.mknod(s.node(b"dir"), b"new", FIFO)),
                lambda t: os.mknod(t + b"/dir/new", FIFO),
            ),
        ),
    ),
    Row(
        Opcode.MKDIR,
        lambda s, how: done(s.fs.mkdir(s.top, LONG, DIR_MODE, **how)),
        lambda t: os.mkdir(t + b"/" + LONG, DIR_MODE),
        makes=LONG,
        refusals=(
            Refusal(EEXIST, lambda s: s.fs.mkdir(s.top, b"file"), lambda t: os.mkdir(t + b"/file")),
            Refusal(EEXIST, lambda s: s.fs.mkdir(s.top, b"dir"), lambda t: os.mkdir(t + b"/dir")),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.mkdir(s.node(b"file"), b"new"),
                lambda t: os.mkdir(t + b"/file/new"),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.mkdir(s.top, TOO_LONG),
                lambda t: os.mkdir(t + b"/" + TOO_LONG),
            ),
            Refusal(EINVAL, lambda s: s.fs.mkdir(s.top, b".")),
            Refusal(
                EPERM,
                frozen(b"dir", lambda s: s.fs.mkdir(s.node(b"dir"), b"new")),
                lambda t: os.mkdir(t + b"/dir/new"),
            ),
            Refusal(
                ENOSPC,
                mounted(FULL, lambda s: s.fs.mkdir(s.node(b"dir"), b"new")),
                lambda t: os.mkdir(t + b"/dir/new"),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.mkdir(s.node(b"dir"), b"new")),
                lambda t: os.mkdir(t + b"/dir/new"),
            ),
        ),
    ),
)
