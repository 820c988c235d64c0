# SPDX-License-Identifier: Apache-2.0
"""A guest that has looked up a million files: bounded descriptors, bounded memory, both given back.

The files are empty ones on tmpfs, where making them is quick. READDIRPLUS looks up what it lists,
thousands of files a request; a part is looked up by name, one request each, many in flight.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process.place import MIB, SANITIZED, check_serves, fill, guest
from tests.vmm import ROOT_ID, Layout, Opcode
from tests.vmm import fuse_wire as wire
from tests.vmm.daemon import OVFS, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vmm import FuseClient

DIRECTORIES = 50
EACH = 2_000 if SANITIZED else 20_000
#: All names have eight bytes, so that all entries of a listing are equally long, "." and "..".
ENTRY = struct.Struct("<Q152x")
FORGETS = 8000
LIMIT = 4096


def _fill_directories(root: str, names: list[str]) -> None:
    for name in names:
        os.mkdir(f"{root}/{name}")
        directory = os.open(f"{root}/{name}", os.O_RDONLY | os.O_DIRECTORY)
        for at in range(EACH):
            os.mknod(f"f{at:07}", dir_fd=directory)
        os.close(directory)


@pytest.fixture(scope="module")
def crowd() -> Iterator[Path]:
    """A million files."""
    work = Path(tempfile.mkdtemp(prefix="ovfs-process-", dir="/dev/shm"))
    names = [f"d{at:07}" for at in range(DIRECTORIES)]
    spawn = multiprocessing.get_context("spawn")
    try:
        root = fill(work / "root")
        makers = [
            spawn.Process(target=_fill_directories, args=(str(root), names[half::2]))
            for half in (0, 1)
        ]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
            assert maker.exitcode == 0
        yield root
    finally:
        shutil.rmtree(work)


def _list(fs: FuseClient, directory: int) -> list[int]:
    """The nodes of a directory, each looked up by the listing."""
    fh = fs.opendir(directory).fh
    nodes: list[int] = []
    offset, size = 0, MIB
    while True:
        args = wire.ReadIn(fh, offset, size).pack()
        data = fs.request(Opcode.READDIRPLUS, directory, args, size, layout=Layout(region=2))
        if not data:
            break
        nodes.extend(node for (node,) in ENTRY.iter_unpack(data) if node)
        offset = struct.unpack_from("<Q", data, len(data) - 24)[0]
    fs.releasedir(directory, fh)
    return nodes


def _look_up(fs: FuseClient, directory: int) -> list[int]:
    """The same, a name at a time, many in flight."""
    nodes: list[int] = []
    for start in range(0, EACH, 500):
        pending = [
            fs.submit(
                Opcode.LOOKUP,
                directory,
                b"f%07d\0" % at,
                wire.Entry.wire_size(),
                kick=at % 50 == 0,
            )
            for at in range(start, start + 500)
        ]
        pending[-1].queue.kick()
        nodes.extend(wire.Entry.unpack(fs.wait(one)).nodeid for one in pending)
    return nodes


@pytest.mark.slow
def test_a_million_files_cost_bounded_descriptors_and_memory(crowd: Path) -> None:
    options = ["--rlimit-nofile", str(LIMIT)]
    with (
        Daemon.start(crowd, command=OVFS, options=options) as daemon,
        guest(daemon, queue_size=1024) as (_, fs),
    ):
        start_fds, start_rss = daemon.fds(), daemon.rss()
        known: list[int] = []
        for at in range(DIRECTORIES):
            directory = fs.lookup(ROOT_ID, b"d%07d" % at).nodeid
            nodes = _look_up(fs, directory) if at == 0 else _list(fs, directory)
            assert len(nodes) == EACH
            known += [directory, *nodes]
            assert daemon.fds() < LIMIT
        assert len(set(known)) == DIRECTORIES * (EACH + 1)
        assert daemon.fds() < LIMIT
        full_rss = daemon.rss()
        if not SANITIZED:
            assert full_rss < 300 * MIB
        # Any of them is still known, whether a descriptor of it is at hand or not.
        for node in known[:: len(known) // 1000]:
            assert fs.getattr(node).attr.nlink > 0
        check_serves(fs)
        for start in range(0, len(known), FORGETS):
            fs.batch_forget([(node, 1) for node in known[start : start + FORGETS]])
        assert daemon.fds() <= start_fds + 16
        if not SANITIZED:
            assert daemon.rss() < start_rss + (full_rss - start_rss) / 4
        with pytest.raises(OSError, match="Stale"):
            fs.getattr(known[-1])
        check_serves(fs)
        print(f"start {start_rss >> 20} MiB, full {full_rss >> 20}, end {daemon.rss() >> 20}")
