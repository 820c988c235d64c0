# SPDX-License-Identifier: Apache-2.0
"""Nodes: what the guest sees of the keys, as a tree of names.

A node is found by its inode number, which is a hash of the key that it had when it was made: the
same after a restart, and kept when the node is renamed. What the guest knows is a subset; the data
plane tells when it forgets one. Nothing in this file does I/O.

    Node          attributes, the version of the object that they were learnt from
    Directory     its children by name, and how much is known of them
    Tree          inode number -> node
"""

from __future__ import annotations

import hashlib
import stat
import time
from typing import TYPE_CHECKING

from ovfs.native import Attr
from ovfs.native.values import ATTR_NO_XATTRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovfs.remote.file import File
    from ovfs.remote.posix import Posix

ROOT_INO = 1
DIR_SIZE = 4096
MAX_NAME = 255

_NEVER = float("-inf")


class Node:
    """One name's object: a file, a symlink, a FIFO, a socket, or (``Directory``) a directory.

    Attributes:
        ino: its number, constant.
        parent: the directory it is in; None for the root.
        name: its name there.
        posix: mode, owner, times, extended attributes.
        size: bytes of the object, as far as known; an open file's content knows better.
        etag: of the stored object; None: not stored, or not known.
        version: what tells one content of the object from another; "" where nothing does.
        stamp: the same for its metadata, which may be replaced under equal bytes.
        seen: when (monotonic) the service last told of it.
        learnt: the user metadata has been read (or there is none to read).
        stored: there is an object of it on the service.
        dirty: attributes here are newer than the stored ones.
        removed: it has no name any more.
        file: its bytes, while they are open, cached or on their way.
    """

    __slots__ = (
        "dirty", "etag", "file", "ino", "learnt", "name", "parent", "posix", "removed",
        "seen", "size", "stamp", "stored", "version",
    )  # fmt: skip

    def __init__(self, ino: int, parent: Directory | None, name: str, posix: Posix) -> None:
        self.ino = ino
        self.parent = parent
        self.name = name
        self.posix = posix
        self.size = 0
        self.etag: str | None = None
        self.version = ""
        self.stamp = ""
        self.seen = _NEVER
        self.learnt = False
        self.stored = False
        self.dirty = False
        self.removed = False
        self.file: File | None = None

    @property
    def key(self) -> str:
        """The object's key below the root of the share."""
        return self.name if self.parent is None else self.parent.prefix + self.name

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return False

    @property
    def kind(self) -> int:
        """The type bits of its mode."""
        return stat.S_IFMT(self.posix.mode)

    @property
    def is_local(self) -> bool:
        """Whether what is here is newer than anything that the service tells."""
        return self.dirty or (self.file is not None and self.file.is_local)

    @property
    def is_gone(self) -> bool:
        """Whether it has no name any more, and nothing here is left of it."""
        return self.removed and self.file is None

    def current_size(self) -> int:
        """The size that the guest sees."""
        if self.file is not None:
            return self.file.size
        return DIR_SIZE if self.is_dir else self.size

    def attr(self) -> Attr:
        """The attributes for the data plane."""
        posix = self.posix
        return Attr(
            size=self.current_size(),
            atime_ns=posix.atime_ns,
            mtime_ns=posix.mtime_ns,
            ctime_ns=posix.ctime_ns,
            mode=posix.mode,
            nlink=0 if self.removed else 2 if self.is_dir else 1,
            uid=posix.uid,
            gid=posix.gid,
            rdev=0,
            flags=ATTR_NO_XATTRS if posix.xattrs == {} else 0,
        )

    def touch(self, *, data: bool = False) -> None:
        """Its attributes (or its data too) change now."""
        now = time.time_ns()
        self.posix.ctime_ns = now
        if data:
            self.posix.mtime_ns = now


class Directory(Node):
    """A directory.

    Attributes:
        children: by name; all there are if ``listed_at`` is not long ago, else those met so far.
        listed_at: when (monotonic) the last complete listing began.
        large: too many entries to be listed for one name's sake.
        marker: whether the marker object ``key/`` exists; None: not known.
        order: the names of the last listing, sorted: who reads a directory through goes by it.
        ahead, batch: how far in that order metadata is learnt, and of how many names last.
        below, below_since: how many of its directories were listed since when (monotonic).
        wide: too much is below it to be listed at once.
        lookups: names asked for since the last listing.
        changes: names changed here, with the time (monotonic): a listing that began before such a
            change says nothing about the name.
    """

    __slots__ = (
        "ahead", "batch", "below", "below_since", "changes", "children", "large", "listed_at",
        "lookups", "marker", "order", "wide",
    )  # fmt: skip

    def __init__(self, ino: int, parent: Directory | None, name: str, posix: Posix) -> None:
        super().__init__(ino, parent, name, posix)
        self.children: dict[str, Node] = {}
        self.listed_at = _NEVER
        self.large = False
        self.marker: bool | None = None
        self.changes: dict[str, float] = {}
        self.order: list[str] = []
        self.ahead = 0
        self.batch = 0
        self.lookups = 0
        self.below = 0
        self.below_since = _NEVER
        self.wide = False

    @property
    def key(self) -> str:
        """The key of its marker object."""
        return self.prefix

    @property
    def prefix(self) -> str:
        """What all keys below it start with: "" for the root, else it ends in a slash."""
        return "" if self.parent is None else f"{self.parent.prefix}{self.name}/"

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return True

    def changed(self, name: str) -> None:
        """This name has just been changed here."""
        self.changes[name] = time.monotonic()
        if len(self.changes) > 4096:
            horizon = time.monotonic() - 120.0
            self.changes = {name: at for name, at in self.changes.items() if at > horizon}

    def walk(self) -> Iterator[Node]:
        """Everything known below it, parents before children."""
        for child in list(self.children.values()):
            yield child
            if isinstance(child, Directory):
                yield from child.walk()


def valid_name(name: str) -> bool:
    """Whether a segment of a key can be a name of a file."""
    if name in {"", ".", ".."} or "\0" in name or "/" in name:
        return False
    return len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME


class Tree:
    """All nodes. A node is in here as long as the guest may name it."""

    def __init__(self, root_posix: Posix) -> None:
        self.root = Directory(ROOT_INO, None, "", root_posix)
        self.root.stored = self.root.learnt = True
        self._nodes: dict[int, Node] = {ROOT_INO: self.root}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, ino: int) -> Node | None:
        """Return the node of a number."""
        return self._nodes.get(ino)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def add(self, parent: Directory, name: str, posix: Posix) -> Node:
        """Make a node and give it its name, from which another one may have to go."""
        is_dir = stat.S_ISDIR(posix.mode)
        ino = self._number(f"{parent.prefix}{name}{'/' if is_dir else ''}")
        node = (Directory if is_dir else Node)(ino, parent, name, posix)
        self._nodes[ino] = node
        self.attach(node, parent, name)
        return node

    def add_unnamed(self, parent: Directory, name: str, posix: Posix) -> Node:
        """Make a file's node for a name that another one has: nobody finds it there."""
        node = Node(self._number(f"{parent.prefix}{name}"), parent, name, posix)
        self._nodes[node.ino] = node
        return node

    def attach(self, node: Node, parent: Directory, name: str) -> Node | None:
        """Give a node a name; returns the node that had it before, now removed."""
        before = parent.children.get(name)
        if before is not None and before is not node:
            self.remove(before)
        else:
            before = None
        node.parent, node.name, node.removed = parent, name, False
        parent.children[name] = node
        return before

    def detach(self, node: Node) -> None:
        """Take a node's name away; it is about to get another one."""
        if node.parent is not None and node.parent.children.get(node.name) is node:
            del node.parent.children[node.name]

    def remove(self, node: Node) -> None:
        """The node has no name any more; it stays known by its number until it is forgotten."""
        self.detach(node)
        node.removed = True

    def forget(self, ino: int) -> None:
        """The guest does not know the number any more."""
        node = self._nodes.get(ino)
        if node is not None and node.removed and node.file is None:
            del self._nodes[ino]

    def drop(self, node: Node) -> None:
        """Forget a node for good; nobody can name it."""
        self.detach(node)
        self._nodes.pop(node.ino, None)

    def _number(self, key: str) -> int:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        number = int.from_bytes(digest, "little") & ((1 << 63) - 1)
        while number <= ROOT_INO or number in self._nodes:
            number += 1
        return number
