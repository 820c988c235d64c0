# SPDX-License-Identifier: Apache-2.0
"""A guest and the host do the same, at random, and must meet the same results at each step.

What is compared: the errno or the result of each call, attributes, data, listings, and both trees
whole at the end. Queues are changed at random, so that nothing hangs on one thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.model.twin import Held
from tests.operations.scene import brief, outcome, set_mode
from tests.operations.share import PLACES, Share
from tests.operations.tree import tree
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff\xfe", b"n" * 255])
QUEUES = st.sampled_from([1, 2])
MODES = st.sampled_from([0o600, 0o644, 0o755, 0o2755, 0o1777, 0])
OPEN_FLAGS = st.sampled_from(
    [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND]
)
OFFSETS = st.integers(0, 20_000) | st.just((4 << 30) - 3)


class Machine(RuleBasedStateMachine):
    """Guest and host, side by side. `Machine.share` is set by the test that runs it."""

    share: ClassVar[Share]

    dirs = Bundle("dirs")
    nodes = Bundle("nodes")
    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.fs = self.share.fs
        self.stack.callback(os.umask, os.umask(0))
        work = Path(tempfile.mkdtemp(dir=self.share.work))
        self.stack.callback(shutil.rmtree, work)
        self.twin = os.fsencode(work)
        self.top = os.fsencode(self.share.root / work.name)
        os.mkdir(self.top)
        self.stack.callback(shutil.rmtree, self.top)
        for top in (self.twin, self.top):
            set_mode(top, 0o755)

    def teardown(self) -> None:
        """Both trees are alike in the end."""
        try:
            assert tree(self.top) == tree(self.twin)
        finally:
            self.stack.close()

    def keep(self, fd: int) -> int:
        """Closed at the end."""
        self.stack.callback(os.close, fd)
        return fd

    def same(self, guest: Callable[[], Any], host: Callable[[], Any]) -> bool:
        """Makes both calls, compares what they give; whether it was a success."""
        ours, theirs = outcome(guest), outcome(host)
        assert ours == theirs, f"guest: {ours!r}, host: {theirs!r}"
        return not isinstance(ours, str)

    def found(self, nodeid: int, parent: Held, name: bytes) -> Held:
        """What a name refers to now, on both sides."""
        held = Held(nodeid, self.keep(parent.hold(name)))
        assert brief(self.fs.getattr(nodeid).attr) == held.stat()
        return held

    @initialize(target=dirs)
    def root(self) -> Held:
        nodeid = self.fs.lookup(ROOT_ID, os.path.basename(self.top)).nodeid
        return Held(nodeid, self.keep(os.open(self.twin, os.O_PATH)))

    # Names.

    @rule(target=dirs, parent=dirs, name=NAMES, mode=MODES, queue=QUEUES)
    def mkdir(self, parent: Held, name: bytes, mode: int, queue: int) -> Any:
        made: list[int] = []

        def guest() -> None:
            made.append(self.fs.mkdir(parent.nodeid, name, mode, umask=0, queue=queue).nodeid)

        if not self.same(guest, lambda: os.mkdir(name, mode, dir_fd=parent.fd)):
            return multiple()
        return self.found(made[0], parent, name)

    @rule(target=nodes, parent=dirs, name=NAMES, pointing=NAMES, queue=QUEUES)
    def symlink(self, parent: Held, name: bytes, pointing: bytes, queue: int) -> Any:
        made: list[int] = []

        def guest() -> None:
            made.append(self.fs.symlink(parent.nodeid, name, pointing, queue=queue).nodeid)

        if not self.same(guest, lambda: os.symlink(pointing, name, dir_fd=parent.fd)):
            return multiple()
        return self.found(made[0], parent, name)

    @rule(target=nodes, parent=dirs, name=NAMES, queue=QUEUES)
    def lookup(self, parent: Held, name: bytes, queue: int) -> Any:
        nodes: list[int] = []

        def guest() -> tuple[int, ...]:
            entry = self.fs.lookup(parent.nodeid, name, queue=queue)
            nodes.append(entry.nodeid)
            return brief(entry.attr)

        def host() -> tuple[int, ...]:
            fd = parent.hold(name)
            try:
                return Held(0, fd).stat()
            finally:
                os.close(fd)

        if not self.same(guest, host):
            return multiple()
        return self.found(nodes[0], parent, name)

    @rule(parent=dirs, name=NAMES, queue=QUEUES)
    def unlink(self, parent: Held, name: bytes, queue: int) -> None:
        self.same(
            lambda: self.fs.unlink(parent.nodeid, name, queue=queue),
            lambda: os.unlink(name, dir_fd=parent.fd),
        )

    @rule(parent=dirs, name=NAMES, queue=QUEUES)
    def rmdir(self, parent: Held, name: bytes, queue: int) -> None:
        self.same(
            lambda: self.fs.rmdir(parent.nodeid, name, queue=queue),
            lambda: os.rmdir(name, dir_fd=parent.fd),
        )

    @rule(
        parent=dirs,
        name=NAMES,
        newdir=dirs,
        newname=NAMES,
        flags=st.sampled_from([0, 0, 1, 2]),
        queue=QUEUES,
    )
    def rename(  # noqa: PLR0917 - a rule's arguments are drawn
        self, parent: Held, name: bytes, newdir: Held, newname: bytes, flags: int, queue: int
    ) -> None:
        self.same(
            lambda: self.fs.rename2(
                parent.nodeid, name, newdir.nodeid, newname, flags, queue=queue
            ),
            lambda: parent.rename(name, newdir, newname, flags),
        )

    @rule(node=nodes, newdir=dirs, newname=NAMES, queue=QUEUES)
    def link(self, node: Held, newdir: Held, newname: bytes, queue: int) -> None:
        def guest() -> None:
            entry = self.fs.link(node.nodeid, newdir.nodeid, newname, queue=queue)
            assert entry.nodeid == node.nodeid

        self.same(guest, lambda: node.link(newdir, newname))

    @rule(directory=dirs, size=st.sampled_from([600, 4096]), plus=st.booleans(), queue=QUEUES)
    def listing(self, directory: Held, size: int, plus: bool, queue: int) -> None:
        def guest() -> set[bytes]:
            nodeid = directory.nodeid
            fh = self.fs.opendir(nodeid, queue=queue).fh
            read = self.fs.readdirplus if plus else self.fs.readdir
            names: list[bytes] = []
            offset = 0
            try:
                while entries := read(nodeid, fh, offset, size, queue=queue):
                    names += [entry.name for entry in entries]
                    offset = entries[-1].off
            finally:
                self.fs.releasedir(nodeid, fh, queue=queue)
            assert len(names) == len(set(names))
            return set(names) - {b".", b".."}

        self.same(guest, directory.names)

    # Attributes.

    @rule(node=nodes | dirs, queue=QUEUES)
    def getattr(self, node: Held, queue: int) -> None:
        self.same(lambda: brief(self.fs.getattr(node.nodeid, queue=queue).attr), node.stat)

    @rule(node=nodes | dirs, mode=MODES, queue=QUEUES)
    def chmod(self, node: Held, mode: int, queue: int) -> None:
        if node.type == stat.S_IFLNK:
            return  # the host's chmod through /proc depends on its kernel's age

        def guest() -> tuple[int, ...]:
            return brief(self.fs.setattr(node.nodeid, mode=mode, queue=queue).attr)

        self.same(guest, lambda: node.after(os.chmod, mode))

    @rule(node=nodes | dirs, uid=st.integers(0, 3), gid=st.integers(0, 3), queue=QUEUES)
    def chown(self, node: Held, uid: int, gid: int, queue: int) -> None:
        def guest() -> tuple[int, ...]:
            return brief(self.fs.setattr(node.nodeid, owner=uid, group=gid, queue=queue).attr)

        self.same(guest, lambda: node.after(os.chown, uid, gid))

    @rule(node=nodes | dirs, size=OFFSETS, queue=QUEUES)
    def truncate(self, node: Held, size: int, queue: int) -> None:
        if node.type == stat.S_IFLNK:
            return  # a guest's kernel follows it

        def guest() -> tuple[int, ...]:
            return brief(self.fs.setattr(node.nodeid, size=size, queue=queue).attr)

        self.same(guest, lambda: node.after(os.truncate, size))

    @rule(
        node=nodes | dirs,
        value=st.binary(max_size=40),
        flags=st.sampled_from([0, 1, 2]),
        queue=QUEUES,
    )
    def setxattr(self, node: Held, value: bytes, flags: int, queue: int) -> None:
        name = b"trusted.model" if node.type == stat.S_IFLNK else b"user.model"
        self.same(
            lambda: self.fs.setxattr(node.nodeid, name, value, flags, queue=queue),
            lambda: os.setxattr(node.path, name, value, flags),
        )
        self.same(
            lambda: self.fs.getxattr(node.nodeid, name, queue=queue),
            lambda: os.getxattr(node.path, name),
        )

    # Data.

    @rule(
        target=handles,
        parent=dirs,
        name=NAMES,
        flags=OPEN_FLAGS,
        exclusive=st.booleans(),
        mode=MODES,
        queue=QUEUES,
    )
    def create(  # noqa: PLR0917 - the same
        self, parent: Held, name: bytes, flags: int, exclusive: bool, mode: int, queue: int
    ) -> Any:
        flags |= os.O_EXCL if exclusive else 0
        opened: list[int] = []

        def guest() -> bool:
            entry, reply = self.fs.create(
                parent.nodeid, name, flags, stat.S_IFREG | mode, umask=0, queue=queue
            )
            opened.extend((entry.nodeid, reply.fh))
            return True

        def host() -> bool:
            opened.append(self.keep(parent.make(name, flags, mode)))
            return True

        if not self.same(guest, host):
            return multiple()
        return tuple(opened)

    @rule(target=handles, node=nodes, flags=OPEN_FLAGS, queue=QUEUES)
    def open(self, node: Held, flags: int, queue: int) -> Any:
        if node.type != stat.S_IFREG:
            return multiple()
        opened: list[int] = [node.nodeid]

        def guest() -> bool:
            opened.append(self.fs.open(node.nodeid, flags, queue=queue).fh)
            return True

        def host() -> bool:
            opened.append(self.keep(node.open(flags)))
            return True

        return tuple(opened) if self.same(guest, host) else multiple()

    @rule(handle=handles, offset=OFFSETS, data=st.binary(max_size=5000), queue=QUEUES)
    def write(self, handle: tuple[int, int, int], offset: int, data: bytes, queue: int) -> None:
        nodeid, fh, fd = handle
        if not data:
            return  # the host's kernel and a guest's answer that themselves
        self.same(
            lambda: self.fs.write(nodeid, fh, offset, data, queue=queue),
            lambda: os.pwrite(fd, data, offset),
        )
        self.same(lambda: brief(self.fs.getattr(nodeid, fh).attr), lambda: brief_of(fd))

    @rule(handle=handles, offset=OFFSETS, size=st.integers(1, 30_000), queue=QUEUES)
    def read(self, handle: tuple[int, int, int], offset: int, size: int, queue: int) -> None:
        nodeid, fh, fd = handle
        self.same(
            lambda: self.fs.read(nodeid, fh, offset, size, queue=queue),
            lambda: os.pread(fd, size, offset),
        )

    @rule(
        handle=handles,
        offset=st.integers(0, 30_000),
        whence=st.sampled_from([os.SEEK_DATA, os.SEEK_HOLE]),
        queue=QUEUES,
    )
    def lseek(self, handle: tuple[int, int, int], offset: int, whence: int, queue: int) -> None:
        nodeid, fh, fd = handle
        self.same(
            lambda: self.fs.lseek(nodeid, fh, offset, whence, queue=queue),
            lambda: os.lseek(fd, offset, whence),
        )

    @rule(source=handles, into=handles, at=st.integers(0, 9000), length=st.integers(1, 9000))
    def copy(
        self, source: tuple[int, int, int], into: tuple[int, int, int], at: int, length: int
    ) -> None:
        self.same(
            lambda: self.fs.copy_file_range((*source[:2], 0), (*into[:2], at), length),
            lambda: os.copy_file_range(source[2], into[2], length, 0, at),
        )

    @rule(handle=consumes(handles), queue=QUEUES)
    def release(self, handle: tuple[int, int, int], queue: int) -> None:
        nodeid, fh, _ = handle
        self.fs.fsync(nodeid, fh, queue=queue)
        self.fs.flush(nodeid, fh, queue=queue)
        self.fs.release(nodeid, fh, queue=queue)


def brief_of(fd: int) -> tuple[int, ...]:
    """The host's attributes of an open file."""
    return Held(0, fd).stat()


@pytest.mark.parametrize("place", list(PLACES))
def test_guest_and_host_agree(place: str) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    with Share(place) as Machine.share:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=120,
                stateful_step_count=40,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                suppress_health_check=checks,
            ),
        )
