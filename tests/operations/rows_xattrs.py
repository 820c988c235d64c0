# SPDX-License-Identifier: Apache-2.0
"""Rows about extended attributes."""

from __future__ import annotations

import os
from errno import E2BIG, EEXIST, ENODATA, ENOTSUP, EPERM, ERANGE, EROFS
from typing import TYPE_CHECKING

from tests.operations.table import Refusal, Row, frozen, mounted
from tests.vmm import Opcode

if TYPE_CHECKING:
    from tests.operations.scene import Scene
    from tests.vmm.requests import How

NAME = b"user.colour"
VALUE = b"dark\0blue"


def _set(top: bytes) -> None:
    os.setxattr(top + b"/file", NAME, VALUE)


def _get(s: Scene, how: How) -> bytes:
    s.both(_set)
    return s.fs.getxattr(s.node(b"file"), NAME, **how)


def _list(s: Scene, how: How) -> list[bytes]:
    s.both(_set)
    return s.fs.listxattr(s.node(b"file"), **how)


def _remove(s: Scene, how: How) -> None:
    s.both(_set)
    s.fs.removexattr(s.node(b"file"), NAME, **how)


def _get_short(s: Scene) -> bytes:
    s.both(_set)
    return s.fs.getxattr(s.node(b"file"), NAME, size=len(VALUE) - 1)


def _list_short(s: Scene) -> list[bytes]:
    s.both(_set)
    return s.fs.listxattr(s.node(b"file"), size=len(NAME))


def _create_twice(s: Scene) -> None:
    s.both(_set)
    s.fs.setxattr(s.node(b"file"), NAME, b"x", os.XATTR_CREATE)


ROWS = (
    Row(
        Opcode.SETXATTR,
        lambda s, how: s.fs.setxattr(s.node(b"file"), NAME, VALUE, **how),
        _set,
        refusals=(
            Refusal(
                EEXIST,
                _create_twice,
                lambda t: os.setxattr(t + b"/file", NAME, b"x", os.XATTR_CREATE),
            ),
            Refusal(
                ENODATA,
                lambda s: s.fs.setxattr(s.node(b"file"), NAME, b"x", os.XATTR_REPLACE),
                lambda t: os.setxattr(t + b"/file", NAME, b"x", os.XATTR_REPLACE),
            ),
            Refusal(
                ENOTSUP,
                lambda s: s.fs.setxattr(s.node(b"file"), b"nonsense.name", b"x"),
                lambda t: os.setxattr(t + b"/file", b"nonsense.name", b"x"),
            ),
            Refusal(
                EPERM,
                lambda s: s.fs.setxattr(s.node(b"link"), NAME, b"x"),
                lambda t: os.setxattr(t + b"/link", NAME, b"x", follow_symlinks=False),
            ),
            Refusal(
                EPERM,
                frozen(b"file", lambda s: s.fs.setxattr(s.node(b"file"), NAME, b"x")),
                lambda t: os.setxattr(t + b"/file", NAME, b"x"),
            ),
            Refusal(
                ERANGE,
                lambda s: s.fs.setxattr(s.node(b"file"), b"", b"x"),
                lambda t: os.setxattr(t + b"/file", b"", b"x"),
            ),
            Refusal(
                E2BIG,
                lambda s: s.fs.setxattr(s.node(b"file"), NAME, b"x" * 65537),
                lambda t: os.setxattr(t + b"/file", NAME, b"x" * 65537),
            ),
            Refusal(
                EROFS,
                mounted("ro", lambda s: s.fs.setxattr(s.node(b"dir"), NAME, b"x")),
                lambda t: os.setxattr(t + b"/dir", NAME, b"x"),
            ),
        ),
    ),
    Row(
        Opcode.GETXATTR,
        _get,
        lambda t: os.getxattr(t + b"/file", NAME),
        refusals=(
            Refusal(
                ENODATA,
                lambda s: s.fs.getxattr(s.node(b"file"), NAME),
                lambda t: os.getxattr(t + b"/file", NAME),
            ),
            Refusal(
                ENOTSUP,
                lambda s: s.fs.getxattr(s.node(b"file"), b"nonsense.name"),
                lambda t: os.getxattr(t + b"/file", b"nonsense.name"),
            ),
            Refusal(ERANGE, _get_short),
            Refusal(ENOTSUP, lambda s: s.fs.getxattr(s.top, b"system.posix_acl_access")),
        ),
    ),
    Row(
        Opcode.LISTXATTR,
        _list,
        lambda t: [os.fsencode(name) for name in os.listxattr(t + b"/file")],
        refusals=(Refusal(ERANGE, _list_short),),
    ),
    Row(
        Opcode.REMOVEXATTR,
        _remove,
        lambda t: os.removexattr(t + b"/file", NAME),
        refusals=(
            Refusal(
                ENODATA,
                lambda s: s.fs.removexattr(s.node(b"file"), NAME),
                lambda t: os.removexattr(t + b"/file", NAME),
            ),
            Refusal(
                ENOTSUP,
                lambda s: s.fs.removexattr(s.node(b"file"), b"nonsense.name"),
                lambda t: os.removexattr(t + b"/file", b"nonsense.name"),
            ),
            Refusal(
                EPERM,
                frozen(b"file", lambda s: s.fs.removexattr(s.node(b"file"), NAME)),
                lambda t: os.removexattr(t + b"/file", NAME),
            ),
        ),
    ),
)
