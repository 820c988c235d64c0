# SPDX-License-Identifier: Apache-2.0
"""The operations table, run: each opcode's success and refusals, on disk and on tmpfs."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from ovfs.native.plane import opcode
from tests.operations.rows import ALL, ROWS
from tests.operations.scene import outcome, set_mode
from tests.operations.share import Share
from tests.operations.tree import tree
from tests.vmm import ROOT_ID, Opcode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operations.scene import Scene
    from tests.operations.table import Refusal, Row
    from tests.vmm.requests import How

KNOWN = {number: opcode(number) for number in range(256)}
UNSERVED = [number for number, known in KNOWN.items() if known is None or not known[1]]

#: Who asks, and on which queue; everything the request needs was looked up by root on queue 1.
CALLERS: dict[str, How] = {
    "root": {},
    "guest-user": {"uid": 1000, "gid": 1000},
    "other-queue": {"queue": 2},
}


@pytest.fixture(scope="module", params=["disk", "tmpfs", "plain-rings"])
def share(request: pytest.FixtureRequest) -> Iterator[Share]:
    """Each file system, and io_uring as Linux 5.15 has it: without any newer flag."""
    if request.param == "plain-rings":
        with Share("disk", env={"OVFS_PLAIN_RINGS": "1"}) as made:
            yield made
        return
    with Share(request.param) as made:
        yield made


def test_every_served_opcode_has_a_row() -> None:
    served = {name for known in KNOWN.values() if known and known[1] for name in known[:1]}
    assert {row.opcode.name for row in ROWS.values()} == served


def test_no_row_is_written_twice() -> None:
    assert len(ALL) == len(ROWS)


@pytest.mark.parametrize("number", UNSERVED)
def test_what_is_not_served_is_enosys(memory_share: Share, number: int) -> None:
    if number == Opcode.NOTIFY_REPLY:  # has no reply: the guest answers with it
        pending = memory_share.fs.submit(number, ROOT_ID, bytes(64), -1)
        assert pending.queue.wait(pending.token) == b""
        return
    with pytest.raises(OSError, match="Function not implemented"):
        memory_share.fs.request(number, ROOT_ID, bytes(64), 4096)


def _chown(path: bytes, uid: int) -> None:
    """Gives an object away without losing its set-id bits."""
    mode = os.lstat(path).st_mode
    os.lchown(path, uid, uid)
    if not stat.S_ISLNK(mode):
        os.chmod(path, stat.S_IMODE(mode))


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.opcode.name)
def test_success(scene: Scene, row: Row, caller: str) -> None:
    """The result and all that it leaves behind are what the host's own call gives."""
    how = CALLERS[caller]
    for name in (b"", b"/dir"):
        for top in (scene.path(), scene.twin):
            set_mode(top + name, 0o777)
    result = row.guest(scene, how)
    if row.host is None:
        assert result is None
        return
    assert result == row.host(scene.twin)
    if row.makes is not None and "uid" in how:
        _chown(scene.twin + b"/" + row.makes, how["uid"])
    assert tree(scene.path()) == tree(scene.twin)


def _cases() -> list[object]:
    return [
        pytest.param(refusal, id=f"{row.opcode.name}-{os.strerror(refusal.error)}-{number}")
        for row in ROWS.values()
        for number, refusal in enumerate(row.refusals)
    ]


@pytest.mark.parametrize("refusal", _cases())
def test_refusal(scene: Scene, refusal: Refusal) -> None:
    """The errno is the one said, which is the host's own, and nothing has changed."""
    expected = os.strerror(refusal.error)
    assert outcome(lambda: refusal.guest(scene)) == expected
    if refusal.host is not None:
        direct = refusal.host
        assert outcome(lambda: direct(scene.twin)) == expected
    assert tree(scene.path()) == tree(scene.twin)
