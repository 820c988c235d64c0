# SPDX-License-Identifier: Apache-2.0
"""The fake VMM's FUSE structures: sizes as the kernel has them, parsing that objects."""

from __future__ import annotations

import struct

import pytest

from tests.vmm import fuse_pack as pack
from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import LINUX_6_12, Init

SIZES = {
    wire.InHeader: 40,
    wire.OutHeader: 16,
    wire.Attr: 88,
    wire.Entry: 128,
    wire.AttrOut: 104,
    wire.InitIn: 64,
    wire.InitOut: 64,
    wire.GetattrIn: 16,
    wire.SetattrIn: 88,
    wire.MknodIn: 16,
    wire.MkdirIn: 8,
    wire.RenameIn: 8,
    wire.Rename2In: 16,
    wire.LinkIn: 8,
    wire.OpenIn: 8,
    wire.OpenOut: 16,
    wire.CreateIn: 16,
    wire.ReleaseIn: 24,
    wire.FlushIn: 24,
    wire.ReadIn: 40,
    wire.WriteIn: 40,
    wire.WriteOut: 8,
    wire.Statfs: 80,
    wire.FsyncIn: 16,
    wire.SetxattrIn: 16,
    wire.GetxattrIn: 8,
    wire.FileLock: 24,
    wire.AccessIn: 8,
    wire.InterruptIn: 8,
    wire.IoctlIn: 32,
    wire.IoctlOut: 16,
    wire.FallocateIn: 32,
    wire.LseekIn: 24,
    wire.CopyFileRangeIn: 56,
    wire.StatxIn: 24,
    wire.Statx: 256,
    wire.StatxOut: 288,
}


@pytest.mark.parametrize("structure", SIZES, ids=lambda cls: cls.__name__)
def test_size(structure: type[wire.Wire]) -> None:
    assert structure.wire_size() == SIZES[structure]


def test_every_structure_has_its_size_checked() -> None:
    assert set(SIZES) == set(wire.Wire.__subclasses__())


def test_fields_are_where_the_header_has_them() -> None:
    data = bytes(range(40))
    header = wire.InHeader.unpack(data)
    assert header.unique == int.from_bytes(data[8:16], "little")
    assert header.total_extlen == int.from_bytes(data[36:38], "little")
    setattr_in = wire.SetattrIn(valid=1, mode=0o640, gid=7).pack()
    assert setattr_in[68:72] == (0o640).to_bytes(4, "little")
    assert setattr_in[80:84] == (7).to_bytes(4, "little")


def dirent(name: bytes, off: int) -> bytes:
    data = struct.pack("<QQII", 5, off, len(name), 8) + name
    return data + bytes(-len(data) % 8)


def test_directory_entries_are_parsed() -> None:
    entries = pack.unpack_dirents(dirent(b"a", 1) + dirent(b"12345678", 2))
    assert [(e.name, e.off, e.ino, e.type) for e in entries] == [
        (b"a", 1, 5, 8),
        (b"12345678", 2, 5, 8),
    ]
    (plus,) = pack.unpack_dirents(bytes(128) + dirent(b"abc", 9), plus=True)
    assert plus.name == b"abc"
    assert plus.entry is not None
    assert plus.entry.nodeid == 0


@pytest.mark.parametrize("cut", [1, 7, 8, 20])
def test_a_cut_directory_entry_is_an_error(cut: int) -> None:
    data = dirent(b"12345678", 2)
    with pytest.raises(ValueError, match=r"left over|does not end"):
        pack.unpack_dirents(data[:-cut])


def test_extensions_are_whole_words_and_say_their_size() -> None:
    for data in (
        pack.pack_security_context([]),
        pack.pack_security_context([(b"security.selinux", b"label")]),
        pack.pack_groups([4]),
        pack.pack_groups([4, 5]),
    ):
        assert len(data) % 8 == 0
        assert struct.unpack_from("<I", data)[0] == len(data)
    assert struct.unpack_from("<IIII", pack.pack_groups([4])) == (16, 32, 1, 4)


def test_the_flags_offered_fit_two_words_and_leave_out_what_needs_a_dax_window() -> None:
    assert LINUX_6_12 >> 64 == 0
    assert Init.INIT_EXT in LINUX_6_12
    assert not LINUX_6_12 & (Init.MAP_ALIGNMENT | Init.HAS_INODE_DAX)
