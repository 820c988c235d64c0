# SPDX-License-Identifier: Apache-2.0
"""Rows about names that go, move or become more: UNLINK, RMDIR, RENAME, RENAME2, LINK."""

from __future__ import annotations

import os
from errno import (
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    EROFS,
    ESTALE,
    EXDEV,
)

from tests.operations.host import EXCHANGE, NOREPLACE, WHITEOUT, renameat2
from tests.operations.table import TOO_LONG, Refusal, Row, done, frozen, mounted
from tests.vmm import Opcode

UNHELD = 1 << 40

ROWS = (
    Row(
        Opcode.UNLINK,
        lambda s, how: s.fs.unlink(s.top, b"file", **how),
        lambda t: os.unlink(t + b"/file"),
        refusals=(
            Refusal(ENOENT, lambda s: s.fs.unlink(s.top, b"no"), lambda t: os.unlink(t + b"/no")),
            Refusal(EISDIR, lambda s: s.fs.unlink(s.top, b"dir"), lambda t: os.unlink(t + b"/dir")),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.unlink(s.node(b"file"), b"x"),
                lambda t: os.unlink(t + b"/file/x"),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.unlink(s.top, TOO_LONG),
                lambda t: os.unlink(t + b"/" + TOO_LONG),
            ),
            Refusal(EINVAL, lambda s: s.fs.unlink(s.top, b"full/child")),
            Refusal(
                EPERM,
                frozen(b"file", lambda s: s.fs.unlink(s.top, b"file")),
                lambda t: os.unlink(t + b"/file"),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.unlink(s.node(b"dir"), b"x")),
                lambda t: os.unlink(t + b"/dir/x"),
            ),
        ),
    ),
    Row(
        Opcode.RMDIR,
        lambda s, how: s.fs.rmdir(s.top, b"dir", **how),
        lambda t: os.rmdir(t + b"/dir"),
        refusals=(
            Refusal(ENOENT, lambda s: s.fs.rmdir(s.top, b"no"), lambda t: os.rmdir(t + b"/no")),
            Refusal(
                ENOTDIR, lambda s: s.fs.rmdir(s.top, b"file"), lambda t: os.rmdir(t + b"/file")
            ),
            Refusal(
                ENOTDIR, lambda s: s.fs.rmdir(s.top, b"link"), lambda t: os.rmdir(t + b"/link")
            ),
            Refusal(
                ENOTEMPTY, lambda s: s.fs.rmdir(s.top, b"full"), lambda t: os.rmdir(t + b"/full")
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.rmdir(s.top, TOO_LONG),
                lambda t: os.rmdir(t + b"/" + TOO_LONG),
            ),
            Refusal(EINVAL, lambda s: s.fs.rmdir(s.top, b"."), lambda t: os.rmdir(t + b"/.")),
            Refusal(EINVAL, lambda s: s.fs.rmdir(s.top, b"..")),
            Refusal(
                EPERM,
                frozen(b"dir", lambda s: s.fs.rmdir(s.top, b"dir")),
                lambda t: os.rmdir(t + b"/dir"),
            ),
            Refusal(
                EBUSY,
                mounted("size=64k", lambda s: s.fs.rmdir(s.top, b"dir")),
                lambda t: os.rmdir(t + b"/dir"),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.rmdir(s.node(b"dir"), b"x")),
                lambda t: os.rmdir(t + b"/dir/x"),
            ),
        ),
    ),
    Row(
        Opcode.RENAME,
        lambda s, how: s.fs.rename(s.top, b"file", s.node(b"full"), b"child", **how),
        lambda t: os.rename(t + b"/file", t + b"/full/child"),
        refusals=(
            Refusal(
                ENOENT,
                lambda s: s.fs.rename(s.top, b"no", s.top, b"new"),
                lambda t: os.rename(t + b"/no", t + b"/new"),
            ),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.rename(s.top, b"dir", s.top, b"file"),
                lambda t: os.rename(t + b"/dir", t + b"/file"),
            ),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.rename(s.top, b"empty", s.node(b"file"), b"x"),
                lambda t: os.rename(t + b"/empty", t + b"/file/x"),
            ),
            Refusal(
                EISDIR,
                lambda s: s.fs.rename(s.top, b"file", s.top, b"dir"),
                lambda t: os.rename(t + b"/file", t + b"/dir"),
            ),
            Refusal(
                ENOTEMPTY,
                lambda s: s.fs.rename(s.top, b"dir", s.top, b"full"),
                lambda t: os.rename(t + b"/dir", t + b"/full"),
            ),
            Refusal(
                EINVAL,
                lambda s: s.fs.rename(s.top, b"full", s.node(b"full"), b"x"),
                lambda t: os.rename(t + b"/full", t + b"/full/x"),
            ),
            Refusal(EINVAL, lambda s: s.fs.rename(s.top, b"file", s.top, b"..")),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.rename(s.top, b"file", s.top, TOO_LONG),
                lambda t: os.rename(t + b"/file", t + b"/" + TOO_LONG),
            ),
            Refusal(
                EPERM,
                frozen(b"file", lambda s: s.fs.rename(s.top, b"file", s.top, b"new")),
                lambda t: os.rename(t + b"/file", t + b"/new"),
            ),
            Refusal(
                EXDEV,
                mounted("size=64k", lambda s: s.fs.rename(s.top, b"file", s.node(b"dir"), b"new")),
                lambda t: os.rename(t + b"/file", t + b"/dir/new"),
            ),
            Refusal(
                EBUSY,
                mounted("size=64k", lambda s: s.fs.rename(s.top, b"dir", s.top, b"new")),
                lambda t: os.rename(t + b"/dir", t + b"/new"),
            ),
            Refusal(ESTALE, lambda s: s.fs.rename(s.top, b"file", UNHELD, b"new")),
        ),
    ),
    Row(
        Opcode.RENAME2,
        lambda s, how: s.fs.rename2(s.top, b"file", s.top, b"full", EXCHANGE, **how),
        lambda t: renameat2(t + b"/file", t + b"/full", EXCHANGE),
        refusals=(
            Refusal(
                EEXIST,
                lambda s: s.fs.rename2(s.top, b"file", s.top, b"empty", NOREPLACE),
                lambda t: renameat2(t + b"/file", t + b"/empty", NOREPLACE),
            ),
            Refusal(
                ENOENT,
                lambda s: s.fs.rename2(s.top, b"file", s.top, b"no", EXCHANGE),
                lambda t: renameat2(t + b"/file", t + b"/no", EXCHANGE),
            ),
            Refusal(
                EINVAL,
                lambda s: s.fs.rename2(s.top, b"file", s.top, b"new", NOREPLACE | EXCHANGE),
                lambda t: renameat2(t + b"/file", t + b"/new", NOREPLACE | EXCHANGE),
            ),
            Refusal(
                EINVAL,
                lambda s: s.fs.rename2(s.top, b"full", s.node(b"full"), b"child", EXCHANGE),
                lambda t: renameat2(t + b"/full", t + b"/full/child", EXCHANGE),
            ),
            Refusal(EINVAL, lambda s: s.fs.rename2(s.top, b"file", s.top, b"new", WHITEOUT)),
            Refusal(EINVAL, lambda s: s.fs.rename2(s.top, b"file", s.top, b"new", 1 << 31)),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.rename2(s.top, b"empty", s.node(b"file"), b"x", NOREPLACE),
                lambda t: renameat2(t + b"/empty", t + b"/file/x", NOREPLACE),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.rename2(s.top, TOO_LONG, s.top, b"new", NOREPLACE),
                lambda t: renameat2(t + b"/" + TOO_LONG, t + b"/new", NOREPLACE),
            ),
            Refusal(
                EXDEV,
                mounted(
                    "size=64k",
                    lambda s: s.fs.rename2(s.top, b"file", s.node(b"dir"), b"new", NOREPLACE),
                ),
                lambda t: renameat2(t + b"/file", t + b"/dir/new", NOREPLACE),
            ),
            Refusal(ESTALE, lambda s: s.fs.rename2(s.top, b"file", UNHELD, b"new", NOREPLACE)),
        ),
    ),
    Row(
        Opcode.LINK,
        lambda s, how: done(s.fs.link(s.node(b"file"), s.node(b"dir"), b"new", **how)),
        lambda t: os.link(t + b"/file", t + b"/dir/new"),
        refusals=(
            Refusal(
                EEXIST,
                lambda s: s.fs.link(s.node(b"file"), s.top, b"empty"),
                lambda t: os.link(t + b"/file", t + b"/empty"),
            ),
            Refusal(
                EPERM,
                lambda s: s.fs.link(s.node(b"dir"), s.top, b"new"),
                lambda t: os.link(t + b"/dir", t + b"/new"),
            ),
            Refusal(
                ENOTDIR,
                lambda s: s.fs.link(s.node(b"file"), s.node(b"empty"), b"new"),
                lambda t: os.link(t + b"/file", t + b"/empty/new"),
            ),
            Refusal(
                ENAMETOOLONG,
                lambda s: s.fs.link(s.node(b"file"), s.top, TOO_LONG),
                lambda t: os.link(t + b"/file", t + b"/" + TOO_LONG),
            ),
            Refusal(EINVAL, lambda s: s.fs.link(s.node(b"file"), s.top, b".")),
            Refusal(
                EXDEV,
                mounted("size=64k", lambda s: s.fs.link(s.node(b"file"), s.node(b"dir"), b"new")),
                lambda t: os.link(t + b"/file", t + b"/dir/new"),
            ),
            Refusal(ESTALE, lambda s: s.fs.link(UNHELD, s.top, b"new")),
        ),
    ),
)
