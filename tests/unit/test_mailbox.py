# SPDX-License-Identifier: Apache-2.0
"""What the data plane of a remote backend answers by itself, and what it asks."""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from ovfs.native._plane import ffi

from ovfs.native import Attr, Entry, mailbox
from ovfs.native.mailbox import Note
from ovfs.native.values import ATTR_NO_XATTRS
from tests.unit.clerk import DIRECTORY, ROOT_INO, Scene, attr_of, entry_of
from tests.vmm import ROOT_ID, Opcode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ovfs.native.mailbox import Mail

NONE = Entry(0, attr_of(), 0.0, 60.0)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene() as scene:
        yield scene


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="opcode") as caught:
        call()
    assert caught.value.errno == number


# ---- names ----


def test_a_lookup_is_asked_once_and_then_known(scene: Scene) -> None:
    entry = entry_of(7, attr_of(size=123, mtime_ns=1_500_000_000_123_456_789))
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, entry)
    cold = scene.fuse.lookup(ROOT_ID, b"file", uid=1000, gid=100, pid=42)
    (mail,) = scene.clerk.wait(Opcode.LOOKUP)
    assert (mail.ino, mail.names, mail.uid, mail.gid, mail.pid) == (1, (b"file",), 1000, 100, 42)
    warm = scene.fuse.lookup(ROOT_ID, b"file")
    assert (warm.nodeid, warm.attr) == (cold.nodeid, cold.attr)
    assert (warm.attr.ino, warm.attr.size, warm.attr.uid) == (7, 123, 1000)
    assert (warm.attr.mtime, warm.attr.mtimensec) == (1_500_000_000, 123_456_789)
    assert (warm.entry_valid, warm.attr_valid) == (1, 1)  # the options' time-outs are less
    assert len(scene.clerk.seen) == 1
    scene.fuse.forget(cold.nodeid, 1)
    assert scene.fuse.getattr(cold.nodeid).attr.size == 123  # one lookup is left
    scene.fuse.forget(cold.nodeid, 1)
    scene.clerk.wait_note(Note.FORGET, 7)
    refused(errno.ESTALE, lambda: scene.fuse.getattr(cold.nodeid))


def test_a_short_validity_is_told_and_ends(scene: Scene) -> None:
    entry = entry_of(7, valid=0.05)
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, entry)
    reply = scene.fuse.lookup(ROOT_ID, b"file")
    assert reply.entry_valid == 0
    assert 0 < reply.entry_valid_nsec <= 50_000_000
    assert 0 < reply.attr_valid_nsec <= 50_000_000
    scene.clerk.call(lambda: scene.mailbox.set_attr(7, attr_of(size=1), 60.0))
    scene.clerk.call(lambda: scene.mailbox.set_name(ROOT_INO, b"file", 7, 0.0))
    scene.fuse.lookup(ROOT_ID, b"file")
    scene.clerk.wait(Opcode.LOOKUP, Opcode.LOOKUP)


def test_a_name_that_is_not_there_is_known_too(scene: Scene) -> None:
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, NONE)
    for _ in range(3):
        reply = scene.fuse.lookup(ROOT_ID, b"nothing")
        assert (reply.nodeid, reply.entry_valid) == (0, 1)
    scene.clerk.wait(Opcode.LOOKUP)
    never = Entry(0, attr_of(), 0.0, 0.0)
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, never)
    for _ in range(2):
        refused(errno.ENOENT, lambda: scene.fuse.lookup(ROOT_ID, b"neither"))
    scene.clerk.wait(Opcode.LOOKUP, Opcode.LOOKUP, Opcode.LOOKUP)


def test_names_are_said_and_dropped(scene: Scene) -> None:
    node = scene.enter(b"file", entry_of(7))
    scene.clerk.call(lambda: scene.mailbox.set_name(ROOT_INO, b"other", 7, 60.0))
    scene.clerk.call(lambda: scene.mailbox.set_name(ROOT_INO, b"file", 0, 60.0))
    assert scene.fuse.lookup(ROOT_ID, b"other").nodeid == node
    assert scene.fuse.lookup(ROOT_ID, b"file").nodeid == 0
    assert not scene.clerk.seen
    scene.clerk.call(lambda: scene.mailbox.drop_names(ROOT_INO))
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, NONE)
    assert scene.fuse.lookup(ROOT_ID, b"other").nodeid == 0
    scene.clerk.wait(Opcode.LOOKUP)


def test_a_name_of_a_file_is_no_directory(scene: Scene) -> None:
    node = scene.enter(b"file", entry_of(7))
    refused(errno.ENOTDIR, lambda: scene.fuse.lookup(node, b"x"))
    refused(errno.ENOTDIR, lambda: scene.fuse.opendir(node))
    refused(errno.EISDIR, lambda: scene.fuse.open(ROOT_ID))


# ---- attributes ----


def test_attributes_are_asked_for_once_they_are_no_longer_valid(scene: Scene) -> None:
    node = scene.enter(b"file", entry_of(7, attr_of(size=1)))
    assert scene.fuse.getattr(node).attr.size == 1
    assert not scene.clerk.seen
    scene.clerk.call(lambda: scene.mailbox.set_attr(7, attr_of(size=2), 60.0))
    assert scene.fuse.getattr(node).attr.size == 2
    assert scene.fuse.statx(node).stat.size == 2
    assert not scene.clerk.seen
    scene.clerk.call(lambda: scene.mailbox.set_attr(7, attr_of(size=2), 0.0))
    new = attr_of(size=3)
    scene.clerk.answers[Opcode.GETATTR] = lambda mail: scene.mailbox.attr(mail.tag, new, 60.0)
    assert scene.fuse.getattr(node).attr.size == 3
    assert scene.fuse.getattr(node).attr.size == 3
    scene.clerk.wait(Opcode.GETATTR)
    assert not scene.clerk.call(lambda: scene.mailbox.set_attr(99, new, 60.0))
    refused(errno.EBADF, lambda: scene.fuse.getattr(node, fh=12345))


def test_setattr_and_statx_are_answered_by_mail(scene: Scene) -> None:
    node = scene.enter(b"file", entry_of(7, attr_of(size=1), valid=0.0))
    new = attr_of(mode=stat.S_IFREG | 0o600)
    for opcode in (Opcode.SETATTR, Opcode.STATX):
        scene.clerk.answers[opcode] = lambda mail: scene.mailbox.attr(mail.tag, new, 0.0)
    assert scene.fuse.setattr(node, mode=0o600).attr.mode == new.mode
    assert scene.fuse.statx(node).stat.mode == new.mode
    first, _ = scene.clerk.wait(Opcode.SETATTR, Opcode.STATX)
    assert len(first.arg) == 88
    assert struct.unpack_from("<I", first.arg)[0] & 1  # FATTR_MODE


def test_what_changes_names_is_asked_for(scene: Scene) -> None:
    made = iter(range(10, 20))

    def make(mail: Mail) -> None:
        kind = {Opcode.MKDIR: stat.S_IFDIR, Opcode.SYMLINK: stat.S_IFLNK}
        mode = kind.get(Opcode(mail.opcode), stat.S_IFREG) | 0o755
        scene.mailbox.entry(mail.tag, entry_of(next(made), attr_of(mode=mode)))

    for opcode in (Opcode.MKDIR, Opcode.MKNOD, Opcode.SYMLINK):
        scene.clerk.answers[opcode] = make
    for opcode in (Opcode.UNLINK, Opcode.RMDIR, Opcode.RENAME, Opcode.RENAME2):
        scene.clerk.answers[opcode] = lambda mail: scene.mailbox.result(mail.tag, 0)
    target = b"t" * 4000  # does not lie in the mail itself
    directory = scene.fuse.mkdir(ROOT_ID, b"dir").nodeid
    scene.fuse.mknod(ROOT_ID, b"file", stat.S_IFREG | 0o644)
    link = scene.fuse.symlink(ROOT_ID, b"link", target).nodeid
    scene.fuse.rename(ROOT_ID, b"file", directory, b"moved")
    scene.fuse.rename2(ROOT_ID, b"dir", ROOT_ID, b"other", 1)
    scene.fuse.unlink(ROOT_ID, b"file")
    scene.fuse.rmdir(ROOT_ID, b"dir")
    mails = scene.clerk.wait(
        *(Opcode.MKDIR, Opcode.MKNOD, Opcode.SYMLINK, Opcode.RENAME, Opcode.RENAME2),
        *(Opcode.UNLINK, Opcode.RMDIR),
    )
    assert mails[2].names == (b"link", target)
    assert (mails[3].names, mails[3].ino, mails[3].ino2) == ((b"file", b"moved"), 1, 10)
    scene.clerk.answers[Opcode.READLINK] = lambda mail: scene.mailbox.data(mail.tag, target)
    assert scene.fuse.readlink(link) == target
    assert scene.fuse.lookup(ROOT_ID, b"link").nodeid == link  # its name was entered with it
    refused(errno.ESTALE, lambda: scene.fuse.rename(ROOT_ID, b"file", 999, b"x"))
    refused(errno.EPERM, lambda: scene.fuse.link(link, ROOT_ID, b"x"))


def test_a_share_that_is_read_only_is_not_asked_to_change() -> None:
    with Scene(readonly=True) as scene:
        refused(errno.EROFS, lambda: scene.fuse.mkdir(ROOT_ID, b"dir"))
        node = scene.enter(b"file", entry_of(7))
        refused(errno.EROFS, lambda: scene.fuse.open(node, os.O_RDWR))
        assert not scene.clerk.seen


# ---- listings ----

FILES = [(b"file-%d" % number, entry_of(100 + number, attr_of(number))) for number in range(50)]
NAMELESS = (b"nodeless", Entry(0, attr_of(mode=stat.S_IFDIR), 0.0, 0.0))


def list_by(scene: Scene, mail: Mail) -> None:
    scene.mailbox.set_listing(ROOT_INO, ROOT_INO, [*FILES, NAMELESS], 60.0)
    scene.mailbox.retry(mail.tag)


def test_a_directory_is_listed_once_and_read_in_pieces(scene: Scene) -> None:
    scene.clerk.answers[Opcode.READDIR] = lambda mail: list_by(scene, mail)
    fh = scene.fuse.opendir(ROOT_ID).fh
    names: list[bytes] = []
    offset = 0
    while entries := scene.fuse.readdir(ROOT_ID, fh, offset, 200):
        names += [entry.name for entry in entries]
        offset = entries[-1].off
    assert names == [b".", b"..", *(name for name, _ in FILES), b"nodeless"]
    assert offset == len(names)
    scene.clerk.wait(Opcode.READDIR)
    assert sorted(scene.fuse.list_names(ROOT_ID)) == sorted(names[2:])
    scene.fuse.releasedir(ROOT_ID, fh)
    refused(errno.EBADF, lambda: scene.fuse.readdir(ROOT_ID, fh, 0, 200))
    assert len(scene.clerk.seen) == 1
    assert scene.plane.stats().inodes == 1  # READDIR counts no lookups


def test_readdirplus_counts_lookups_of_what_fits_only(scene: Scene) -> None:
    scene.clerk.answers[Opcode.READDIRPLUS] = lambda mail: list_by(scene, mail)
    fh = scene.fuse.opendir(ROOT_ID).fh
    first = scene.fuse.readdirplus(ROOT_ID, fh, 0, 1024)
    counted = [entry.entry for entry in first if entry.entry and entry.entry.nodeid]
    assert 0 < len(counted) == len(first) - 2
    assert scene.plane.stats().inodes == 1 + len(counted)
    assert [entry.attr.ino for entry in counted] == [100 + n for n in range(len(counted))]
    for entry in counted:
        scene.fuse.forget(entry.nodeid, 1)
    assert scene.plane.stats().inodes == 1
    last = scene.fuse.readdirplus(ROOT_ID, fh, 51, 4096)
    assert [entry.name for entry in last] == [b"file-49", b"nodeless"]
    assert last[1].entry is not None
    assert last[1].entry.nodeid == 0
    assert last[1].ino != 0
    assert last[1].type == stat.S_IFDIR >> 12
    scene.clerk.wait(Opcode.READDIRPLUS)


def test_a_listing_answers_lookups(scene: Scene) -> None:
    assert scene.clerk.call(
        lambda: scene.mailbox.set_listing(ROOT_INO, ROOT_INO, [*FILES, NAMELESS], 60.0)
    )
    assert scene.fuse.lookup(ROOT_ID, b"file-7").attr.size == 7
    assert scene.fuse.lookup(ROOT_ID, b"nothing").nodeid == 0
    assert not scene.clerk.seen
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, entry_of(5))
    assert scene.fuse.lookup(ROOT_ID, b"nodeless").attr.ino == 5
    scene.clerk.wait(Opcode.LOOKUP)


def test_what_is_said_later_than_a_listing_counts(scene: Scene) -> None:
    scene.clerk.call(lambda: scene.mailbox.set_listing(ROOT_INO, ROOT_INO, FILES, 60.0))
    scene.clerk.call(lambda: scene.mailbox.set_name(ROOT_INO, b"file-7", 0, 60.0))
    scene.clerk.call(lambda: scene.mailbox.set_attr(108, attr_of(size=800), 60.0))
    scene.clerk.call(lambda: scene.mailbox.set_name(ROOT_INO, b"file-9", 0, 0.0))
    assert scene.fuse.lookup(ROOT_ID, b"file-7").nodeid == 0
    assert not scene.clerk.seen
    new = entry_of(108, attr_of(size=800))
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, new)
    assert scene.fuse.lookup(ROOT_ID, b"file-8").attr.size == 800  # not the 8 of the listing
    scene.fuse.lookup(ROOT_ID, b"file-9")
    assert [mail.names for mail in scene.clerk.wait(Opcode.LOOKUP, Opcode.LOOKUP)] == [
        (b"file-8",),
        (b"file-9",),
    ]
    scene.clerk.answers[Opcode.READDIR] = lambda mail: list_by(scene, mail)
    fh = scene.fuse.opendir(ROOT_ID).fh
    scene.fuse.readdir(ROOT_ID, fh, 0, 4096)  # names have changed, so it is asked for
    assert scene.clerk.seen[-1].opcode == Opcode.READDIR
    assert scene.fuse.lookup(ROOT_ID, b"file-7").nodeid != 0  # and the new one is newer


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"n" * 256])
def test_a_listing_with_an_impossible_name_is_refused(scene: Scene, name: bytes) -> None:
    def offer() -> int | None:
        try:
            scene.mailbox.set_listing(ROOT_INO, ROOT_INO, [(name, entry_of(9))], 1.0)
        except OSError as error:
            return error.errno
        return None

    assert scene.clerk.call(offer) == errno.EINVAL
    assert not scene.clerk.call(lambda: scene.mailbox.set_listing(99, ROOT_INO, [], 1.0))


def test_a_listing_that_does_not_come_is_an_error(scene: Scene) -> None:
    scene.clerk.answers[Opcode.READDIR] = lambda mail: scene.mailbox.retry(mail.tag)
    fh = scene.fuse.opendir(ROOT_ID).fh
    refused(errno.EIO, lambda: scene.fuse.readdir(ROOT_ID, fh, 0, 4096))


# ---- extended attributes, the rest ----


def test_xattrs_are_asked_for_unless_there_are_none(scene: Scene) -> None:
    none = scene.enter(b"none", entry_of(7, attr_of(flags=ATTR_NO_XATTRS)))
    some = scene.enter(b"some", entry_of(8))
    refused(errno.ENODATA, lambda: scene.fuse.getxattr(none, b"user.x"))
    assert scene.fuse.listxattr(none) == []
    assert scene.fuse.listxattr_size(none) == 0
    refused(errno.EOPNOTSUPP, lambda: scene.fuse.getxattr(some, b"system.posix_acl_access"))
    assert not scene.clerk.seen
    value = bytes(range(256)) * 4
    scene.clerk.answers[Opcode.GETXATTR] = lambda mail: scene.mailbox.data(mail.tag, value)
    scene.clerk.answers[Opcode.SETXATTR] = lambda mail: scene.mailbox.result(mail.tag, 0)
    assert scene.fuse.getxattr_size(some, b"user.x") == len(value)
    assert scene.fuse.getxattr(some, b"user.x") == value
    refused(errno.ERANGE, lambda: scene.fuse.getxattr(some, b"user.x", 10))
    scene.fuse.setxattr(some, b"user.x", value)
    assert scene.clerk.seen[-1].data == value
    assert scene.clerk.seen[-1].names == (b"user.x",)


def test_statfs_and_errors_come_by_mail(scene: Scene) -> None:
    payload = struct.pack("<5Q4I6I", 10, 9, 8, 7, 6, 4096, 255, 4096, *[0] * 7)
    scene.clerk.answers[Opcode.STATFS] = lambda mail: scene.mailbox.data(mail.tag, payload)
    assert scene.fuse.statfs().blocks == 10
    scene.clerk.answers[Opcode.STATFS] = lambda mail: scene.mailbox.result(mail.tag, errno.EACCES)
    refused(errno.EACCES, scene.fuse.statfs)
    refused(errno.ENOSYS, lambda: scene.fuse.access(ROOT_ID, 4))


def test_a_session_s_end_is_one_note(scene: Scene) -> None:
    node = scene.enter(b"file", entry_of(7))
    scene.fuse.init()
    scene.clerk.wait_note(Note.RESET, 0)
    assert scene.clerk.notes == [(Note.RESET, 0)]  # not one for each node
    refused(errno.ESTALE, lambda: scene.fuse.getattr(node))
    assert scene.plane.stats().inodes == 1
    scene.clerk.answers[Opcode.GETATTR] = lambda mail: scene.mailbox.attr(mail.tag, DIRECTORY, 1.0)
    scene.fuse.getattr(ROOT_ID)  # nothing of the old session is valid
    scene.clerk.wait(Opcode.GETATTR)


def test_a_forgotten_node_that_a_listing_brings_back_is_not_reported(scene: Scene) -> None:
    scene.clerk.call(lambda: scene.mailbox.set_listing(ROOT_INO, ROOT_INO, FILES, 60.0))
    node = scene.fuse.lookup(ROOT_ID, b"file-1").nodeid

    def meanwhile() -> None:  # the clerk's own thread: it takes no mail in between
        scene.fuse.forget(node, 1)
        scene.fuse.lookup(ROOT_ID, b"file-1")
        scene.fuse.forget(scene.fuse.lookup(ROOT_ID, b"file-2").nodeid, 1)

    scene.clerk.call(meanwhile)
    scene.clerk.wait_note(Note.FORGET, 102)
    assert (Note.FORGET, 101) not in scene.clerk.notes


def test_values_are_laid_out_as_in_the_header() -> None:
    header = [name for name, _ in ffi.typeof("struct ovfs_attr").fields]
    assert [entry.name for entry in fields(Attr)] == header
    entry = Entry(1, Attr(2, -3, -4, -5, 6, 7, 8, 9, 10, 11), 1.5, 2.5)
    for packed in (mailbox.pack_entries([(b"", entry)]), mailbox.pack_entries([(b"", entry)] * 2)):
        raw = ffi.from_buffer("struct ovfs_entry[]", packed)
        last = raw[len(raw) - 1]
        assert [getattr(last.attr, name) for name in header] == [2, -3, -4, -5, *range(6, 12)]
        assert (last.ino, last.attr_valid_ns, last.entry_valid_ns) == (1, 1500000000, 2500000000)
    assert mailbox.nanoseconds(float("inf")) == mailbox.nanoseconds(1e18) == 1 << 62
    assert mailbox.nanoseconds(-1.0) == 0
