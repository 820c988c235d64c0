# SPDX-License-Identifier: Apache-2.0
"""Names: what the service has under which key, learnt with few calls and kept for a short while.

    a name in a directory that was listed within the validity     answered from the listing
    the first names of a directory that was never listed          one stat as file, one as directory
    further ones                                                   one listing for all of them

A listing tells size, time and version, but no user metadata. Where POSIX attributes are kept, one
stat for each version of an object is made once and remembered in the cache directory; whoever goes
through a directory in order finds those of the following names already under way.

What was changed here is newer than what a listing tells that began before: such names are left
alone by it, and so are nodes that have something to be uploaded.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import stat
import time
from typing import TYPE_CHECKING

from ovfs.native import Attr, Entry
from ovfs.remote import posix
from ovfs.remote.errors import FsError
from ovfs.remote.keys import is_reachable
from ovfs.remote.learning import Learning
from ovfs.remote.listings import Found, Listings
from ovfs.remote.node import Directory, Node, valid_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ovfs.remote.service import ObjectInfo
    from ovfs.remote.share import Share

log = logging.getLogger(__name__)

LARGE = 20_000  # entries: beyond it a listing makes no nodes, and names are looked for one by one
_RELIST = 2_000  # entries: up to here one listing is as good as a few stats
_LOCAL = 3600.0  # seconds that attributes stand of what is newer here than on the service
_PATIENCE = 0.05  # seconds that a lookup waits for a listing that is under way
_NODES = 200_000  # beyond it, what the guest does not know is forgotten, oldest listings first
_UNKNOWN_TYPE = 0  # DT_UNKNOWN: the guest looks for itself


DIRECTORY = "directory"


class Namespace:
    """Looks names up and keeps the tree and the data plane's tables up to date."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._listings = Listings(share, self._found)
        self._learning = Learning(share, self._learn, self.publish_listing)
        self._warned: set[int] = set()

    # ---- answers for the guest ----

    def validity(self, node: Node) -> float:
        """Return for how many seconds from now the node's attributes stand."""
        if node.is_local or node.removed:
            return _LOCAL
        return max(0.0, node.seen + self._share.settings.validity - time.monotonic())

    def is_fresh(self, node: Node) -> bool:
        """Whether the service told of this node within the validity."""
        return node.ino == self._share.tree.root.ino or self.validity(node) > 0

    def entry(self, node: Node | None) -> Entry:
        """Return what a lookup answers."""
        limit = self._share.settings.validity
        if node is None:
            return Entry(ino=0, attr=_NO_ATTR, attr_valid=0.0, entry_valid=limit)
        valid = self.validity(node)
        return Entry(
            ino=node.ino, attr=node.attr(), attr_valid=valid, entry_valid=min(valid, limit)
        )

    def publish(self, node: Node) -> None:
        """Tell the data plane of changed attributes."""
        self._share.mailbox.set_attr(node.ino, node.attr(), self.validity(node))

    def publish_name(self, directory: Directory, name: str) -> None:
        """Tell the data plane what a name stands for after it was changed here."""
        directory.changed(name)
        node = directory.children.get(name)
        ino = 0 if node is None else node.ino
        validity = self._share.settings.validity
        self._share.mailbox.set_name(directory.ino, name.encode(), ino, validity)

    # ---- looking up ----

    async def lookup(self, directory: Directory, name: str) -> Node | None:
        """Return the node of a name, its attributes learnt; None where there is no such name."""
        child = directory.children.get(name)
        if child is not None and child.is_local:
            return child
        if not valid_name(name) or not is_reachable(directory.prefix + name):
            return None
        directory.lookups += 1
        if not self.is_listed(directory) and not self._changed_lately(directory, name):
            child = await self._look_for(directory, name)
        else:
            child = directory.children.get(name)
        if child is not None and not child.learnt:
            self._learning.ahead(directory, name)
            await self._learning.learn(child)
            child = None if child.removed else child
        return child

    async def refresh(self, node: Node) -> None:
        """Make sure that what is known of a node is no older than the validity.

        Raises:
            FsError: ESTALE, the object is gone.
        """
        if node.removed or self.is_fresh(node):
            return
        parent = node.parent
        if parent is not None and self._may_relist(parent):
            await self.relist(parent)
        else:
            await self.check(node)
        if node.is_gone:
            raise FsError(errno.ESTALE, f"{node.key} is gone")
        if not node.learnt:
            await self._learning.learn(node)

    async def check(self, node: Node) -> None:
        """Ask the service for one node, whatever is known."""
        began = time.monotonic()
        info = await self._share.service.stat(node.key)
        parent = node.parent
        if node.is_local or (parent is not None and parent.changes.get(node.name, -1.0) >= began):
            return
        if info is None:
            if not node.removed:
                self._gone(node)
            return
        self.update(node, info, began)
        self.publish(node)

    async def _look_for(self, directory: Directory, name: str) -> Node | None:
        if self._may_relist(directory):
            await self.relist(directory)
            return directory.children.get(name)
        if directory.lookups > 1 and not directory.large and self._share.service.can.list:
            self._listings.start(directory)
        task = self._listings.running(directory)
        if task is not None and directory.lookups > 2:
            await asyncio.wait([task], timeout=_PATIENCE)
            if self.is_listed(directory):
                return directory.children.get(name)
        return await self._look_for_one(directory, name)

    async def look_again(self, directory: Directory, name: str) -> Node | None:
        """Ask the service for a name, whatever is known of it."""
        return await self._look_for_one(directory, name)

    async def _look_for_one(self, directory: Directory, name: str) -> Node | None:
        """One name, asked for as a file and as a directory at once; a directory wins."""
        began = time.monotonic()
        key = directory.prefix + name
        service = self._share.service
        as_file, as_dir = await asyncio.gather(service.stat(key), service.stat(f"{key}/"))
        child = directory.children.get(name)
        if directory.changes.get(name, -1.0) >= began or (child is not None and child.is_local):
            return child
        # Without listings a directory cannot be told from a file with a slash behind its name.
        info = as_dir or as_file if service.can.list else as_file or as_dir
        if info is None:
            if child is not None:
                self._gone(child)
            return None
        return self._meet(directory, name, info, began)

    # ---- listing ----

    def is_listed(self, directory: Directory) -> bool:
        """Whether all names of a directory were learnt within the validity."""
        if not directory.stored and directory.parent is not None:
            return True  # made here, and nothing of it is on the service yet
        age = time.monotonic() - directory.listed_at
        return not directory.large and age < self._share.settings.validity

    def _may_relist(self, directory: Directory) -> bool:
        """Whether a listing is the cheapest way to learn of several of its names."""
        known = directory.listed_at > 0 and not directory.large
        return known and len(directory.children) <= _RELIST

    def _changed_lately(self, directory: Directory, name: str) -> bool:
        at = directory.changes.get(name)
        return at is not None and time.monotonic() - at < self._share.settings.validity

    async def relist(self, directory: Directory) -> None:
        """List a directory; one call for all who ask."""
        await self._listings.list(directory)

    def _found(self, directory: Directory, found: Found, began: float) -> None:
        """Take over what a listing told that began then."""
        directory.marker = found.marker
        self._warn(directory, found.skipped)
        if len(found.entries) > LARGE:
            self._take_large(directory, found.entries, began)
        else:
            self._take(directory, found.entries, began)

    def _take(self, directory: Directory, found: dict[str, ObjectInfo], began: float) -> None:
        for name, child in list(directory.children.items()):
            if (
                name not in found
                and not child.is_local
                and not self._is_newer(directory, name, began)
            ):
                self._gone(child)
        news = []
        for name, info in found.items():
            if self._is_newer(directory, name, began):
                continue
            child = self._meet(directory, name, info, began)
            if not child.learnt:
                news.append(child)
        self._recall(news)
        directory.large = False
        directory.listed_at = began
        directory.order = sorted(directory.children)
        directory.ahead = directory.batch = 0
        self.publish_listing(directory)
        if len(self._share.tree) > _NODES:
            self._prune(directory)

    def _take_large(self, directory: Directory, found: dict[str, ObjectInfo], began: float) -> None:
        """Only names: nodes are made for those that the guest looks up."""
        directory.large = True
        directory.listed_at = began
        entries = []
        for name, info in found.items():
            child = directory.children.get(name)
            if child is not None and not self._is_newer(directory, name, began):
                self.update(child, info, began)
            mode = stat.S_IFDIR if info.is_dir else self._listed_type()
            entries.append((name.encode(), Entry(0, _attr_of_type(mode), 0.0, 0.0)))
        for name, child in directory.children.items():
            if name not in found and child.is_local:
                entries.append((name.encode(), self.entry(child)))
        self._set_listing(directory, entries)

    def _prune(self, newest: Directory) -> None:
        tree = self._share.tree
        listed = [node for node in tree if isinstance(node, Directory) and node.listed_at > 0]
        for directory in sorted(listed, key=lambda each: each.listed_at):
            if directory is newest or len(tree) <= _NODES // 2:
                break
            self._share.mailbox.drop_names(directory.ino)
            directory.listed_at, directory.order = float("-inf"), []
            for child in list(directory.children.values()):
                below = isinstance(child, Directory) and child.children
                if below or child.is_local or child.file is not None:
                    continue
                if not self._share.mailbox.set_attr(child.ino, child.attr(), 0.0):
                    tree.drop(child)

    def publish_listing(self, directory: Directory) -> None:
        """Give the data plane the listing, so that it serves the guest's without asking."""
        entries = []
        for name, child in directory.children.items():
            if child.learnt or child.is_local:
                entry = self.entry(child)
            else:
                mode = stat.S_IFDIR if child.is_dir else self._listed_type()
                entry = Entry(0, _attr_of_type(mode), 0.0, 0.0)
            entries.append((name.encode(), entry))
        self._set_listing(directory, entries)

    def _set_listing(self, directory: Directory, entries: list[tuple[bytes, Entry]]) -> None:
        parent = directory.parent or directory
        valid = directory.listed_at + self._share.settings.validity - time.monotonic()
        self._share.mailbox.set_listing(directory.ino, parent.ino, entries, max(0.0, valid))

    def _listed_type(self) -> int:
        """The type of an object of which a listing alone tells: a symlink looks like a file."""
        return _UNKNOWN_TYPE if self._share.settings.posix else stat.S_IFREG

    def _is_newer(self, directory: Directory, name: str, began: float) -> bool:
        child = directory.children.get(name)
        changed = directory.changes.get(name, -1.0) >= began
        return changed or (child is not None and child.is_local)

    def _warn(self, directory: Directory, skipped: list[str]) -> None:
        if skipped and directory.ino not in self._warned:
            self._warned.add(directory.ino)
            log.warning(
                "%d keys below %s cannot be names of files and are not shown, %r for one",
                len(skipped), directory.prefix or "/", skipped[0],
            )  # fmt: skip

    # ---- nodes ----

    def _meet(self, directory: Directory, name: str, info: ObjectInfo, began: float) -> Node:
        """The node for what the service tells of a name."""
        child = directory.children.get(name)
        if child is None or child.is_dir != info.is_dir:
            if child is not None:
                self._gone(child)
            attributes = posix.from_meta(
                {},
                is_dir=info.is_dir,
                changed_ns=info.mtime_ns,
                defaults=self._share.settings.defaults,
            )
            child = self._share.tree.add(directory, name, attributes)
        self.update(child, info, began)
        return child

    def update(self, node: Node, info: ObjectInfo, began: float) -> None:
        """Take over what the service told of an object in a call that began then."""
        version = info.version
        stamp = f"{version}@{info.mtime_ns // posix.NS}"
        keeps = self._share.settings.posix
        if version and version == node.version and not node.stamp and node.learnt:
            # Our own upload, whose time is told now: its metadata is what we gave it.
            node.stamp = stamp
            if keeps and not node.is_dir:
                self._share.store.remember(node.key, stamp, posix.to_meta(node.posix))
        changed = stamp != node.stamp or not version
        if version != node.version and node.file is not None:
            node.file.lose()
        node.stored = True
        node.size, node.etag, node.version, node.stamp = info.size, info.etag, version, stamp
        node.seen = began
        if isinstance(node, Directory):
            node.marker = node.marker or info.meta is not None
        told = info.meta is not None and (not node.is_dir or self._share.service.can.dir_metadata)
        if told or not keeps:
            self._set_posix(node, info.meta or {} if keeps else {}, info.mtime_ns)
            if keeps and info.meta:
                self._share.store.remember(node.key, _memory(node), info.meta)
        elif changed:
            node.learnt = False
            node.posix.mtime_ns = info.mtime_ns or node.posix.mtime_ns

    def _set_posix(self, node: Node, meta: dict[str, str], changed_ns: int) -> None:
        node.posix = posix.from_meta(
            meta,
            is_dir=node.is_dir,
            changed_ns=changed_ns,
            defaults=self._share.settings.defaults,
        )
        if not self._share.settings.posix:
            node.posix.xattrs = None
        node.learnt = True

    def _gone(self, node: Node) -> None:
        """The service has it no more."""
        parent, name = node.parent, node.name
        if node.file is not None:
            node.file.lose()
        if isinstance(node, Directory):
            for child in list(node.children.values()):
                self._gone(child)
        self._share.tree.remove(node)
        if parent is not None:
            self._share.mailbox.set_name(parent.ino, name.encode(), 0, 0.0)
        if not self._share.mailbox.set_attr(node.ino, node.attr(), 0.0):
            self._share.tree.forget(node.ino)

    # ---- metadata ----

    def _recall(self, nodes: Iterable[Node]) -> None:
        """Take the metadata that an earlier look at the same versions brought."""
        wanted = list(nodes)
        found = self._share.store.recall_many([(node.key, _memory(node)) for node in wanted])
        for node, meta in zip(wanted, found, strict=True):
            if meta is not None:
                self._set_posix(node, meta, node.posix.mtime_ns)

    async def _learn(self, node: Node) -> None:
        await self.check(node)
        if not node.learnt:
            self._recall([node])
        if not node.removed:
            node.learnt = True  # a directory without a marker has no metadata to read


def _memory(node: Node) -> str:
    """Under which version a node's metadata is remembered; a directory's has none of its own."""
    return DIRECTORY if node.is_dir else node.stamp


def _attr_of_type(mode: int) -> Attr:
    return Attr(
        size=0,
        atime_ns=0,
        mtime_ns=0,
        ctime_ns=0,
        mode=mode,
        nlink=1,
        uid=0,
        gid=0,
        rdev=0,
        flags=0,
    )


_NO_ATTR = _attr_of_type(0)
