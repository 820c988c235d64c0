# SPDX-License-Identifier: Apache-2.0
"""What a daemon before this one still owed: journal entries become nodes that wait to be stored.

The write segments lie where that daemon left them. Which of their pages were written is what the
disk has of the sparse files; each is put into the new content's map by being written where it is.

Where somebody has the same key on its way here already, what was owed becomes a node that has no
name. The service's condition then decides between the two, and keeps what loses.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ovfs.remote import posix
from ovfs.remote.file import PAGE, SEGMENT, SMALL, File
from ovfs.remote.node import Directory, Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ovfs.remote.journal import JournalEntry
    from ovfs.remote.pending import Pending
    from ovfs.remote.share import Share

log = logging.getLogger(__name__)


def recover(share: Share, pending: Pending) -> int:
    """Put what dead daemons of this share owed into the queue; returns how many entries."""
    entries = share.store.journal.entries()
    replaced = {entry.replaces: entry.serial for entry in entries}
    for entry in entries:
        if entry.serial < replaced.get(entry.file_id, -1):  # it died just before it removed it
            share.store.journal.remove(entry.file_id)
            share.cache.drop_writes(entry.file_id)
            continue
        try:
            node = _node(share, entry)
            if entry.kind == "file":
                _file(share, node, entry)
            pending.restore(node, entry)
            _publish(share, node)
        except (OSError, ValueError) as error:
            # Written this way by a kill between the bytes' move to "conflicts" and the entry's end.
            log.error("what was owed of %s cannot be taken up: %s", entry.key, error)  # noqa: TRY400
    if entries:
        log.info("%d uploads of an earlier run go on", len(entries))
    return len(entries)


def _node(share: Share, entry: JournalEntry) -> Node:
    *parents, name = entry.key.removesuffix("/").split("/")
    directory = share.tree.root
    for segment in parents:
        child = directory.children.get(segment)
        if not isinstance(child, Directory):
            child = share.tree.add(directory, segment, _attributes(share, {}, is_dir=True))
            child.stored = True
        assert isinstance(child, Directory)  # noqa: S101  by its mode
        directory = child
    is_dir = entry.kind == "dir"
    attributes = _attributes(share, entry.meta, is_dir=is_dir)
    node = directory.children.get(name)
    if node is not None and node.is_local and not is_dir:
        node = share.tree.add_unnamed(directory, name, attributes)
    elif node is None or node.is_dir != is_dir:
        node = share.tree.add(directory, name, attributes)
    elif node.file is not None:
        node.file.lose()
    node.posix = attributes
    node.learnt = True
    node.dirty = True
    node.stored = not entry.if_none
    node.etag = entry.base_etag
    node.size = entry.base_size
    return node


def _publish(share: Share, node: Node) -> None:
    """A guest that is there already looks again."""
    share.mailbox.set_attr(node.ino, node.attr(), 0.0)
    directory = node.parent
    while directory is not None:
        share.mailbox.drop_names(directory.ino)
        directory = directory.parent


def _attributes(share: Share, meta: dict[str, str], *, is_dir: bool) -> posix.Posix:
    return posix.from_meta(meta, is_dir=is_dir, changed_ns=0, defaults=share.settings.defaults)


def _file(share: Share, node: Node, entry: JournalEntry) -> None:
    file = File(share, node, new=entry.base_size == 0)
    file.mark = entry.mark or file.mark
    node.file = file
    paths = share.cache.writes_of(entry.file_id)
    if entry.size > 0 and not paths and not entry.base_size:
        raise ValueError("its bytes are not there")
    file.write_id = entry.file_id
    for index, path in sorted(paths.items()):
        base = index * SEGMENT
        file.add_write_segments(base, base + 1)
        for offset, data in _written(path):
            file.content.write(base + offset, data)
    file.content.truncate(entry.size)


def _written(path: Path) -> Iterator[tuple[int, bytes]]:
    """The pages that were written to a sparse file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end, at = os.fstat(fd).st_size, 0
        while at < end:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole from here on
                return
            stop = os.lseek(fd, at, os.SEEK_HOLE)
            at -= at % PAGE
            while at < stop:
                data = os.pread(fd, min(SMALL, stop - at), at)
                yield at, data
                at += len(data)
    finally:
        os.close(fd)
