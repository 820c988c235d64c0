# SPDX-License-Identifier: Apache-2.0
"""--readonly: whatever would change the directory is EROFS, by opcode; the rest is served."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from tests.operations.rows import ROWS
from tests.operations.rows_locks import ALICE, write_lock
from tests.operations.scene import FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
from tests.operations.share import PLAIN, Share
from tests.operations.tree import tree
from tests.vmm import Opcode
from tests.vmm.fuse_flags import Init

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.operations.scene import Scene

#: Whose row changes something.
MODIFYING = {
    Opcode.SETATTR,
    Opcode.SYMLINK,
    Opcode.MKNOD,
    Opcode.MKDIR,
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.RENAME2,
    Opcode.LINK,
    Opcode.CREATE,
    Opcode.TMPFILE,
    Opcode.WRITE,
    Opcode.FALLOCATE,
    Opcode.COPY_FILE_RANGE,
    Opcode.SETXATTR,
    Opcode.REMOVEXATTR,
}


@pytest.fixture(scope="module")
def readonly_share() -> Iterator[Share]:
    """A daemon that changes nothing."""
    with Share("tmpfs", [*PLAIN, "--readonly", "--writeback"]) as made:
        yield made


@pytest.fixture
def readonly(readonly_share: Share) -> Iterator[Scene]:
    """A scene of it."""
    with readonly_share.scene() as made:
        yield made


@pytest.mark.promise("readonly-1")
@pytest.mark.parametrize("opcode", sorted(MODIFYING), ids=lambda opcode: opcode.name)
def test_what_changes_is_refused(readonly: Scene, opcode: Opcode) -> None:
    fs = readonly.fs
    nodeid, fh = readonly.open(b"file", os.O_RDONLY)
    calls: dict[Opcode, Callable[[], object]] = {
        # Their rows open the file for writing, which is refused before.
        Opcode.WRITE: lambda: fs.write(nodeid, fh, 0, b"x"),
        Opcode.FALLOCATE: lambda: fs.fallocate(nodeid, fh, 0, 1),
        Opcode.COPY_FILE_RANGE: lambda: fs.copy_file_range((nodeid, fh, 0), (nodeid, fh, 20), 5),
    }
    call = calls.get(opcode, lambda: ROWS[opcode].guest(readonly, {}))
    with pytest.raises(OSError, match="Read-only file system"):
        call()
    assert tree(readonly.path()) == tree(readonly.twin)


@pytest.mark.promise("readonly-1")
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_opening_for_writing_is_refused(readonly: Scene, flags: int) -> None:
    with pytest.raises(OSError, match="Read-only file system"):
        readonly.fs.open(readonly.node(b"file"), flags)
    assert tree(readonly.path()) == tree(readonly.twin)


@pytest.mark.promise("readonly-1")
def test_access_and_ioctl_know(readonly: Scene) -> None:
    with pytest.raises(OSError, match="Read-only file system"):
        readonly.fs.access(readonly.node(b"file"), os.W_OK)
    readonly.fs.access(readonly.node(b"file"), os.R_OK)
    nodeid, fh = readonly.open(b"file", os.O_RDONLY)
    readonly.fs.ioctl(nodeid, fh, FS_IOC_GETFLAGS, out_size=4)
    with pytest.raises(OSError, match="Read-only file system"):
        readonly.fs.ioctl(nodeid, fh, FS_IOC_SETFLAGS, struct.pack("i", 0x40))


@pytest.mark.promise("readonly-2")
def test_what_only_looks_is_served(readonly: Scene) -> None:
    fs = readonly.fs
    assert not fs.init_flags & Init.WRITEBACK_CACHE
    nodeid, fh = readonly.open(b"file", os.O_RDONLY)
    assert fs.read(nodeid, fh, 0, 100) == b"0123456789"
    assert fs.readlink(readonly.node(b"link")) == b"file"
    assert b"file" in fs.list_names(readonly.top)
    assert fs.listxattr(nodeid) == []
    fs.setlk(nodeid, fh, ALICE, write_lock(), flock=True)
    fs.fsync(nodeid, fh)
    fs.flush(nodeid, fh)
    fs.release(nodeid, fh)
    assert fs.statfs().blocks > 0


@pytest.mark.promise("readonly-2")
def test_the_hosts_changes_are_seen(readonly: Scene) -> None:
    nodeid, fh = readonly.open(b"file", os.O_RDONLY)
    with open(readonly.path(b"file"), "ab") as file:
        file.write(b"more")
    assert readonly.fs.read(nodeid, fh, 0, 4096) == b"0123456789more"
