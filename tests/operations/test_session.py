# SPDX-License-Identifier: Apache-2.0
"""INIT, its versions and features; what a session holds and when it lets go of it."""

from __future__ import annotations

import os
import struct
import time
from errno import ENFILE
from typing import TYPE_CHECKING

import pytest

from tests.operations.rows import ROWS
from tests.operations.scene import make_file, outcome
from tests.operations.share import PLAIN, Share
from tests.vmm import ROOT_ID, Opcode
from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import LINUX_6_12, Init

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operations.table import Row

ALWAYS = (
    Init.ASYNC_READ
    | Init.BIG_WRITES
    | Init.PARALLEL_DIROPS
    | Init.ATOMIC_O_TRUNC
    | Init.ASYNC_DIO
    | Init.MAX_PAGES
    | Init.SUBMOUNTS
    | Init.HANDLE_KILLPRIV_V2
    | Init.INIT_EXT
    | Init.CREATE_SUPP_GROUP
    | Init.HAS_IOCTL_DIR
)


@pytest.fixture(scope="module")
def daemon_share() -> Iterator[Share]:
    """A share whose sessions come and go."""
    with Share("tmpfs") as made:
        make_file(os.fsencode(made.root) + b"/file", b"0123456789")
        yield made


@pytest.fixture
def own(daemon_share: Share) -> Share:
    """The same with a session in which nothing has happened."""
    daemon_share.fs.init()
    return daemon_share


def wait_for_log(share: Share, words: str) -> None:
    """The log is written beside the answers, and may come after them."""
    deadline = time.monotonic() + 5
    while words not in share.daemon.log():
        assert time.monotonic() < deadline, f"{words!r} not in {share.daemon.log()}"
        time.sleep(0.01)


@pytest.mark.promise("init-1")
def test_what_linux_offers(own: Share) -> None:
    out = own.fs.init()
    assert own.fs.init_flags & ALWAYS == ALWAYS
    assert own.fs.init_flags & LINUX_6_12 == own.fs.init_flags
    assert out.max_write == 1 << 20
    assert out.max_pages == 256
    assert out.time_gran == 1
    assert out.max_background > 0
    assert not own.fs.init_flags & (Init.WRITEBACK_CACHE | Init.POSIX_ACL | Init.PASSTHROUGH)


@pytest.mark.promise("init-1")
@pytest.mark.parametrize("flags", [Init(0), Init.INIT_EXT, Init.ASYNC_READ, Init.MAX_PAGES])
def test_nothing_is_in_force_that_was_not_offered(own: Share, flags: Init) -> None:
    own.fs.init(flags)
    assert own.fs.init_flags & ~flags == 0
    entry = own.fs.lookup(ROOT_ID, b"file")
    fh = own.fs.open(entry.nodeid).fh
    assert own.fs.read(entry.nodeid, fh, 0, 4) == b"0123"


@pytest.mark.promise("init-1")
def test_high_flags_count_only_with_the_extension(own: Share) -> None:
    args = wire.InitIn(7, 41, 4096, int(Init.ASYNC_READ), 0xFFFF_FFFF).pack()
    out = wire.InitOut.unpack(own.fs.exact(Opcode.INIT, 0, args, wire.InitOut.wire_size()))
    assert (out.flags, out.flags2) == (Init.ASYNC_READ, 0)


@pytest.mark.promise("init-1")
@pytest.mark.parametrize("minor", [27, 31, 36, 38, 41, 99])
def test_other_minors(own: Share, minor: int) -> None:
    """Older ones from 7.27 on, and newer ones, which use what we have."""
    out = own.fs.init(minor=minor)
    assert (out.major, out.minor) == (7, 41)
    assert own.fs.getattr(own.fs.lookup(ROOT_ID, b"file").nodeid).attr.size == 10


@pytest.mark.promise("init-1")
def test_the_short_init_of_older_clients(own: Share) -> None:
    """Before 7.36 it ends behind the flags."""
    args = wire.InitIn(7, 31, 4096, int(Init.ASYNC_READ), 0).pack()[:16]
    data = own.fs.request(Opcode.INIT, 0, args, wire.InitOut.wire_size())
    assert wire.InitOut.unpack(data).flags == Init.ASYNC_READ


@pytest.mark.promise("init-2")
@pytest.mark.parametrize(("major", "minor"), [(7, 26), (7, 0), (6, 99), (0, 0)])
def test_too_old_is_refused(own: Share, major: int, minor: int) -> None:
    with pytest.raises(OSError, match="Protocol error"):
        own.fs.init(major=major, minor=minor)
    with pytest.raises(OSError, match="Input/output error"):
        own.fs.getattr(ROOT_ID)


@pytest.mark.promise("init-2")
def test_who_is_too_old_is_told_so_in_the_log() -> None:
    with Share("tmpfs") as share:
        for _ in range(100):  # a guest that says INIT often has not used the log's patience up
            share.fs.init()
        with pytest.raises(OSError, match="Protocol error"):
            share.fs.init(minor=26)
        wait_for_log(share, "FUSE 7.26; 7.27 (Linux 5.0) is the oldest")


@pytest.mark.promise("init-2")
def test_a_new_major_is_told_ours(own: Share) -> None:
    out = own.fs.init(major=8, minor=1)
    assert (out.major, out.flags) == (7, 0)
    with pytest.raises(OSError, match="Input/output error"):
        own.fs.getattr(ROOT_ID)
    own.fs.init()
    own.fs.getattr(ROOT_ID)


@pytest.mark.promise("init-3")
@pytest.mark.parametrize(
    "row",
    [row for row in ROWS.values() if row.checks != "nothing"],
    ids=lambda row: row.opcode.name,
)
def test_nothing_is_served_before_init(own: Share, row: Row) -> None:
    fs = own.reconnect(init=False)
    with pytest.raises(OSError, match="Input/output error"):
        fs.request(row.opcode, ROOT_ID, b"a" * 200 + b"\0b\0", 4096)
    fs.init()


@pytest.mark.promise("session-1")
@pytest.mark.parametrize("how", ["init", "destroy", "disconnect"])
def test_an_ending_releases_all(how: str) -> None:
    """A fresh INIT is a guest that was reset: it knows nothing of what it held before."""
    with Share("tmpfs") as share, share.scene() as scene:
        idle = share.daemon.fds()
        handles = [scene.open(b"file") for _ in range(50)]
        directory = scene.opendir(b"full")
        unlinked = scene.open(b"empty")
        scene.fs.unlink(scene.top, b"empty")
        assert share.daemon.fds() > idle + 50
        if how == "init":
            scene.fs.init()
        elif how == "destroy":
            scene.fs.destroy()
            scene.fs.init()
        else:
            scene.fs = share.reconnect()
        fs = scene.fs
        for nodeid, fh in (*handles, unlinked):
            with pytest.raises(OSError, match=r"Stale|Bad file descriptor"):
                fs.read(nodeid, fh, 0, 1)
        with pytest.raises(OSError, match=r"Stale|Bad file descriptor"):
            fs.readdir(*directory)
        with pytest.raises(OSError, match="Stale"):
            fs.getattr(scene.top)
        assert fs.getattr(ROOT_ID).attr.ino == os.stat(share.root).st_ino
        fs.lookup(ROOT_ID, os.path.basename(scene.path()))
        assert share.daemon.fds() <= idle + 3


@pytest.mark.promise("session-2")
def test_node_ids_are_not_used_twice() -> None:
    """Not even after the session that they were given in."""
    with Share("tmpfs") as share:
        make_file(os.fsencode(share.root) + b"/file")
        fs, seen = share.fs, set()
        for _ in range(100):
            nodeid = fs.lookup(ROOT_ID, b"file").nodeid
            assert nodeid not in seen
            seen.add(nodeid)
            fs.forget(nodeid)
        fs = share.reconnect()
        assert fs.lookup(ROOT_ID, b"file").nodeid not in seen


@pytest.mark.promise("forget-1")
def test_a_node_lives_as_long_as_its_lookups(own: Share) -> None:
    fs = own.fs
    nodes = {fs.lookup(ROOT_ID, b"file").nodeid for _ in range(5)}
    assert len(nodes) == 1
    nodeid = nodes.pop()
    fs.forget(nodeid, 4)
    fs.getattr(nodeid)
    fs.forget(nodeid, 1)
    with pytest.raises(OSError, match="Stale"):
        fs.getattr(nodeid)


@pytest.mark.promise("forget-1")
@pytest.mark.parametrize("opcode", [Opcode.LOOKUP, Opcode.MKDIR, Opcode.CREATE, Opcode.LINK])
def test_a_reply_without_room_counts_nothing(own: Share, opcode: Opcode) -> None:
    """The guest did not learn of the node, so it will never forget it."""
    with own.scene() as scene:
        counted = scene.fs.lookup(scene.top, b"file").nodeid
        args = {
            Opcode.LOOKUP: b"file\0",
            Opcode.MKDIR: wire.MkdirIn(0o755, 0).pack() + b"new\0",
            Opcode.CREATE: wire.CreateIn(os.O_RDWR | os.O_CREAT, 0o100644, 0).pack() + b"file\0",
            Opcode.LINK: wire.LinkIn(counted).pack() + b"new\0",
        }[opcode]
        with pytest.raises(OSError, match="Numerical result out of range"):
            scene.fs.request(opcode, scene.top, args, 40)
        scene.fs.forget(counted, 1)
        with pytest.raises(OSError, match="Stale"):
            scene.fs.getattr(counted)


@pytest.mark.promise("forget-2")
def test_forgetting_too_much_harms_nobody(own: Share) -> None:
    fs = own.fs
    nodeid = fs.lookup(ROOT_ID, b"file").nodeid
    fs.forget(nodeid, 1 << 63)
    with pytest.raises(OSError, match="Stale"):
        fs.getattr(nodeid)
    fs.forget(nodeid, 1)
    fs.forget(ROOT_ID, 1 << 40)
    fs.forget(0x4242_4242, 3)
    fs.batch_forget([(nodeid, 1), (0, 1), (ROOT_ID, (1 << 64) - 1)])
    again = fs.lookup(ROOT_ID, b"file").nodeid
    assert again != nodeid
    fs.getattr(again)
    fs.getattr(ROOT_ID)


@pytest.mark.promise("forget-2")
def test_a_batch_that_says_more_than_it_has(own: Share) -> None:
    fs = own.fs
    nodeid = fs.lookup(ROOT_ID, b"file").nodeid
    args = struct.pack("<II", 1000, 0) + struct.pack("<QQ", nodeid, 1)
    fs.one_way(Opcode.BATCH_FORGET, 0, args, {})
    with pytest.raises(OSError, match="Stale"):
        fs.getattr(nodeid)
    fs.one_way(Opcode.BATCH_FORGET, 0, struct.pack("<II", 0xFFFF_FFFF, 0), {})
    fs.getattr(ROOT_ID)


@pytest.mark.promise("forget-3")
def test_an_open_file_outlives_its_node(own: Share) -> None:
    """A guest that forgets before it releases is wrong, and loses nothing but that."""
    fs = own.fs
    nodeid = fs.lookup(ROOT_ID, b"file").nodeid
    fh = fs.open(nodeid).fh
    fs.forget(nodeid)
    assert fs.read(nodeid, fh, 0, 4) == b"0123"
    fs.release(nodeid, fh)


@pytest.mark.promise("forget-1")
def test_forgetting_on_one_queue_while_the_other_reads(own: Share) -> None:
    fs = own.fs
    for _ in range(200):
        nodeid = fs.lookup(ROOT_ID, b"file").nodeid
        fh = fs.open(nodeid).fh
        reads = [fs.submit_read(nodeid, fh, 0, 10, queue=1 + n % 2, kick=n > 3) for n in range(6)]
        fs.forget(nodeid)
        for one in reads:
            assert fs.wait(one) == b"0123456789"
        fs.release(nodeid, fh, queue=2)


@pytest.mark.promise("fds-1")
def test_known_nodes_do_not_cost_descriptors() -> None:
    with Share("disk", [*PLAIN, "--rlimit-nofile", "512"]) as share:
        fs, count = share.fs, 3000
        directory = share.root / "many"
        directory.mkdir()
        (directory / "0").touch()
        for number in range(count):
            os.symlink("x", directory / f"f{number}")
        parent = fs.lookup(ROOT_ID, b"many").nodeid
        nodes = [fs.lookup(parent, b"f%d" % number).nodeid for number in range(count)]
        assert share.daemon.fds() < 512
        assert len(set(nodes)) == count
        for nodeid in (nodes[0], nodes[count // 2], nodes[-1]):
            assert fs.getattr(nodeid).attr.nlink == 1
        fs.batch_forget([(nodeid, 1) for nodeid in nodes[:2000]])
        fs.batch_forget([(nodeid, 1) for nodeid in nodes[2000:]])
        assert share.daemon.fds() < 100


@pytest.mark.promise("fds-2")
def test_out_of_descriptors_is_an_error_and_then_over() -> None:
    with Share("disk", [*PLAIN, "--rlimit-nofile", "512"]) as share, share.scene() as scene:
        nodeid = scene.node(b"file")
        handles: list[int] = []
        while (fh := outcome(lambda: scene.fs.open(nodeid).fh)) != os.strerror(ENFILE):
            handles.append(fh)
            assert len(handles) < 600
        assert len(handles) > 200
        scene.fs.getattr(nodeid)
        assert scene.node(b"full/child") != scene.node(b"full")
        assert scene.fs.read(nodeid, handles[0], 0, 4) == b"0123"
        for fh in handles:
            scene.fs.release(nodeid, fh)
        scene.fs.open(nodeid)
        assert scene.node(b"full/child")
