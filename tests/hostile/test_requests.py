# SPDX-License-Identifier: Apache-2.0
"""Requests that lie: about their length, about what they name, about who they are."""

from __future__ import annotations

import errno
import os
import random
import struct
from typing import TYPE_CHECKING

import pytest

from tests.process.place import error_of
from tests.vmm import ROOT_ID, Opcode, WireError
from tests.vmm import fuse_pack as pack
from tests.vmm import fuse_wire as wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.prey import Prey
    from tests.vmm import FuseClient

U64 = 0xFFFF_FFFF_FFFF_FFFF
BIG = 1 << 16


@pytest.fixture
def fs(prey: Prey) -> Iterator[FuseClient]:
    """A guest; whatever it did, it is served on, and so is the next one."""
    with prey.guest() as (_, fs):
        yield fs
        prey.check_serves(fs)
    prey.check_next()


def _file(fs: FuseClient) -> tuple[int, int]:
    node = fs.lookup(ROOT_ID, b"data").nodeid
    return node, fs.open(node, os.O_RDWR).fh


def _near(value: int) -> list[int]:
    """Numbers that differ little from one that is right, and some that differ much."""
    dice = random.Random(value)
    near = {(value + step) & U64 for step in (-2, -1, 1, 2, 1 << 32, -(1 << 32))}
    near |= {value ^ 1 << bit for bit in range(64)}
    near |= {value & 0xFFFF_FFFF, value >> 32, value << 32 & U64, ~value & U64, 0, U64, 1 << 63}
    near |= {dice.getrandbits(64) for _ in range(200)}
    return sorted(near - {value})


def test_forged_nodes_are_stale(fs: FuseClient) -> None:
    node, _ = _file(fs)
    known = {ROOT_ID, node}
    for forged in _near(node) + _near(ROOT_ID):
        if forged in known:
            continue
        for opcode, args in (
            (Opcode.GETATTR, bytes(16)),
            (Opcode.OPEN, bytes(8)),
            (Opcode.LOOKUP, b"data\0"),
            (Opcode.READLINK, b""),
        ):
            assert error_of(fs, fs.submit(opcode, forged, args, 4096)) == errno.ESTALE, hex(forged)


def test_a_forgotten_node_is_stale_and_stays_so(fs: FuseClient) -> None:
    node = fs.lookup(ROOT_ID, b"data").nodeid
    fs.forget(node)
    for _ in range(50):
        again = fs.lookup(ROOT_ID, b"data").nodeid
        assert again != node
        assert error_of(fs, fs.submit(Opcode.GETATTR, node, bytes(16), 104)) == errno.ESTALE
        fs.forget(again)


def test_more_forgotten_than_was_known(fs: FuseClient, prey: Prey) -> None:
    node, fh = _file(fs)
    fs.forget(node, U64)
    fs.forget(node, U64)
    fs.forget(ROOT_ID, U64)
    fs.batch_forget([(forged, U64) for forged in _near(node)])
    fs.one_way(Opcode.BATCH_FORGET, 0, struct.pack("<II", 0xFFFF_FFFF, 0) + bytes(64), {})
    fs.one_way(Opcode.BATCH_FORGET, 0, struct.pack("<II", 100, 0), {})
    # The root is never forgotten, and an open file outlives its node.
    assert fs.getattr(ROOT_ID).attr.mode
    assert error_of(fs, fs.submit(Opcode.GETATTR, node, bytes(16), 104)) == errno.ESTALE
    assert len(fs.read(node, fh, 0, 10)) == 10


def test_forged_handles_are_bad(fs: FuseClient) -> None:
    node, fh = _file(fs)
    for forged in _near(fh):
        args = wire.ReadIn(forged, 0, 100).pack()
        assert error_of(fs, fs.submit(Opcode.READ, node, args, 100)) == errno.EBADF, hex(forged)
        args = wire.ReleaseIn(forged).pack()
        assert error_of(fs, fs.submit(Opcode.RELEASE, node, args)) == errno.EBADF
    # A handle of another file is none of this one.
    other = fs.lookup(ROOT_ID, b"sub").nodeid
    for nodeid in (other, ROOT_ID):
        assert error_of(fs, fs.submit_read(nodeid, fh, 0, 100)) == errno.EBADF
    listing = fs.opendir(ROOT_ID).fh
    assert error_of(fs, fs.submit_read(ROOT_ID, listing, 0, 100)) == errno.EBADF
    fs.release(node, fh)
    assert error_of(fs, fs.submit_read(node, fh, 0, 100)) == errno.EBADF


@pytest.mark.parametrize(
    "length", [0, 1, 39, 40, 41, 55, 57, 200, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
)
def test_header_that_lies_about_the_length(length: int, fs: FuseClient) -> None:
    header = wire.InHeader(length, Opcode.GETATTR, 4242, ROOT_ID).pack()
    assert error_of(fs, fs.submit_raw(header + bytes(16), 200)) == errno.EINVAL


def test_header_shorter_than_what_is_there(fs: FuseClient) -> None:
    """What is behind the stated end is no part of the request."""
    header = wire.InHeader(56, Opcode.GETATTR, 4242, ROOT_ID).pack()
    assert error_of(fs, fs.submit_raw(header + bytes(16) + b"rest" * 50, 200)) == 0


def test_every_opcode_with_too_little_and_with_noise(fs: FuseClient) -> None:
    """All numbers up to 100 and beyond, on a node that exists: any answer, but an answer."""
    dice = random.Random(7)
    skipped = {Opcode.DESTROY, Opcode.INIT, Opcode.SETLKW}
    silent = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, 41}  # 41: NOTIFY_REPLY
    for opcode in [*range(100), 4096, 0x7FFF_FFFF, 0xFFFF_FFFF]:
        if opcode in skipped:
            continue
        for size in (0, 1, 7, 8, 16, 40, 200):
            args = dice.randbytes(size)
            pending = fs.submit(opcode, ROOT_ID, args, -1 if opcode in silent else 4096)
            try:
                error = error_of(fs, pending)
            except WireError:
                assert opcode in silent
                continue
            assert error >= 0
            if size < 8 and opcode in {Opcode.READ, Opcode.WRITE, Opcode.SETATTR, Opcode.RENAME2}:
                assert error == errno.EINVAL


def test_sizes_that_lie(fs: FuseClient, prey: Prey) -> None:
    node, fh = _file(fs)
    before = (prey.root / "data").read_bytes()
    # READ of more than there is room for fills the room.
    args = wire.ReadIn(fh, 0, 0xFFFF_FFFF).pack()
    assert fs.request(Opcode.READ, node, args, 100) == before[:100]
    for offset in (1 << 63, U64, (1 << 63) - 1):
        args = wire.ReadIn(fh, offset, 4096).pack()
        assert error_of(fs, fs.submit(Opcode.READ, node, args, 4096)) in {0, errno.EINVAL}
    # WRITE of more than was sent writes nothing.
    for size in (5, 4096, 0xFFFF_FFFF):
        args = wire.WriteIn(fh, 0, size).pack() + b"1234"
        assert error_of(fs, fs.submit(Opcode.WRITE, node, args, 8)) == errno.EINVAL
    args = wire.WriteIn(fh, (1 << 63) - 2, 4).pack() + b"1234"
    assert error_of(fs, fs.submit(Opcode.WRITE, node, args, 8)) == errno.EFBIG
    assert (prey.root / "data").read_bytes() == before
    # A reply that does not fit is an error, and the file is as it was.
    args = wire.WriteIn(fh, 0, 4).pack() + b"1234"
    assert error_of(fs, fs.submit(Opcode.WRITE, node, args, 7)) == errno.ERANGE
    assert (prey.root / "data").read_bytes() == before
    for opcode in (Opcode.GETXATTR, Opcode.LISTXATTR):
        args = struct.pack("<II", 0xFFFF_FFFF, 0) + b"user.x\0"
        assert error_of(fs, fs.submit(opcode, node, args, 16)) > 0 or opcode == Opcode.LISTXATTR
    args = struct.pack("<IIII", 0xFFFF_FFFF, 0, 0, 0) + b"user.x\0value"
    assert error_of(fs, fs.submit(Opcode.SETXATTR, node, args)) > 0
    args = wire.ReadIn(fs.opendir(ROOT_ID).fh, 0, 0xFFFF_FFFF).pack()
    for opcode in (Opcode.READDIR, Opcode.READDIRPLUS):
        for room in (0, 1, 23):  # for no entry at all: as getdents(2) says
            assert error_of(fs, fs.submit(opcode, ROOT_ID, args, room)) == errno.EINVAL
        data = fs.request(opcode, ROOT_ID, args, 300)
        assert 0 < len(data) <= 300
        assert pack.unpack_dirents(data, plus=opcode == Opcode.READDIRPLUS)


BAD_NAMES = {
    b"": {errno.ENOENT},
    b".": {errno.EINVAL},
    b"..": {errno.EINVAL},
    b"/": {errno.EINVAL},
    b"../outside": {errno.EINVAL},
    b"../outside/secret": {errno.EINVAL},
    b"sub/inner": {errno.EINVAL},
    b"sub/": {errno.EINVAL},
    b"/etc": {errno.EINVAL},
    b"a" * 256: {errno.ENAMETOOLONG},
    b"a" * 5000: {errno.ENAMETOOLONG},
}


def _naming(name: bytes, sub: int) -> list[tuple[str, Opcode, bytes]]:
    """Every request with a name, this one in each place for one."""
    text = name + b"\0"
    lock = (Opcode.RENAME, struct.pack("<Q", sub)), (Opcode.RENAME2, struct.pack("<QII", sub, 0, 0))
    rows = [
        ("lookup", Opcode.LOOKUP, text),
        ("unlink", Opcode.UNLINK, text),
        ("rmdir", Opcode.RMDIR, text),
        ("mkdir", Opcode.MKDIR, struct.pack("<II", 0o777, 0) + text),
        ("mknod", Opcode.MKNOD, struct.pack("<IIII", 0o100644, 0, 0, 0) + text),
        ("create", Opcode.CREATE, wire.CreateIn(os.O_RDWR | os.O_CREAT, 0o644, 0).pack() + text),
        ("symlink", Opcode.SYMLINK, text + b"target\0"),
        ("link", Opcode.LINK, struct.pack("<Q", sub) + text),
    ]
    for opcode, head in lock:
        rows.append((f"{opcode.name} from", opcode, head + text + b"fine\0"))
        rows.append((f"{opcode.name} to", opcode, head + b"data\0" + text))
    return rows


@pytest.mark.parametrize("name", list(BAD_NAMES), ids=lambda name: repr(name[:20]))
def test_names_that_are_none(name: bytes, fs: FuseClient, prey: Prey) -> None:
    sub = fs.lookup(ROOT_ID, b"sub").nodeid
    before = sorted(os.listdir(prey.root))
    for what, opcode, args in _naming(name, sub):
        for parent in (ROOT_ID, sub):
            error = error_of(fs, fs.submit(opcode, parent, args, 4096))
            assert error in BAD_NAMES[name], (what, errno.errorcode.get(error))
    assert sorted(os.listdir(prey.root)) == before
    assert os.listdir(prey.root / "sub") == ["inner"]


def test_names_without_an_end(fs: FuseClient, prey: Prey) -> None:
    sub = fs.lookup(ROOT_ID, b"sub").nodeid
    before = sorted(os.listdir(prey.root))
    for what, opcode, args in _naming(b"name", sub):
        if opcode in {Opcode.SYMLINK, Opcode.RENAME, Opcode.RENAME2}:
            cut = args[: args.rindex(b"\0")]
        else:
            cut = args[:-1]
        assert error_of(fs, fs.submit(opcode, ROOT_ID, cut, 4096)) == errno.EINVAL, what
    assert sorted(os.listdir(prey.root)) == before


def test_a_name_ends_at_its_first_nul(fs: FuseClient, prey: Prey) -> None:
    entry = wire.Entry.unpack(fs.request(Opcode.LOOKUP, ROOT_ID, b"data\0/../outside\0", 128))
    assert entry.nodeid == fs.lookup(ROOT_ID, b"data").nodeid
    made = fs.request(Opcode.MKDIR, ROOT_ID, struct.pack("<II", 0o755, 0) + b"cut\0/x\0", 128)
    assert wire.Entry.unpack(made).nodeid
    assert os.listdir(prey.root / "cut") == []
    fs.rmdir(ROOT_ID, b"cut")


@pytest.mark.parametrize("link", [b"relative", b"absolute", b"up"])
def test_links_that_lead_outside_are_not_followed(link: bytes, fs: FuseClient) -> None:
    entry = fs.lookup(ROOT_ID, link)
    assert entry.attr.mode >> 12 == 0o12
    assert error_of(fs, fs.submit(Opcode.LOOKUP, entry.nodeid, b"secret\0", 128)) == errno.ENOTDIR
    assert error_of(fs, fs.submit(Opcode.OPEN, entry.nodeid, bytes(8), 16)) > 0
    assert error_of(fs, fs.submit(Opcode.OPENDIR, entry.nodeid, bytes(8), 16)) > 0
    create = wire.CreateIn(os.O_RDWR | os.O_CREAT, 0o644, 0).pack()
    reply = fs.submit(Opcode.CREATE, ROOT_ID, create + link + b"\0", 4096)
    assert error_of(fs, reply) in {errno.ELOOP, errno.EEXIST}
    fs.setattr(entry.nodeid, mtime_ns=1)
    for parent in (ROOT_ID, entry.nodeid):
        made = fs.submit(Opcode.MKDIR, parent, struct.pack("<II", 0o755, 0) + link + b"\0", 128)
        assert error_of(fs, made) > 0


def test_requests_before_init(prey: Prey) -> None:
    with prey.guest() as (vmm, fs):
        fs.destroy()
        for opcode in (Opcode.GETATTR, Opcode.LOOKUP, Opcode.OPENDIR, Opcode.STATFS):
            assert error_of(fs, fs.submit(opcode, ROOT_ID, b"data\0" + bytes(16), 4096)) > 0
        fs.init()
        prey.check_serves(fs)
        assert vmm.queues[1].in_flight == 0
    prey.check_next()


@pytest.mark.parametrize(
    ("major", "minor"), [(6, 41), (7, 0), (7, 5), (8, 0), (0, 0), (2**32 - 1, 1)]
)
def test_clients_of_other_versions(major: int, minor: int, prey: Prey) -> None:
    with prey.guest() as (_, fs):
        args = wire.InitIn(major, minor, 0, 0, 0).pack()
        fs.wait_reply(fs.submit(Opcode.INIT, 0, args, 64))
    prey.check_next()
