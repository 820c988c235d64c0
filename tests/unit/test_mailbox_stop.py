# SPDX-License-Identifier: Apache-2.0
"""A queue does not wait for Python: stops, memory changes and a plane's end meet open mail."""

from __future__ import annotations

import errno
import stat
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.unit.clerk import ROOT_INO, Scene, attr_of, entry_of
from tests.unit.test_mailbox_files import opened, stored, written
from tests.vmm import ROOT_ID, Opcode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vmm import Pending

DIR = attr_of(mode=stat.S_IFDIR | 0o755)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene() as scene:
        yield scene


def errno_of(scene: Scene, pending: Pending) -> int:
    with pytest.raises(OSError, match="opcode") as caught:
        scene.fuse.wait(pending)
    assert caught.value.errno is not None
    return caught.value.errno


def test_questions_end_with_eintr_and_changes_with_eio(scene: Scene) -> None:
    asked = scene.fuse.submit(Opcode.LOOKUP, ROOT_ID, b"name\0", 144)
    changes = scene.fuse.submit(Opcode.MKDIR, ROOT_ID, bytes(8) + b"dir\0", 144)
    lookup, mkdir = scene.clerk.wait(Opcode.LOOKUP, Opcode.MKDIR)
    assert 0.8 < scene.stop() < 1.0
    assert errno_of(scene, asked) == errno.EINTR
    assert errno_of(scene, changes) == errno.EIO
    inodes = scene.plane.stats().inodes
    for tag in (lookup.tag, mkdir.tag):
        assert not scene.clerk.call(partial(scene.mailbox.entry, tag, entry_of(5, DIR)))
    assert scene.plane.stats().inodes == inodes  # nothing was entered
    scene.clerk.forget()
    scene.clerk.answers[Opcode.LOOKUP] = lambda mail: scene.mailbox.entry(mail.tag, entry_of(5))
    assert scene.fuse.lookup(ROOT_ID, b"name").attr.ino == 5  # the queue goes on
    scene.clerk.wait(Opcode.LOOKUP)


def test_what_is_answered_in_time_is_not_given_up(scene: Scene) -> None:
    pending = scene.fuse.submit(Opcode.MKDIR, ROOT_ID, bytes(8) + b"dir\0", 144)
    (mail,) = scene.clerk.wait(Opcode.MKDIR)
    made: list[bool] = []

    def make() -> None:
        time.sleep(0.6)
        made.append(scene.mailbox.entry(mail.tag, entry_of(5, DIR)))

    helper = threading.Thread(target=lambda: scene.clerk.call(make))
    helper.start()
    assert 0.5 < scene.stop() < 0.9
    helper.join()
    assert made == [True]
    assert scene.fuse.wait(pending)


def test_mail_that_nobody_has_taken_is_taken_back(scene: Scene) -> None:
    content = written()
    node = opened(scene, content)
    handle = scene.fuse.open(node, 2).fh
    scene.clerk.forget()
    with scene.clerk.busy():
        change = scene.fuse.submit(Opcode.MKDIR, ROOT_ID, bytes(8) + b"dir\0", 144)
        release = scene.fuse.submit(Opcode.RELEASE, node, handle.to_bytes(8, "little") + bytes(16))
        scene.wait_in_flight(2)
        assert 0.4 < scene.stop() < 0.9
        assert errno_of(scene, change) == errno.EINTR  # nothing was done
        assert errno_of(scene, release) == errno.EINTR
    # All the same it must be known that the handle is gone.
    (mail,) = scene.clerk.wait(Opcode.RELEASE)
    assert mail.is_gone
    assert mail.fh == handle
    assert not scene.clerk.call(lambda: scene.mailbox.result(mail.tag, 0))
    assert scene.plane.stats().handles == 0


def test_a_tag_is_good_for_one_completion(scene: Scene) -> None:
    pending = scene.fuse.submit(Opcode.LOOKUP, ROOT_ID, b"name\0", 144)
    (mail,) = scene.clerk.wait(Opcode.LOOKUP)
    assert scene.clerk.call(lambda: scene.mailbox.result(mail.tag, errno.EACCES))
    assert errno_of(scene, pending) == errno.EACCES
    assert not scene.clerk.call(lambda: scene.mailbox.result(mail.tag, 0))
    assert not scene.clerk.call(lambda: scene.mailbox.retry(12345))


def test_memory_changes_while_mail_is_outstanding(scene: Scene) -> None:
    pending = scene.fuse.submit(Opcode.LOOKUP, ROOT_ID, b"name\0", 144)
    (mail,) = scene.clerk.wait(Opcode.LOOKUP)
    for _ in range(3):
        began = time.monotonic()
        scene.plane.set_memory(scene.regions())
        assert time.monotonic() - began < 0.3
    assert scene.fuse.getattr(ROOT_ID).attr.ino == ROOT_INO  # on the new table
    assert scene.clerk.call(lambda: scene.mailbox.entry(mail.tag, entry_of(5)))
    assert scene.fuse.wait(pending)


def test_a_read_goes_on_after_the_memory_has_changed(scene: Scene) -> None:
    content = stored()
    content.drop_segment(0)
    node = opened(scene, content)
    handle = scene.fuse.open(node).fh
    pending = scene.fuse.submit_read(node, handle, 0, 4096)
    _, mail = scene.clerk.wait(Opcode.OPEN, Opcode.READ)
    scene.plane.set_memory(scene.regions())
    whole = stored()
    scene.clerk.call(lambda: scene.mailbox.set_content(7, whole))
    assert scene.clerk.call(lambda: scene.mailbox.retry(mail.tag))
    assert errno_of(scene, pending) == errno.ESTALE


def test_a_full_queue_of_mail_is_answered_in_any_order() -> None:
    with Scene(queue_size=64) as scene:
        names = [b"name-%d" % number for number in range(64)]
        requests = [
            scene.fuse.submit(Opcode.LOOKUP, ROOT_ID, name + b"\0", 144, kick=name == names[-1])
            for name in names
        ]
        mails = scene.clerk.wait(*[Opcode.LOOKUP] * len(names))
        assert [mail.names[0] for mail in mails] == names

        def answer() -> None:
            for number, mail in reversed(list(enumerate(mails))):
                scene.mailbox.entry(mail.tag, entry_of(100 + number))

        scene.clerk.call(answer)
        for request in requests:
            assert len(scene.fuse.wait(request)) == 128
        assert scene.plane.stats().inodes == 65


def test_a_plane_ends_with_mail_outstanding() -> None:
    scene = Scene()
    try:
        scene.fuse.submit(Opcode.LOOKUP, ROOT_ID, b"taken\0", 144)
        scene.clerk.wait(Opcode.LOOKUP)
        with scene.clerk.busy():
            scene.fuse.submit(Opcode.LOOKUP, ROOT_ID, b"untaken\0", 144)
            scene.wait_in_flight(2)
            began = time.monotonic()
            scene.plane.stop_queue(1)
            assert time.monotonic() - began < 1.0
    finally:
        scene.__exit__()
