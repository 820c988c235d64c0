# SPDX-License-Identifier: Apache-2.0
"""Open files of a remote backend: which opens, closes and reads the control plane hears of."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from ovfs.native.content import SEGMENT, Content, Layer
from ovfs.native.mailbox import Note
from tests.unit.clerk import Scene, attr_of, entry_of
from tests.vmm import ROOT_ID, Init, Opcode
from tests.vmm import fuse_wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ovfs.native.mailbox import Mail

DATA = bytes(range(256)) * 64
KEEP_CACHE = 1 << 1
NOFLUSH = 1 << 5


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene() as scene:
        yield scene


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="opcode") as caught:
        call()
    assert caught.value.errno == number


def stored(data: bytes = DATA, version: int = 1) -> Content:
    """A content whose bytes are all at hand."""
    content = Content(len(data), len(data), version)
    fd = os.memfd_create("segment")
    os.write(fd, data)
    content.add_segment(Layer.BASE, 0, fd)
    content.mark_present(0, len(data))
    return content


def written() -> Content:
    """A content that takes the guest's writes."""
    content = Content(0, 0, 0)
    fd = os.memfd_create("segment")
    os.ftruncate(fd, SEGMENT)
    content.add_segment(Layer.WRITE, 0, fd)
    content.set_writable(True)
    return content


def opened(scene: Scene, content: Content) -> int:
    """A node of a file, ino 7, whose OPEN is answered with this content."""
    scene.clerk.answers[Opcode.OPEN] = lambda mail: scene.mailbox.open(mail.tag, content)
    return scene.enter(b"file", entry_of(7, attr_of(content.state().size)))


def test_a_file_is_opened_for_reading_by_mail_once(scene: Scene) -> None:
    content = stored()
    node = opened(scene, content)
    cold = scene.fuse.open(node)
    assert cold.open_flags == NOFLUSH
    assert scene.fuse.read(node, cold.fh, 100, 1000) == DATA[100:1100]
    assert scene.fuse.read(node, cold.fh, len(DATA) - 10, 1000) == DATA[-10:]
    scene.fuse.flush(node, cold.fh)
    scene.fuse.release(node, cold.fh)
    refused(errno.EBADF, lambda: scene.fuse.read(node, cold.fh, 0, 10))
    scene.clerk.wait(Opcode.OPEN)
    warm = scene.fuse.open(node)
    assert warm.open_flags == NOFLUSH | KEEP_CACHE  # the same version as before
    assert content.state().handles == 1
    scene.fuse.release(node, warm.fh)
    assert content.state().handles == 0
    assert len(scene.clerk.seen) == 1


def test_another_version_is_asked_for_and_drops_the_guest_s_pages(scene: Scene) -> None:
    content = stored()
    node = opened(scene, content)
    scene.fuse.open(node)
    content.set_version(2)
    assert scene.fuse.open(node).open_flags == NOFLUSH
    scene.clerk.call(lambda: scene.mailbox.set_attr(7, attr_of(1), 0.0))
    assert scene.fuse.open(node).open_flags == NOFLUSH | KEEP_CACHE
    scene.clerk.wait(Opcode.OPEN, Opcode.OPEN, Opcode.OPEN)


def test_a_file_that_was_replaced_is_stale_to_those_who_have_it_open(scene: Scene) -> None:
    node = opened(scene, stored())
    old = scene.fuse.open(node).fh
    other = stored(b"other" * 100, 2)
    assert scene.clerk.call(lambda: scene.mailbox.set_content(7, other))
    refused(errno.ESTALE, lambda: scene.fuse.read(node, old, 0, 10))
    assert scene.fuse.read(node, scene.fuse.open(node).fh, 0, 10) == b"otherother"
    assert scene.clerk.call(lambda: scene.mailbox.set_content(7, None))
    assert scene.fuse.read(node, old, 0, 10) == DATA[:10]
    assert not scene.clerk.call(lambda: scene.mailbox.set_content(99, other))
    scene.clerk.wait(Opcode.OPEN)


def test_missing_bytes_are_asked_for_and_the_read_goes_on(scene: Scene) -> None:
    content = Content(len(DATA), len(DATA), 1)
    node = opened(scene, content)

    def fetch(mail: Mail) -> None:
        fd = os.memfd_create("segment")
        os.write(fd, DATA)
        content.add_segment(Layer.BASE, 0, fd)
        content.mark_present(0, len(DATA))
        scene.mailbox.retry(mail.tag)

    scene.clerk.answers[Opcode.READ] = fetch
    fh = scene.fuse.open(node).fh
    assert scene.fuse.read(node, fh, 5, 100) == DATA[5:105]
    _, read = scene.clerk.wait(Opcode.OPEN, Opcode.READ)
    assert (read.ino, read.fh, read.is_retried) == (7, fh, False)
    scene.fuse.read(node, fh, 0, 100)
    assert len(scene.clerk.seen) == 2


def test_a_new_file_is_written_stored_and_closed(scene: Scene) -> None:
    content = written()
    scene.clerk.answers[Opcode.CREATE] = lambda mail: scene.mailbox.create(
        mail.tag, entry_of(9, attr_of(0)), content
    )
    for opcode in (Opcode.FLUSH, Opcode.FSYNC, Opcode.RELEASE):
        scene.clerk.answers[opcode] = lambda mail: scene.mailbox.result(mail.tag, 0)
    entry, handle = scene.fuse.create(ROOT_ID, b"new", os.O_RDWR | os.O_CREAT)
    assert scene.fuse.lookup(ROOT_ID, b"new").nodeid == entry.nodeid
    assert scene.fuse.write(entry.nodeid, handle.fh, 0, DATA) == len(DATA)
    scene.clerk.wait_note(Note.WROTE, 9)
    scene.clerk.call(lambda: scene.mailbox.set_attr(9, attr_of(0), 0.0))
    attr = scene.fuse.getattr(entry.nodeid).attr  # size and time are those of the content
    assert attr.size == len(DATA)
    assert attr.mtime > 1_600_000_000
    scene.fuse.flush(entry.nodeid, handle.fh)
    content.set_stored(content.state().generation)
    scene.fuse.flush(entry.nodeid, handle.fh)
    scene.fuse.fsync(entry.nodeid, handle.fh)
    scene.fuse.release(entry.nodeid, handle.fh)
    mails = scene.clerk.wait(Opcode.CREATE, Opcode.FLUSH, Opcode.FSYNC, Opcode.RELEASE)
    assert mails[3].fh == handle.fh
    assert mails[3].open_flags & os.O_ACCMODE == os.O_RDWR
    refused(errno.EBADF, lambda: scene.fuse.release(entry.nodeid, handle.fh))
    assert scene.plane.stats().handles == 0


def test_a_file_that_is_not_stored_is_opened_by_mail(scene: Scene) -> None:
    content = written()
    node = opened(scene, content)
    handle = scene.fuse.open(node, os.O_RDWR).fh
    scene.fuse.release(node, scene.fuse.open(node).fh)
    scene.fuse.write(node, handle, 0, b"new")
    scene.fuse.release(node, scene.fuse.open(node).fh)
    content.set_stored(content.state().generation)
    scene.fuse.release(node, scene.fuse.open(node).fh)
    scene.clerk.wait(Opcode.OPEN, Opcode.OPEN)


def test_a_content_outlives_python_s_interest_in_it(scene: Scene) -> None:
    content = stored()
    node = opened(scene, content)
    fh = scene.fuse.open(node).fh
    del scene.clerk.answers[Opcode.OPEN]
    content.close()
    del content
    assert scene.fuse.read(node, fh, 0, 10) == DATA[:10]


def test_a_session_s_end_closes_what_was_open(scene: Scene) -> None:
    content = stored()
    node = opened(scene, content)
    scene.fuse.open(node)
    assert content.state().handles == 1
    scene.fuse.destroy()
    scene.clerk.wait_note(Note.RESET, 0)
    assert content.state().handles == 0
    refused(errno.EIO, lambda: scene.fuse.getattr(ROOT_ID))  # no session any more


def test_what_only_a_directory_of_the_host_has_is_not_negotiated(scene: Scene) -> None:
    flags = scene.fuse.init_flags
    never = (
        *(Init.WRITEBACK_CACHE, Init.SUBMOUNTS, Init.SECURITY_CTX, Init.CREATE_SUPP_GROUP),
        *(Init.POSIX_ACL, Init.POSIX_LOCKS, Init.FLOCK_LOCKS),
    )
    assert not [flag for flag in never if flags & flag]
    assert flags & Init.AUTO_INVAL_DATA
    assert flags & Init.HANDLE_KILLPRIV_V2


def test_what_an_object_cannot_do_is_refused_without_asking(scene: Scene) -> None:
    node = opened(scene, stored())
    fh = scene.fuse.open(node).fh
    scene.clerk.forget()
    lock = wire.FileLock(0, 10, 1, 1)
    refused(errno.ENOSYS, lambda: scene.fuse.setlk(node, fh, 1, lock))
    refused(errno.ENOSYS, lambda: scene.fuse.setlkw(node, fh, 1, lock))
    refused(errno.ENOSYS, lambda: scene.fuse.getlk(node, fh, 1, lock))
    refused(errno.ENOSYS, lambda: scene.fuse.copy_file_range((node, fh, 0), (node, fh, 0), 1))
    refused(errno.EOPNOTSUPP, lambda: scene.fuse.tmpfile(ROOT_ID))
    refused(errno.ENOTTY, lambda: scene.fuse.ioctl(node, fh, 0x5401))
    refused(errno.EBADF, lambda: scene.fuse.fallocate(node, fh, 0, 10, 0))
    refused(errno.EINVAL, lambda: scene.fuse.readlink(node))
    scene.fuse.fsyncdir(ROOT_ID, scene.fuse.opendir(ROOT_ID).fh)
    assert not scene.clerk.seen
