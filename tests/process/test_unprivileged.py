# SPDX-License-Identifier: Apache-2.0
"""A daemon without privileges, as a process: what it says, and what happens at its limit of fds."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.nobody import COMMAND, NOBODY
from tests.process.place import check_next_vmm, check_serves, guest, opened
from tests.vmm import ROOT_ID
from tests.vmm.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vmm import FuseClient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

LIMIT = 600
FILES = 1000


@pytest.fixture
def nobody(share: Path) -> Iterator[Daemon]:
    share.chmod(0o777)
    (share / "many").mkdir(exist_ok=True)
    for at in range(FILES):
        (share / "many" / f"{at:04}").touch()
    options = ["--rlimit-nofile", str(LIMIT), "--log-level", "debug"]
    with Daemon.start(share, command=COMMAND, options=options) as daemon:
        yield daemon


def test_it_says_so_once_and_serves(nobody: Daemon, share: Path) -> None:
    with guest(nobody) as (_, fs):
        node = fs.lookup(ROOT_ID, b"small").nodeid
        assert fs.read(node, fs.open(node).fh, 0, 10) == b"text"
        made, _ = fs.create(ROOT_ID, b"made", uid=1000, gid=1000)
        assert (made.attr.uid, (share / "made").stat().st_uid) == (NOBODY, NOBODY)
        with pytest.raises(PermissionError):
            fs.setattr(made.nodeid, owner=1000)
        fs.unlink(ROOT_ID, b"made")
    assert nobody.stop() == 0
    log = nobody.log()
    assert log.count("warning: without CAP_DAC_READ_SEARCH there are no file handles") == 1
    assert log.count(" warning: ") == 2, log


def test_beyond_its_descriptors_it_is_enfile_and_goes_on(nobody: Daemon) -> None:
    with guest(nobody) as (_, fs):
        before = nobody.fds()
        many = fs.lookup(ROOT_ID, b"many").nodeid
        nodes: list[int] = []
        failed: set[int | None] = set()
        for at in range(FILES):
            try:
                nodes.append(fs.lookup(many, b"%04d" % at).nodeid)
            except OSError as error:
                failed.add(error.errno)
        assert failed == {errno.ENFILE}
        assert 100 < len(nodes) < LIMIT
        assert nobody.fds() <= LIMIT
        # What is known is served on; what is forgotten makes room.
        assert all(fs.getattr(node).attr.size == 0 for node in nodes)
        fs.batch_forget([(node, 1) for node in nodes])
        assert nobody.fds() <= before + 2
        node = fs.lookup(ROOT_ID, b"small").nodeid
        assert fs.read(node, fs.open(node).fh, 0, 10) == b"text"
        assert fs.lookup(many, b"%04d" % (FILES - 1)).nodeid
    with guest(nobody) as (_, fs):
        node, fh = opened(fs, flags=os.O_RDONLY)
        assert fs.read(node, fh, 0, 1)
        check_serves(fs)
    check_next_vmm(nobody)


def _open_many(fs: FuseClient, node: int, handles: list[int]) -> None:
    for _ in range(LIMIT):
        handles.append(fs.open(node).fh)  # noqa: PERF401 (kept when one fails)


def test_open_files_beyond_the_limit(nobody: Daemon) -> None:
    with guest(nobody) as (_, fs):
        node = fs.lookup(ROOT_ID, b"small").nodeid
        handles: list[int] = []
        with pytest.raises(OSError, match="Too many open files in system"):
            _open_many(fs, node, handles)
        assert nobody.fds() <= LIMIT
        assert fs.read(node, handles[-1], 0, 10) == b"text"
        for fh in handles:
            fs.release(node, fh)
        check_serves(fs)
