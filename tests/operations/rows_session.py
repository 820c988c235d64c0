# SPDX-License-Identifier: Apache-2.0
"""Rows about the session and about how long a node lives."""

from __future__ import annotations

import os
from errno import EPROTO, ESTALE
from typing import TYPE_CHECKING

import pytest

from tests.operations.table import Refusal, Row
from tests.vmm import ROOT_ID, Opcode

if TYPE_CHECKING:
    from tests.operations.scene import Scene
    from tests.vmm.requests import How


def expect_stale(s: Scene, nodeid: int) -> None:
    """The session does not hold this node."""
    with pytest.raises(OSError, match=os.strerror(ESTALE)):
        s.fs.getattr(nodeid)


def _init(s: Scene, how: How) -> None:
    out = s.fs.init(**how)
    assert (out.major, out.minor) == (7, 41)
    expect_stale(s, s.top)
    assert s.fs.getattr(ROOT_ID).attr.nlink >= 2


def _old_init(s: Scene) -> None:
    try:
        s.fs.init(minor=26)
    finally:
        s.fs.init()


def _destroy(s: Scene, how: How) -> None:
    s.fs.destroy(**how)
    s.fs.init()
    expect_stale(s, s.top)


def _forget(s: Scene, how: How) -> None:
    nodeid = s.node(b"file")
    assert s.node(b"file") == nodeid
    s.fs.forget(nodeid, 1, **how)
    s.fs.getattr(nodeid)
    s.fs.forget(nodeid, 1, **how)
    expect_stale(s, nodeid)


def _batch_forget(s: Scene, how: How) -> None:
    nodes = [s.node(name) for name in (b"file", b"empty", b"tool")]
    s.fs.batch_forget([(nodeid, 1) for nodeid in nodes], **how)
    for nodeid in nodes:
        expect_stale(s, nodeid)


ROWS = (
    Row(
        Opcode.INIT,
        _init,
        checks="nothing",
        refusals=(Refusal(EPROTO, _old_init),),
    ),
    Row(Opcode.DESTROY, _destroy, checks="nothing"),
    Row(Opcode.FORGET, _forget, checks="nothing"),
    Row(Opcode.BATCH_FORGET, _batch_forget, checks="nothing"),
)
