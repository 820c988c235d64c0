# SPDX-License-Identifier: Apache-2.0
"""RENAME and RENAME2: atomic where the service can, else copy, verify, delete.

    not stored yet                 the name changes; the upload goes to the new key
    the service can rename         one call
    newer here, or small and here  PUT under the new key, then DELETE of the old one
    otherwise                      COPY by the service, a stat that it is whole, then DELETE

There is no moment at which neither key has the bytes. A directory is all of its objects, sixteen at
a time: first every copy, then every delete. What an interruption leaves is finished by the same
rename again: a target with nothing but copies of the source in it does not count as not empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import time
from typing import TYPE_CHECKING

from ovfs.fuse.wire import RENAME_NOREPLACE
from ovfs.remote.errors import FsError
from ovfs.remote.file import held
from ovfs.remote.keys import check_key
from ovfs.remote.namespace import DIRECTORY
from ovfs.remote.node import Directory, Node
from ovfs.remote.posix import NS, to_meta
from ovfs.remote.upload import PART, PUT_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Iterator, Sequence

    from ovfs.remote.changes import Changes
    from ovfs.remote.namespace import Namespace
    from ovfs.remote.objects import ObjectInfo
    from ovfs.remote.pending import Pending
    from ovfs.remote.share import Share
    from ovfs.remote.upload import Uploads

_PARALLEL = 16


class Renames:
    """Renames files and directories."""

    def __init__(
        self,
        share: Share,
        namespace: Namespace,
        changes: Changes,
        uploads: Uploads,
        pending: Pending,
    ) -> None:
        self._share = share
        self._namespace = namespace
        self._changes = changes
        self._uploads = uploads
        self._pending = pending

    async def rename(
        self, old_dir: Directory, old: str, new_dir: Directory, new: str, flags: int
    ) -> None:
        """Give a node another name; what had that name before has none afterwards."""
        if flags & ~RENAME_NOREPLACE:
            raise FsError(errno.EINVAL, "names cannot be exchanged on a storage service")
        node = await self._namespace.lookup(old_dir, old)
        if node is None:
            raise FsError(errno.ENOENT, f"{old_dir.prefix}{old} is not there")
        target = await self._target(new_dir, new, flags)
        if target is node:
            return
        if new_dir.removed:
            raise FsError(errno.ENOENT, f"{new_dir.prefix} is removed")
        check_key(new_dir.prefix + new)
        if target is not None and target.is_dir and not node.is_dir:
            raise FsError(errno.EISDIR, f"{target.key} is a directory")
        names = ((old_dir, old), (new_dir, new))
        with _changing(names):
            if isinstance(node, Directory):
                await self._rename_directory(node, new_dir, new, target)
            else:
                await self._rename_file(node, new_dir, new, target)
        node.touch()
        for directory, name in names:
            directory.touch(data=True)
            self._namespace.publish_name(directory, name)
            self._namespace.publish(directory)
        self._namespace.publish(node)
        if target is not None:
            self._changes.let_go(target)
        await self._changes.keep_directory(old_dir)

    async def _target(self, new_dir: Directory, new: str, flags: int) -> Node | None:
        """What has the new name now; where nothing may have it, the service is asked anew."""
        if not flags & RENAME_NOREPLACE:
            return await self._namespace.lookup(new_dir, new)
        target = new_dir.children.get(new)
        if target is None or not target.is_local:
            target = await self._namespace.look_again(new_dir, new)
        if target is not None:
            raise FsError(errno.EEXIST, f"{target.key} exists")
        return None

    # ---- files ----

    async def _rename_file(
        self, node: Node, new_dir: Directory, new: str, target: Node | None
    ) -> None:
        async with self._quiet(node, target):
            if not node.stored:
                self._rename_new(node, new_dir, new, target)
            elif node.file is None or (self._uploads.is_stored(node) and not self._is_here(node)):
                await self._move_object(node, new_dir, new, target)
            else:
                await self._store_elsewhere(node, new_dir, new, target)
            if target is not None:  # not before: until now it has not been replaced
                self._pending.cancel(target)

    @contextlib.asynccontextmanager
    async def _quiet(self, node: Node, target: Node | None) -> AsyncIterator[None]:
        """Nothing is uploaded of either, and which versions they are is known."""
        async with contextlib.AsyncExitStack() as stack:
            for each in sorted(filter(None, (node, target)), key=lambda each: each.ino):
                await self._hold(each, stack)
            if target is not None and target.file is not None and target.stored:
                await self._changes.keep_for_handles(target.file)
            yield

    async def _hold(self, node: Node, stack: contextlib.AsyncExitStack) -> None:
        self._pending.provide_file(node)
        file = await stack.enter_async_context(held(node))
        if file is None:
            return
        if self._uploads.is_streaming(file):  # to the key that it has now
            await self._uploads.abandon(file)
        if file.confirming is not None:
            await asyncio.shield(file.confirming)

    def _rename_new(self, node: Node, new_dir: Directory, new: str, target: Node | None) -> None:
        """The service does not know the node: its name here is all that changes."""
        self._attach(node, new_dir, new, target)
        if self._share.settings.background and target is not None and not self._pending.has(node):
            # What it replaces may be owed, and is given up.
            self._pending.add(node, self._share.settings.delay)
        self._pending.moved(node, target)

    def _is_here(self, node: Node) -> bool:
        """Whether one PUT does: cheaper than a copy and a look at it."""
        file = node.file
        if file is None or file.size > PUT_MAX or self._share.service.can.rename:
            return False
        return not any(file.missing(0, file.size))

    async def _store_elsewhere(
        self, node: Node, new_dir: Directory, new: str, target: Node | None
    ) -> None:
        """The object as it is here goes to the new key, and the old one is deleted.

        Until both are done the journal speaks of the old key.
        """
        file = node.file
        assert file is not None  # noqa: S101  the caller looked
        old_key, old_dir, old = node.key, node.parent, node.name
        assert old_dir is not None  # noqa: S101  the root is not renamed
        await file.make_whole()  # what is missing could not be fetched from the new key
        before = (node.stored, node.etag, node.version, node.stamp, node.size, node.dirty)
        generation = file.stored_generation
        self._attach(node, new_dir, new, target)
        node.dirty = True
        try:
            await self._uploads.store_held(node)
            await self._share.service.delete(old_key)
        except BaseException:
            if target is not None:
                target.stored = node.stored
                target.seen = -1.0
            elif self._uploads.is_stored(node):  # only the old one could not be deleted
                with contextlib.suppress(FsError):
                    await self._share.service.delete(node.key)
            self._share.tree.detach(node)
            self._share.tree.attach(node, old_dir, old)
            node.stored, node.etag, node.version, node.stamp, node.size, node.dirty = before
            if not file.closed:  # under the old key there is what there was
                file.stored_generation = generation
                file.content.set_stored(generation)
            if target is not None:
                self._share.tree.attach(target, new_dir, new)
            raise
        if self._uploads.is_stored(node):
            self._pending.cancel(node)
        else:  # written and flushed meanwhile
            self._pending.moved(node, target)

    def _attach(self, node: Node, new_dir: Directory, new: str, target: Node | None) -> None:
        """The name in the tree; what the node will replace there is the target's object."""
        self._share.tree.detach(node)
        self._share.tree.attach(node, new_dir, new)
        if target is not None:
            node.stored, node.etag = target.stored, target.etag
            node.version, node.stamp = target.version, target.stamp
            target.stored = False
        else:
            node.stored, node.etag, node.version, node.stamp = False, None, "", ""

    async def _move_object(
        self, node: Node, new_dir: Directory, new: str, target: Node | None
    ) -> None:
        service = self._share.service
        old_key, new_key = node.key, new_dir.prefix + new
        began = time.monotonic()
        if service.can.rename:
            if target is not None and target.stored:
                await service.delete(new_key)
            await service.rename(old_key, new_key)
            info = await service.stat(new_key)
        else:
            info = await self._copy(old_key, new_key, node.size)
            self._pending.announce(node, new_key, info)
            await service.delete(old_key)
        self._share.tree.detach(node)
        self._share.tree.attach(node, new_dir, new)
        if target is not None:
            target.stored = False
        self._take_version(node, info, began)
        self._pending.moved(node, target)

    def _take_version(self, node: Node, info: ObjectInfo | None, began: float) -> None:
        if info is None:
            node.seen = -1.0
            return
        node.etag, node.version, node.seen = info.etag, info.version, began
        node.stamp = f"{info.version}@{info.mtime_ns // NS}"
        if info.meta and self._share.settings.posix:
            self._share.store.remember(node.key, node.stamp, info.meta)

    async def _copy(self, old_key: str, new_key: str, size: int | None) -> ObjectInfo:
        """Copy one object and see that it is whole."""
        if self._share.service.can.copy:
            await self._share.service.copy(old_key, new_key)
        else:
            await self._carry(old_key, new_key, size or 0)
        info = await self._share.service.stat(new_key)
        if info is None or (size is not None and info.size != size):
            raise FsError(errno.EIO, f"the copy of {old_key} at {new_key} is not whole")
        return info

    async def _carry(self, old_key: str, new_key: str, size: int) -> None:
        """Where the service cannot copy: the bytes pass through here, once."""
        service = self._share.service
        source = await service.stat(old_key)
        if source is None or source.size != size:
            raise FsError(errno.ESTALE, f"{old_key} was changed by another writer")
        meta = source.meta if service.can.user_metadata else None
        if size <= PUT_MAX:
            await service.put(new_key, await service.read(old_key, 0, size), meta=meta)
            return
        if not service.can.multipart:
            raise FsError(errno.EXDEV, f"{service.scheme} can neither rename nor copy {old_key}")
        upload = await service.writer(new_key, meta=meta, expected=size)
        try:
            for at in range(0, size, PART):
                data = await service.read(old_key, at, min(PART, size - at), etag=source.etag)
                await upload.write(data)
        except BaseException:
            await upload.abort()
            raise
        await upload.commit()

    # ---- directories ----

    async def _rename_directory(
        self, node: Directory, new_dir: Directory, new: str, target: Node | None
    ) -> None:
        if target is not None and not isinstance(target, Directory):
            raise FsError(errno.ENOTDIR, f"{target.key} is no directory")
        _check_outside(node, new_dir)
        old_prefix, new_prefix = node.prefix, f"{new_dir.prefix}{new}/"
        async with contextlib.AsyncExitStack() as stack:
            inside = [node, *node.walk()]
            marked = [each for each in (target, *inside) if each is not None and each.is_dir]
            await stack.enter_async_context(self._pending.held(marked))
            for below in inside:
                await self._hold(below, stack)
            if target is not None and any(child.is_local for child in target.children.values()):
                raise FsError(errno.ENOTEMPTY, f"{target.key} is not empty")
            there = await self._objects(new_prefix) if target is not None else {}
            here = await self._objects(old_prefix)
            entries = {name for name in there if name}
            if entries and not _resumes(here, there):
                raise FsError(errno.ENOTEMPTY, f"{new_prefix} is not empty")
            moved = await self._copy_all(old_prefix, new_prefix, here, there)
            for below in inside:
                name = below.key[len(old_prefix) :]
                self._pending.announce(below, new_prefix + name, moved.get(name))
            try:
                await self._delete_all(old_prefix, here)
            except BaseException:
                for below in inside:
                    self._pending.moved(below)  # back: they have their old names
                raise
            await self._delete_shells(old_prefix, here)
            self._move_tree(node, new_dir, new, target, moved)
            if target is not None:
                self._pending.cancel(target)

    async def _delete_all(self, prefix: str, names: Collection[str]) -> None:
        """Deepest first: where directories are real, one with something in it does not go."""
        for level in reversed(_levels(name for name in names if name)):
            await _each(self._share.service.delete(prefix + name) for name in level)
        await self._share.service.delete(prefix)

    async def _delete_shells(self, prefix: str, names: Iterable[str]) -> None:
        """Some servers (SeaweedFS) show a directory for ever that only its objects had made."""
        found = {"", *(name[: name.rindex("/") + 1] for name in names if "/" in name)}
        for name in list(found):
            found |= {name[: at + 1] for at, letter in enumerate(name) if letter == "/"}
        for name in sorted(found - set(names), key=lambda name: name.count("/"), reverse=True):
            with contextlib.suppress(FsError):
                await self._share.service.delete(prefix + name)

    async def _objects(self, prefix: str) -> dict[str, ObjectInfo]:
        """All objects below a prefix, by what follows it; "" is the marker."""
        service = self._share.service
        if service.can.list_recursive:
            listing = service.list(prefix, recursive=True, with_self=True)
            return {info.key[len(prefix) :]: info async for info in listing}
        found: dict[str, ObjectInfo] = {}
        async for info in service.list(prefix, with_self=True):
            found[info.key[len(prefix) :]] = info
            if info.is_dir and info.key != prefix:
                below = await self._objects(info.key)
                found |= {f"{info.key[len(prefix) :]}{name}": each for name, each in below.items()}
        return found

    async def _copy_all(
        self,
        old_prefix: str,
        new_prefix: str,
        here: dict[str, ObjectInfo],
        there: dict[str, ObjectInfo],
    ) -> dict[str, ObjectInfo]:
        service = self._share.service
        moved: dict[str, ObjectInfo] = {}

        async def move(name: str, info: ObjectInfo) -> None:
            if info.is_dir:
                # Not every service copies a key that ends in a slash, and a marker is empty.
                marks = self._share.settings.posix and service.can.dir_metadata
                old = await service.stat(old_prefix + name) if marks else None
                meta = None if old is None else old.meta
                await service.make_dir(new_prefix + name, meta=meta)
                return
            moved[name] = await self._copy(old_prefix + name, new_prefix + name, info.size)

        wanted = {
            name: info
            for name, info in here.items()
            if name not in there or not _same(info, there[name])
        }
        # Markers first: SeaweedFS loses one of 400 that come together with what is below them.
        for level in _levels(name for name, info in wanted.items() if info.is_dir):
            await _each(move(name, wanted[name]) for name in level)
        await _each(move(name, info) for name, info in wanted.items() if not info.is_dir)
        return moved

    def _move_tree(
        self,
        node: Directory,
        new_dir: Directory,
        new: str,
        target: Node | None,
        moved: dict[str, ObjectInfo],
    ) -> None:
        self._share.tree.detach(node)
        self._share.tree.attach(node, new_dir, new)
        if target is not None:
            target.stored = False
        began = time.monotonic()
        prefix = node.prefix
        self._pending.moved(node)
        if self._share.settings.posix:
            self._share.store.remember(node.key, DIRECTORY, to_meta(node.posix))
        for below in node.walk():
            if below.is_dir and self._share.settings.posix:
                self._share.store.remember(below.key, DIRECTORY, to_meta(below.posix))
            info = moved.get(below.key[len(prefix) :])
            if info is not None:  # of what is newer here too: it is what that will replace
                self._take_version(below, info, began)
            self._pending.moved(below)


def _check_outside(node: Directory, new_dir: Directory) -> None:
    above: Directory | None = new_dir
    while above is not None:
        if above is node:
            raise FsError(errno.EINVAL, f"{node.key} cannot be moved into itself")
        above = above.parent


@contextlib.contextmanager
def _changing(names: Sequence[tuple[Directory, str]]) -> Iterator[None]:
    """What a listing tells of these names meanwhile is no news."""
    for directory, name in names:
        directory.changes[name] = math.inf
    try:
        yield
    finally:
        for directory, name in names:
            directory.changed(name)


def _same(one: ObjectInfo, other: ObjectInfo) -> bool:
    return one.size == other.size and one.etag == other.etag and one.is_dir == other.is_dir


def _resumes(here: dict[str, ObjectInfo], there: dict[str, ObjectInfo]) -> bool:
    """Whether the target is what an interrupted rename of the source leaves."""
    few, many = sorted((here, there), key=len)
    return all(name in many and _same(info, many[name]) for name, info in few.items() if name)


def _levels(names: Iterable[str]) -> list[list[str]]:
    """Names by depth, from the top."""
    levels: dict[int, list[str]] = {}
    for name in names:
        levels.setdefault(name.rstrip("/").count("/") + bool(name), []).append(name)
    return [levels[depth] for depth in sorted(levels)]


async def _each(work: Iterable[Awaitable[None]]) -> None:
    """Await all, so many at a time; the first error, once all that began have ended."""
    limit = asyncio.Semaphore(_PARALLEL)

    async def one(job: Awaitable[None]) -> None:
        async with limit:
            await job

    results = await asyncio.gather(*(one(job) for job in work), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
