# SPDX-License-Identifier: Apache-2.0
"""SETATTR and extended attributes: changed here at once, stored with the next upload.

Where none is to come, a change waits two seconds for company, journalled, and then costs one
upload of the object: no service can change metadata in place. Without POSIX metadata nothing can
be changed but the size: what is asked for and holds already succeeds, anything else is EPERM.
"""

from __future__ import annotations

import errno
import stat
import time
from typing import TYPE_CHECKING

from ovfs.fuse import wire
from ovfs.remote.errors import FsError
from ovfs.remote.file import UNSTORED
from ovfs.remote.pending import ATTRIBUTES_WAIT

if TYPE_CHECKING:
    from ovfs.fuse.wire import SetAttr
    from ovfs.remote.files import Files
    from ovfs.remote.namespace import Namespace
    from ovfs.remote.node import Node
    from ovfs.remote.pending import Pending
    from ovfs.remote.share import Share

XATTR_CREATE = 1
XATTR_REPLACE = 2
# S3 allows 2 KiB of user metadata in all; the attributes proper take up to 200 bytes of it.
_XATTRS_MAX = 1800


class Attributes:
    """Changes attributes of nodes."""

    def __init__(
        self,
        share: Share,
        namespace: Namespace,
        files: Files,
        pending: Pending,
    ) -> None:
        self._share = share
        self._namespace = namespace
        self._files = files
        self._pending = pending

    async def set(self, node: Node, change: SetAttr) -> None:
        """Make the changes of one SETATTR."""
        await self._namespace.refresh(node)
        before = node.posix
        if self._share.settings.posix:
            changed = self._set_posix(node, change)
        else:
            self._refuse(node, change)
            changed = False
        if change.valid & wire.FATTR_SIZE:
            await self._set_size(node, change)
        if changed:
            if node.file is not None and change.valid & (wire.FATTR_MTIME | wire.FATTR_MTIME_NOW):
                node.file.content.set_mtime(before.mtime_ns)
                node.file.time_set = before.mtime_ns
            self.changed(node)
        self._namespace.publish(node)

    def _set_posix(self, node: Node, change: SetAttr) -> bool:
        posix, valid, now = node.posix, change.valid, time.time_ns()
        if valid & wire.FATTR_MODE:
            posix.mode = stat.S_IFMT(posix.mode) | stat.S_IMODE(change.mode)
        owner = (posix.uid, posix.gid)
        if valid & wire.FATTR_UID:
            posix.uid = change.uid
        if valid & wire.FATTR_GID:
            posix.gid = change.gid
        if valid & (wire.FATTR_UID | wire.FATTR_GID) and owner != (posix.uid, posix.gid):
            clear_set_id(node)
        if valid & wire.FATTR_KILL_SUIDGID:
            clear_set_id(node)
        if valid & wire.FATTR_ATIME:
            posix.atime_ns = now if valid & wire.FATTR_ATIME_NOW else change.atime_ns
        if valid & wire.FATTR_MTIME:
            posix.mtime_ns = now if valid & wire.FATTR_MTIME_NOW else change.mtime_ns
        asked = valid & ~(wire.FATTR_SIZE | wire.FATTR_FH | wire.FATTR_KILL_SUIDGID)
        if asked:
            posix.ctime_ns = now
        return bool(asked)

    def _refuse(self, node: Node, change: SetAttr) -> None:
        posix, valid = node.posix, change.valid
        same = (
            (not valid & wire.FATTR_MODE or stat.S_IMODE(change.mode) == stat.S_IMODE(posix.mode))
            and (not valid & wire.FATTR_UID or change.uid == posix.uid)
            and (not valid & wire.FATTR_GID or change.gid == posix.gid)
            and not valid & (wire.FATTR_ATIME | wire.FATTR_MTIME)
        )
        if not same:
            raise FsError(errno.EPERM, "attributes are not kept here (--posix-metadata)")

    async def _set_size(self, node: Node, change: SetAttr) -> None:
        if node.kind != stat.S_IFREG:
            raise FsError(errno.EINVAL, f"{node.key} is no regular file")
        file = await self._files.resize(self._files.get(node), change.size)
        if not change.valid & wire.FATTR_MTIME:
            node.touch(data=True)
            file.content.set_mtime(node.posix.mtime_ns)
        if file.writers == 0:
            await self._files.flush(node)
            await self._files.release(node)

    def changed(self, node: Node) -> None:
        """Attributes are newer than the stored ones: see that they get there."""
        node.dirty = True
        if node.removed or node.parent is None:
            return
        if node.file is not None:
            node.file.content.set_stored(UNSTORED)  # FLUSH and FSYNC take the attributes along
        if node.stored or self._pending.has(node):  # else with its first flush
            self._pending.add(node, ATTRIBUTES_WAIT, data=False)

    # ---- extended attributes ----

    async def get_xattr(self, node: Node, name: str) -> bytes:
        """Return a value; ENODATA where there is none."""
        self._check_name(name)
        await self._namespace.refresh(node)
        value = (node.posix.xattrs or {}).get(name)
        if value is None:
            raise FsError(errno.ENODATA, f"{node.key} has no {name}")
        return value

    async def list_xattrs(self, node: Node) -> bytes:
        """Return all names, each with a NUL behind it."""
        self._check_name("")
        await self._namespace.refresh(node)
        return b"".join(name.encode() + b"\0" for name in node.posix.xattrs or {})

    async def set_xattr(self, node: Node, name: str, value: bytes, flags: int) -> None:
        """Set a value, as setxattr(2) does."""
        self._check_name(name)
        if flags & ~(XATTR_CREATE | XATTR_REPLACE):
            raise FsError(errno.EINVAL, "unknown flags of setxattr")
        await self._namespace.refresh(node)
        xattrs = node.posix.xattrs = node.posix.xattrs or {}
        if flags & XATTR_CREATE and name in xattrs:
            raise FsError(errno.EEXIST, f"{node.key} has {name}")
        if flags & XATTR_REPLACE and name not in xattrs:
            raise FsError(errno.ENODATA, f"{node.key} has no {name}")
        total = sum((len(n) + len(v) * 4 // 3 + 8) * 5 // 4 for n, v in xattrs.items() if n != name)
        if total + (len(name) + len(value) * 4 // 3 + 8) * 5 // 4 > _XATTRS_MAX:
            raise FsError(errno.ENOSPC, f"extended attributes of {node.key} exceed the metadata")
        xattrs[name] = value
        self._touched(node)

    async def remove_xattr(self, node: Node, name: str) -> None:
        """Remove a value, as removexattr(2) does."""
        self._check_name(name)
        await self._namespace.refresh(node)
        if node.posix.xattrs is None or name not in node.posix.xattrs:
            raise FsError(errno.ENODATA, f"{node.key} has no {name}")
        del node.posix.xattrs[name]
        self._touched(node)

    def _touched(self, node: Node) -> None:
        node.touch()
        self.changed(node)
        self._namespace.publish(node)

    def _check_name(self, name: str) -> None:
        if not self._share.settings.posix or name.startswith("system."):
            raise FsError(errno.EOPNOTSUPP, f"{name} cannot be kept")


def clear_set_id(node: Node) -> None:
    """Take set-user-id away, and set-group-id where the group may execute."""
    mode = node.posix.mode
    if stat.S_ISREG(mode):
        mode &= ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
        node.posix.mode = mode
