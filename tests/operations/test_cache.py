# SPDX-License-Identifier: Apache-2.0
"""What each cache policy lets the guest keep, and that the daemon itself keeps nothing.

The fake VMM caches nothing, so what is seen here of the host's changes is what a guest sees as soon
as its own time-outs are over.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.operations.scene import make_file
from tests.operations.share import Share
from tests.vmm import ROOT_ID
from tests.vmm.fuse_flags import Init, OpenReply

if TYPE_CHECKING:
    from collections.abc import Iterator

NEGOTIATED = (
    Init.DO_READDIRPLUS
    | Init.READDIRPLUS_AUTO
    | Init.CACHE_SYMLINKS
    | Init.AUTO_INVAL_DATA
    | Init.EXPLICIT_INVAL_DATA
    | Init.DIRECT_IO_ALLOW_MMAP
    | Init.WRITEBACK_CACHE
)
NAMES = Init.DO_READDIRPLUS | Init.READDIRPLUS_AUTO | Init.CACHE_SYMLINKS
DIRECT = OpenReply.DIRECT_IO | OpenReply.PARALLEL_DIRECT_WRITES
LISTING = OpenReply.KEEP_CACHE | OpenReply.CACHE_DIR

#: Policy: seconds, features, what is said of a file opened for writing and of a directory.
POLICIES = {
    "never": (0, Init.AUTO_INVAL_DATA | Init.DIRECT_IO_ALLOW_MMAP, DIRECT, OpenReply(0)),
    "metadata": (86400, NAMES | Init.AUTO_INVAL_DATA | Init.DIRECT_IO_ALLOW_MMAP, DIRECT, LISTING),
    "auto": (1, NAMES | Init.AUTO_INVAL_DATA, OpenReply(0), OpenReply(0)),
    "always": (86400, NAMES | Init.EXPLICIT_INVAL_DATA, OpenReply.KEEP_CACHE, LISTING),
}


@pytest.fixture(params=list(POLICIES), scope="module")
def policy(request: pytest.FixtureRequest) -> str:
    """One of the policies."""
    return str(request.param)


@pytest.fixture(scope="module")
def served(policy: str) -> Iterator[Share]:
    """A daemon with that policy."""
    with Share("tmpfs", ["--cache", policy]) as made:
        make_file(os.fsencode(made.root) + b"/file", b"0123456789")
        (made.root / "dir").mkdir()
        yield made


@pytest.mark.promise("cache-1")
def test_time_outs(served: Share, policy: str) -> None:
    seconds = POLICIES[policy][0]
    entry = served.fs.lookup(ROOT_ID, b"file")
    assert (entry.entry_valid, entry.entry_valid_nsec) == (seconds, 0)
    assert (entry.attr_valid, entry.attr_valid_nsec) == (seconds, 0)
    attr = served.fs.getattr(entry.nodeid)
    assert (attr.attr_valid, attr.attr_valid_nsec) == (seconds, 0)
    assert served.fs.setattr(entry.nodeid, mode=0o600).attr_valid == seconds
    assert served.fs.statx(entry.nodeid).attr_valid == seconds
    made = served.fs.mkdir(ROOT_ID, b"new")
    assert (made.entry_valid, made.attr_valid) == (seconds, seconds)
    served.fs.rmdir(ROOT_ID, b"new")


@pytest.mark.promise("cache-1")
def test_features(served: Share, policy: str) -> None:
    assert served.fs.init_flags & NEGOTIATED == POLICIES[policy][1]


@pytest.mark.promise("cache-1")
def test_what_is_said_of_open_files(served: Share, policy: str) -> None:
    _, _, of_file, of_directory = POLICIES[policy]
    file = served.fs.lookup(ROOT_ID, b"file").nodeid
    assert served.fs.open(file, os.O_RDWR).open_flags == of_file
    assert served.fs.open(file, os.O_RDONLY).open_flags == of_file | OpenReply.NOFLUSH
    assert served.fs.create(ROOT_ID, b"new")[1].open_flags == of_file
    served.fs.unlink(ROOT_ID, b"new")
    directory = served.fs.lookup(ROOT_ID, b"dir").nodeid
    assert served.fs.opendir(directory).open_flags == of_directory


@pytest.mark.promise("cache-2")
def test_a_name_that_is_not_there(served: Share, policy: str) -> None:
    """Where names are kept, so is that there is none."""
    seconds = POLICIES[policy][0]
    if seconds == 0:
        with pytest.raises(FileNotFoundError):
            served.fs.lookup(ROOT_ID, b"no")
    else:
        entry = served.fs.lookup(ROOT_ID, b"no")
        assert (entry.nodeid, entry.entry_valid) == (0, seconds)


@pytest.mark.promise("cache-3")
def test_the_daemon_itself_keeps_nothing(served: Share) -> None:
    """Each request is answered with what the host has at that moment."""
    fs, path = served.fs, os.fsencode(served.root) + b"/changing"
    make_file(path, b"one")
    entry = fs.lookup(ROOT_ID, b"changing")
    fh = fs.open(entry.nodeid).fh
    assert fs.read(entry.nodeid, fh, 0, 10) == b"one"
    make_file(path, b"second")
    os.chmod(path, 0o640)
    assert fs.getattr(entry.nodeid).attr.size == 6
    assert fs.lookup(ROOT_ID, b"changing").attr.mode == 0o100640
    assert fs.read(entry.nodeid, fh, 0, 10) == b"second"
    assert b"changing" in fs.list_names(ROOT_ID)
    os.unlink(path)
    assert b"changing" not in fs.list_names(ROOT_ID)
    assert fs.getattr(entry.nodeid, fh).attr.nlink == 0


@pytest.mark.promise("cache-4")
def test_time_outs_of_ones_own() -> None:
    with Share("tmpfs", ["--attr-timeout", "2.5", "--entry-timeout", "0.25"]) as share:
        entry = share.fs.mkdir(ROOT_ID, b"new")
        assert (entry.entry_valid, entry.entry_valid_nsec) == (0, 250_000_000)
        assert (entry.attr_valid, entry.attr_valid_nsec) == (2, 500_000_000)


@pytest.mark.promise("writeback-1")
@pytest.mark.parametrize(("cache", "granted"), [("auto", True), ("always", True), ("never", False)])
def test_writeback_is_for_who_caches_data(cache: str, granted: bool) -> None:
    with Share("tmpfs", ["--cache", cache, "--writeback"]) as share:
        assert bool(share.fs.init_flags & Init.WRITEBACK_CACHE) == granted


@pytest.mark.promise("writeback-2")
def test_writeback_reads_what_it_writes_in_part() -> None:
    """The guest fills pages through a handle for writing only, and appends by itself."""
    with Share("tmpfs", ["--writeback"]) as share:
        make_file(os.fsencode(share.root) + b"/file", b"0123456789")
        nodeid = share.fs.lookup(ROOT_ID, b"file").nodeid
        fh = share.fs.open(nodeid, os.O_WRONLY | os.O_APPEND).fh
        assert share.fs.read(nodeid, fh, 0, 100) == b"0123456789"
        assert share.fs.write(nodeid, fh, 2, b"XX") == 2
        assert share.fs.read(nodeid, fh, 0, 100) == b"01XX456789"


@pytest.mark.promise("direct-2")
def test_direct_io_is_the_guests_own_unless_allowed() -> None:
    """The host's page cache then takes part: a read of it is as fresh, and needs no alignment."""
    with Share("disk", []) as share:
        make_file(os.fsencode(share.root) + b"/file", b"0123456789")
        nodeid = share.fs.lookup(ROOT_ID, b"file").nodeid
        fh = share.fs.open(nodeid, os.O_RDWR | os.O_DIRECT).fh
        assert share.fs.read(nodeid, fh, 3, 4) == b"3456"
        assert o_direct_files(share) == 0
    with Share("disk", ["--allow-direct-io"]) as share:
        make_file(os.fsencode(share.root) + b"/file", b"0123456789")
        nodeid = share.fs.lookup(ROOT_ID, b"file").nodeid
        share.fs.open(nodeid, os.O_RDWR | os.O_DIRECT)
        assert o_direct_files(share) == 1


def o_direct_files(share: Share) -> int:
    """How many of the daemon's descriptors of "file" bypass the host's page cache."""
    found = 0
    for fd in os.listdir(f"/proc/{share.daemon.pid}/fd"):
        try:
            target = os.readlink(f"/proc/{share.daemon.pid}/fd/{fd}")
            with open(f"/proc/{share.daemon.pid}/fdinfo/{fd}", encoding="ascii") as file:
                flags = int(file.read().split("flags:")[1].split()[0], 8)
        except FileNotFoundError:
            continue
        found += target.endswith("/file") and bool(flags & os.O_DIRECT)
    return found
