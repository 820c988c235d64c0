# SPDX-License-Identifier: Apache-2.0
"""Step 6c: a mail from the data plane to its completion, opcode by opcode.

Each handler makes one completion call, or raises; the errno of what it raises is the completion
then. What it did for a request that was given up meanwhile (the completion says so) it undoes,
where something is left to undo.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import TYPE_CHECKING

from ovfs.fuse import wire
from ovfs.fuse.wire import Opcode
from ovfs.remote.attributes import Attributes, clear_set_id
from ovfs.remote.changes import Changes
from ovfs.remote.errors import FsError, errno_of
from ovfs.remote.file import PAGE
from ovfs.remote.node import MAX_NAME, Directory, Node
from ovfs.remote.posix import Owner
from ovfs.remote.rename import Renames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ovfs.native.mailbox import Mail
    from ovfs.remote.files import Files
    from ovfs.remote.namespace import Namespace
    from ovfs.remote.pending import Pending
    from ovfs.remote.share import Share
    from ovfs.remote.upload import Uploads

log = logging.getLogger(__name__)

# What STATFS tells: services do not say how much there is, and programs refuse to write to little.
_STATFS_BLOCKS = (1 << 50) // PAGE
_STATFS_FILES = 1 << 40

_CHANGES = frozenset(
    {
        Opcode.SETATTR, Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.UNLINK, Opcode.RMDIR,
        Opcode.RENAME, Opcode.RENAME2, Opcode.WRITE, Opcode.SETXATTR, Opcode.REMOVEXATTR,
        Opcode.CREATE, Opcode.FALLOCATE,
    }
)  # fmt: skip


class Handlers:
    """Serves the requests of one share."""

    def __init__(
        self,
        share: Share,
        namespace: Namespace,
        files: Files,
        uploads: Uploads,
        pending: Pending,
    ) -> None:
        self._share = share
        self._mailbox = share.mailbox
        self._namespace = namespace
        self._files = files
        self._uploads = uploads
        self._pending = pending
        self._changes = Changes(share, namespace, files, uploads, pending)
        self._renames = Renames(share, namespace, self._changes, uploads, pending)
        self._attributes = Attributes(share, namespace, files, pending)
        self._table: dict[int, Callable[[Mail], Awaitable[None]]] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.STATX: self._getattr,
            Opcode.SETATTR: self._setattr,
            Opcode.READLINK: self._readlink,
            Opcode.SYMLINK: self._symlink,
            Opcode.MKNOD: self._mknod,
            Opcode.MKDIR: self._mkdir,
            Opcode.UNLINK: self._unlink,
            Opcode.RMDIR: self._rmdir,
            Opcode.RENAME: self._rename,
            Opcode.RENAME2: self._rename,
            Opcode.OPEN: self._open,
            Opcode.OPENDIR: self._opendir,
            Opcode.READ: self._read,
            Opcode.WRITE: self._write,
            Opcode.STATFS: self._statfs,
            Opcode.RELEASE: self._release,
            Opcode.FSYNC: self._fsync,
            Opcode.FLUSH: self._flush,
            Opcode.SYNCFS: self._syncfs,
            Opcode.SETXATTR: self._setxattr,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.REMOVEXATTR: self._removexattr,
            Opcode.CREATE: self._create,
            Opcode.FALLOCATE: self._fallocate,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdir,
        }

    async def serve(self, mail: Mail) -> None:
        """Complete one request."""
        try:
            await self._handler(mail)(mail)
        except Exception as error:
            number = errno_of(error)
            if not isinstance(error, FsError | OSError):
                log.exception("internal error in opcode %d", mail.opcode)
            elif number in {errno.EIO, errno.EACCES, errno.ENOSPC, errno.ESTALE}:
                log.warning("%s", error)
            self._mailbox.result(mail.tag, number)

    def _handler(self, mail: Mail) -> Callable[[Mail], Awaitable[None]]:
        handler = self._table.get(mail.opcode)
        if handler is None:
            raise FsError(errno.ENOSYS, f"opcode {mail.opcode} is not served")
        if mail.opcode in _CHANGES and self._share.settings.readonly:
            raise FsError(errno.EROFS, "the share is read-only")
        return handler

    # ---- what a request is about ----

    def _node(self, ino: int) -> Node:
        node = self._share.tree.get(ino)
        if node is None:
            raise FsError(errno.ESTALE, "the guest names a node that is not held")
        return node

    def _directory(self, ino: int) -> Directory:
        node = self._node(ino)
        if not isinstance(node, Directory):
            raise FsError(errno.ENOTDIR, f"{node.key} is no directory")
        return node

    def _name(self, mail: Mail, index: int = 0) -> str:
        try:
            return mail.names[index].decode()
        except UnicodeDecodeError:
            raise FsError(errno.EILSEQ, "names of objects are UTF-8") from None

    # ---- names ----

    async def _lookup(self, mail: Mail) -> None:
        directory = self._directory(mail.ino)
        try:
            name = mail.names[0].decode()
        except UnicodeDecodeError:
            self._mailbox.entry(mail.tag, self._namespace.entry(None))
            return
        node = await self._namespace.lookup(directory, name)
        self._mailbox.entry(mail.tag, self._namespace.entry(node))

    async def _create(self, mail: Mail) -> None:
        flags, mode, _ = wire.unpack_create(mail.arg)
        directory, name = self._directory(mail.ino), self._name(mail)
        node, file = await self._changes.create(directory, name, flags, mode, _owner(mail))
        if not self._mailbox.create(mail.tag, self._namespace.entry(node), file.content):
            await self._files.release(node)

    async def _mknod(self, mail: Mail) -> None:
        mode, _, _ = wire.unpack_mknod(mail.arg)
        directory, name = self._directory(mail.ino), self._name(mail)
        node = await self._changes.make_node(directory, name, mode, _owner(mail))
        self._mailbox.entry(mail.tag, self._namespace.entry(node))

    async def _mkdir(self, mail: Mail) -> None:
        mode, _ = wire.unpack_mkdir(mail.arg)
        directory, name = self._directory(mail.ino), self._name(mail)
        node = await self._changes.make_directory(directory, name, mode, _owner(mail))
        if self._mailbox.entry(mail.tag, self._namespace.entry(node)):
            self._namespace.publish_listing(node)  # nothing is in it: lookups need not ask

    async def _symlink(self, mail: Mail) -> None:
        directory, name = self._directory(mail.ino), self._name(mail)
        node = await self._changes.make_symlink(directory, name, mail.names[1], _owner(mail))
        self._mailbox.entry(mail.tag, self._namespace.entry(node))

    async def _unlink(self, mail: Mail) -> None:
        await self._changes.unlink(self._directory(mail.ino), self._name(mail))
        self._mailbox.result(mail.tag, 0)

    async def _rmdir(self, mail: Mail) -> None:
        await self._changes.remove_directory(self._directory(mail.ino), self._name(mail))
        self._mailbox.result(mail.tag, 0)

    async def _rename(self, mail: Mail) -> None:
        await self._renames.rename(
            self._directory(mail.ino),
            self._name(mail),
            self._directory(mail.ino2),
            self._name(mail, 1),
            wire.unpack_rename_flags(mail.arg) if mail.opcode == Opcode.RENAME2 else 0,
        )
        self._mailbox.result(mail.tag, 0)

    async def _readlink(self, mail: Mail) -> None:
        node = self._node(mail.ino)
        if node.kind != stat.S_IFLNK:
            raise FsError(errno.EINVAL, f"{node.key} is no symbolic link")
        await self._namespace.refresh(node)
        file = self._files.get(node)
        size = file.size
        self._mailbox.data(mail.tag, await file.load(0, size))

    async def _readdir(self, mail: Mail) -> None:
        directory = self._directory(mail.ino)
        if not self._share.service.can.list:
            raise FsError(errno.EOPNOTSUPP, f"{self._share.service.scheme}:// cannot list")
        if not directory.removed:
            if self._namespace.is_listed(directory):
                self._namespace.publish_listing(directory)
            else:
                await self._namespace.relist(directory)
        self._mailbox.retry(mail.tag)

    # ---- attributes ----

    async def _getattr(self, mail: Mail) -> None:
        node = self._node(mail.ino)
        await self._namespace.refresh(node)
        self._answer_attr(mail, node)

    async def _setattr(self, mail: Mail) -> None:
        node = self._node(mail.ino)
        await self._attributes.set(node, wire.unpack_setattr(mail.arg))
        self._answer_attr(mail, node)

    def _answer_attr(self, mail: Mail, node: Node) -> None:
        self._mailbox.attr(mail.tag, node.attr(), self._namespace.validity(node))

    async def _getxattr(self, mail: Mail) -> None:
        name = mail.names[0].decode("utf-8", "surrogateescape")
        value = await self._attributes.get_xattr(self._node(mail.ino), name)
        self._mailbox.data(mail.tag, value)

    async def _listxattr(self, mail: Mail) -> None:
        names = await self._attributes.list_xattrs(self._node(mail.ino))
        self._mailbox.data(mail.tag, names)

    async def _setxattr(self, mail: Mail) -> None:
        flags = wire.unpack_setxattr_flags(mail.arg)
        node = self._node(mail.ino)
        await self._attributes.set_xattr(node, self._name(mail), mail.data, flags)
        self._mailbox.result(mail.tag, 0)

    async def _removexattr(self, mail: Mail) -> None:
        await self._attributes.remove_xattr(self._node(mail.ino), self._name(mail))
        self._mailbox.result(mail.tag, 0)

    async def _statfs(self, mail: Mail) -> None:
        self._mailbox.data(
            mail.tag,
            wire.pack_statfs(_STATFS_BLOCKS, _STATFS_BLOCKS, _STATFS_FILES, PAGE, MAX_NAME),
        )

    # ---- bytes ----

    async def _open(self, mail: Mail) -> None:
        node = self._node(mail.ino)
        flags, open_flags = wire.unpack_open(mail.arg)
        if node.kind != stat.S_IFREG:
            raise FsError(errno.EISDIR if node.is_dir else errno.ELOOP, f"{node.key} is no file")
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writes and self._share.settings.readonly:
            raise FsError(errno.EROFS, "the share is read-only")
        if flags & os.O_TRUNC and open_flags & wire.OPEN_KILL_SUIDGID:
            clear_set_id(node)
        file = await self._files.open(node, flags)
        if not self._mailbox.open(mail.tag, file.content) and writes:
            await self._files.release(node)

    async def _opendir(self, mail: Mail) -> None:
        self._directory(mail.ino)
        self._mailbox.open(mail.tag, None)

    async def _read(self, mail: Mail) -> None:
        arg = wire.unpack_read_write(mail.arg)
        await self._files.read(self._node(mail.ino), arg.offset, arg.size, bad=mail.is_bad)
        self._mailbox.retry(mail.tag)

    async def _write(self, mail: Mail) -> None:
        node = self._node(mail.ino)
        arg = wire.unpack_read_write(mail.arg)
        if arg.flags & wire.WRITE_KILL_SUIDGID:
            clear_set_id(node)
            node.dirty = True
            self._namespace.publish(node)
        await self._files.write(node, arg.offset, arg.size)
        self._mailbox.retry(mail.tag)

    async def _flush(self, mail: Mail) -> None:
        await self._files.flush(self._node(mail.ino))
        self._mailbox.result(mail.tag, 0)

    async def _fsync(self, mail: Mail) -> None:
        await self._files.sync(self._node(mail.ino))
        self._mailbox.result(mail.tag, 0)

    async def _syncfs(self, mail: Mail) -> None:
        for node in self._share.tree:
            if not self._uploads.is_stored(node):
                await self._files.sync(node)
        self._mailbox.result(mail.tag, 0)

    async def _release(self, mail: Mail) -> None:
        node = self._node(mail.ino)
        await self._files.release(node)
        self._mailbox.result(mail.tag, 0)

    async def _fallocate(self, mail: Mail) -> None:
        arg = wire.unpack_fallocate(mail.arg)
        await self._files.allocate(self._node(mail.ino), arg)
        self._mailbox.result(mail.tag, 0)


def _owner(mail: Mail) -> Owner:
    return Owner(mail.uid, mail.gid)
