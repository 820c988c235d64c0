# SPDX-License-Identifier: Apache-2.0
"""Making and removing names: CREATE, MKNOD, MKDIR, SYMLINK, UNLINK, RMDIR.

A file comes to be on the service at its first close, under the condition that there is none of that
name; everything else is stored before the answer, or journalled with ``--upload=background``.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from ovfs.remote.errors import FsError
from ovfs.remote.file import File, held
from ovfs.remote.keys import check_key
from ovfs.remote.node import Directory, Node
from ovfs.remote.posix import Owner, Posix

if TYPE_CHECKING:
    from ovfs.remote.files import Files
    from ovfs.remote.namespace import Namespace
    from ovfs.remote.pending import Pending
    from ovfs.remote.share import Share
    from ovfs.remote.upload import Uploads


class Changes:
    """Operations that change which names there are."""

    def __init__(
        self,
        share: Share,
        namespace: Namespace,
        files: Files,
        uploads: Uploads,
        pending: Pending,
    ) -> None:
        self._share = share
        self._namespace = namespace
        self._files = files
        self._uploads = uploads
        self._pending = pending

    # ---- making ----

    async def create(
        self, directory: Directory, name: str, flags: int, mode: int, owner: Owner
    ) -> tuple[Node, File]:
        """Make a file, or open the one that is there unless O_EXCL forbids it."""
        existing = await self._namespace.lookup(directory, name)
        if existing is not None:
            if flags & os.O_EXCL:
                raise FsError(errno.EEXIST, f"{existing.key} exists")
            if existing.kind != stat.S_IFREG:
                kind = errno.EISDIR if existing.is_dir else errno.ELOOP
                raise FsError(kind, f"{existing.key} is no regular file")
            return existing, await self._files.open(existing, flags)
        self._check_new(directory, name)
        node = self._make(directory, name, stat.S_IFREG | stat.S_IMODE(mode), owner)
        node.dirty = True
        file = self._files.create(node)
        self._namespace.publish_name(directory, name)
        return node, file

    async def make_node(self, directory: Directory, name: str, mode: int, owner: Owner) -> Node:
        """Make an empty regular file, a FIFO or a socket."""
        kind = stat.S_IFMT(mode)
        if kind not in {stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK}:
            raise FsError(errno.EPERM, "devices cannot be stored")
        if kind != stat.S_IFREG and not self._share.settings.posix:
            raise FsError(errno.EPERM, "special files need --posix-metadata")
        await self._check_free(directory, name)
        return await self._store_new(directory, name, mode, owner, b"")

    async def make_symlink(
        self, directory: Directory, name: str, target: bytes, owner: Owner
    ) -> Node:
        """Make a symbolic link: an object whose content is the target."""
        if not self._share.settings.posix:
            raise FsError(errno.EPERM, "symbolic links need --posix-metadata")
        await self._check_free(directory, name)
        return await self._store_new(directory, name, stat.S_IFLNK | 0o777, owner, target)

    async def make_directory(
        self, directory: Directory, name: str, mode: int, owner: Owner
    ) -> Directory:
        """Make a directory with a marker object."""
        await self._check_free(directory, name)
        node = self._make(directory, name, stat.S_IFDIR | stat.S_IMODE(mode), owner)
        assert isinstance(node, Directory)  # noqa: S101  by its mode
        node.marker = True
        await self._finish_new(node)
        node.listed_at = time.monotonic()  # nothing is in it
        return node

    async def _store_new(
        self, directory: Directory, name: str, mode: int, owner: Owner, data: bytes
    ) -> Node:
        node = self._make(directory, name, mode, owner)
        file = File(self._share, node, new=True)
        node.file = file
        if data:
            file.add_write_segments(0, len(data))
            file.content.write(0, data)
        await self._finish_new(node)
        return node

    async def _finish_new(self, node: Node) -> None:
        """Store or journal a new node; where that fails there is none."""
        directory = node.parent
        assert directory is not None  # noqa: S101  only the root has none
        node.dirty = True
        directory.changed(node.name)
        try:
            if self._share.settings.background:
                self._pending.add(node, self._share.settings.delay)
            else:
                await self._uploads.store(node)
        except FsError:
            self._drop(node)
            raise
        self._namespace.publish_name(directory, node.name)
        if node.file is not None:
            await self._files.release(node)

    def _make(self, directory: Directory, name: str, mode: int, owner: Owner) -> Node:
        now = time.time_ns()
        uid, gid = owner
        if not self._share.settings.posix:
            defaults = self._share.settings.defaults
            uid, gid = defaults.uid, defaults.gid
            kind = stat.S_IFMT(mode)
            mode = kind | (defaults.dir_mode if kind == stat.S_IFDIR else defaults.file_mode)
        elif directory.posix.mode & stat.S_ISGID:
            gid = directory.posix.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        xattrs: dict[str, bytes] | None = {} if self._share.settings.posix else None
        node = self._share.tree.add(directory, name, Posix(mode, uid, gid, now, now, now, xattrs))
        node.learnt = True
        directory.touch(data=True)
        self._namespace.publish(directory)
        return node

    def _drop(self, node: Node) -> None:
        directory, name = node.parent, node.name
        self._share.tree.remove(node)
        if node.file is not None:
            file, node.file = node.file, None
            if file.write_id is not None:
                self._share.cache.drop_writes(file.write_id)
            file.close()
        if directory is not None:
            self._namespace.publish_name(directory, name)

    async def _check_free(self, directory: Directory, name: str) -> None:
        if await self._namespace.lookup(directory, name) is not None:
            raise FsError(errno.EEXIST, f"{directory.prefix}{name} exists")
        self._check_new(directory, name)

    def _check_new(self, directory: Directory, name: str) -> None:
        if directory.removed:
            raise FsError(errno.ENOENT, f"{directory.prefix} is removed")
        check_key(directory.prefix + name)

    # ---- removing ----

    async def unlink(self, directory: Directory, name: str) -> None:
        """Remove a file; who has it open keeps it."""
        node = await self._namespace.lookup(directory, name)
        if node is None:
            raise FsError(errno.ENOENT, f"{directory.prefix}{name} is not there")
        if node.is_dir:
            raise FsError(errno.EISDIR, f"{node.key} is a directory")
        await self.remove_object(node)
        self._share.tree.remove(node)
        node.touch()
        self.let_go(node)
        await self._removed(directory, name, node)

    def let_go(self, node: Node) -> None:
        """Give up the bytes of a node that has no name any more, once nobody has it open."""
        self._files.let_go(node)

    async def remove_object(self, node: Node) -> None:
        """Take a file's object off the service, and what is owed of it off the queue."""
        async with held(node) as file:
            if file is not None and self._uploads.is_streaming(file):
                await self._uploads.abandon(file)
            if node.stored:
                if file is not None:
                    await self.keep_for_handles(file)
                await self._share.service.delete(node.key)
            self._pending.cancel(node)
            node.stored = False
            node.removed = True

    async def keep_for_handles(self, file: File) -> None:
        """Fetch what open handles may still want to read, if it has room in the cache."""
        state = file.content.state()
        if state.handles > 0 and state.base_size <= self._share.settings.cache_size:
            try:
                await file.ensure(0, state.base_size)
            except FsError:
                return  # it cannot be read now; it could not be later

    async def remove_directory(self, directory: Directory, name: str) -> None:
        """Remove an empty directory, which is asked of the service anew."""
        node = await self._namespace.lookup(directory, name)
        if node is None:
            raise FsError(errno.ENOENT, f"{directory.prefix}{name} is not there")
        if not isinstance(node, Directory):
            raise FsError(errno.ENOTDIR, f"{node.key} is no directory")
        if any(child.is_local for child in node.children.values()) or await self._has_entries(node):
            raise FsError(errno.ENOTEMPTY, f"{node.key} is not empty")
        async with self._pending.held([node]):
            if node.stored or node.marker:
                await self._share.service.delete(node.key)
            self._pending.cancel(node)
        node.marker = node.stored = False
        self._share.tree.remove(node)
        self._share.mailbox.drop_names(node.ino)
        await self._removed(directory, name, node)

    async def _has_entries(self, directory: Directory) -> bool:
        if not self._share.service.can.list:
            return bool(directory.children)
        async for info in self._share.service.list(directory.prefix, limit=8, with_self=True):
            if info.key == directory.prefix:
                continue
            name = info.key[len(directory.prefix) :].removesuffix("/")
            if directory.changes.get(name) is None or name in directory.children:
                return True
        return False

    async def _removed(self, directory: Directory, name: str, node: Node) -> None:
        directory.touch(data=True)
        self._namespace.publish_name(directory, name)
        self._namespace.publish(directory)
        self._namespace.publish(node)
        await self.keep_directory(directory)

    async def keep_directory(self, directory: Directory) -> None:
        """A directory that only its files made exist stays, with a marker object."""
        if directory.removed or directory.marker or directory.children or not directory.parent:
            return
        if self._share.settings.background:
            directory.marker = True
            self._pending.add(directory, self._share.settings.delay)
        else:
            await self._uploads.store(directory)
