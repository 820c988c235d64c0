# SPDX-License-Identifier: Apache-2.0
"""Listings: one call for a directory, whoever asks; one for many small directories side by side.

A tree like git's objects has hundreds of directories with a few names each, and every one of them
would be listed again once a second while somebody works in it. When several children of one
directory are listed within the validity, everything below that directory is listed instead: what
comes in one answer is sorted into its directories. Where that turns out to be too much, it is not
tried again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ovfs.remote.keys import is_reachable
from ovfs.remote.node import Directory, valid_name
from ovfs.remote.objects import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ovfs.remote.share import Share

_SIBLINGS = 3  # directories listed one by one before their parent is listed with all below it
_BELOW_MAX = 4_000  # objects


class Found:
    """What a listing tells of one directory.

    Attributes:
        entries: what each name stands for; a directory wins over a file of the same name.
        skipped: keys that cannot be names.
        marker: the directory has a marker object.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.entries: dict[str, ObjectInfo] = {}
        self.skipped: list[str] = []
        self.marker = False

    def add(self, info: ObjectInfo) -> None:
        """Take one object in: the marker itself, or something directly below it."""
        if info.key == self.prefix:
            self.marker = True
            return
        name = info.key[len(self.prefix) :].removesuffix("/")
        if not valid_name(name) or not is_reachable(info.key):
            self.skipped.append(info.key)
            return
        before = self.entries.get(name)
        if before is not None and before.is_dir != info.is_dir:
            self.skipped.append(before.key if info.is_dir else info.key)
            if not info.is_dir:
                return
        self.entries[name] = info


class Listings:
    """The listings of one share that are under way.

    Args:
        share: Whose.
        take: Is given what was found of a directory, and when (monotonic) the call began.
    """

    def __init__(self, share: Share, take: Callable[[Directory, Found, float], None]) -> None:
        self._share = share
        self._take = take
        self._tasks: dict[tuple[int, bool], asyncio.Task[None]] = {}

    async def list(self, directory: Directory) -> None:
        """List a directory, alone or with its neighbours."""
        parent = directory.parent
        if parent is not None and self._counts(parent):
            began = time.monotonic()
            await asyncio.shield(self._start(parent, below=True))
            if directory.listed_at >= began or directory.removed:
                return
        await asyncio.shield(self.start(directory))

    def running(self, directory: Directory) -> asyncio.Task[None] | None:
        """Return the listing of a directory that is under way."""
        return self._tasks.get((directory.ino, False))

    def start(self, directory: Directory) -> asyncio.Task[None]:
        """Begin to list a directory, unless that is under way."""
        return self._start(directory, below=False)

    def _start(self, directory: Directory, *, below: bool) -> asyncio.Task[None]:
        task = self._tasks.get((directory.ino, below))
        if task is None:
            work: Coroutine[None, None, None]
            work = self._list_below(directory) if below else self._list_one(directory)
            task = self._share.spawn(work, f"listing of {directory.prefix or '/'}")
            self._tasks[directory.ino, below] = task
            task.add_done_callback(lambda _: self._tasks.pop((directory.ino, below), None))
        return task

    def _counts(self, parent: Directory) -> bool:
        """Count a listing of a child; whether it is better to list all that is below."""
        if parent.wide or not self._share.service.can.list_recursive:
            return False
        now = time.monotonic()
        if now - parent.below_since > max(self._share.settings.validity, 1.0):
            parent.below_since, parent.below = now, 0
        parent.below += 1
        return parent.below > _SIBLINGS

    async def _list_one(self, directory: Directory) -> None:
        began = time.monotonic()
        found = Found(directory.prefix)
        async for info in self._share.service.list(directory.prefix, with_self=True):
            found.add(info)
        self._take(directory, found, began)

    async def _list_below(self, top: Directory) -> None:
        began = time.monotonic()
        prefix = top.prefix
        parts = {prefix: Found(prefix)}
        count = 0
        async for info in self._share.service.list(prefix, recursive=True, with_self=True):
            count += 1
            if count > _BELOW_MAX:
                top.wide = True
                return
            _sort_in(parts, prefix, info)
        for key in sorted(parts, key=len):  # parents first: they make the nodes
            directory = _find(top, key[len(prefix) :])
            if directory is not None:
                self._take(directory, parts[key], began)


def _sort_in(parts: dict[str, Found], prefix: str, info: ObjectInfo) -> None:
    """Give an object to its directory, and each directory on the way to the one above."""
    *above, last = info.key[len(prefix) :].split("/")
    for segment in above:
        key = f"{prefix}{segment}/"
        if key not in parts:
            parts[key] = Found(key)
            parts[prefix].add(ObjectInfo(key, is_dir=True))
        if key == info.key:
            parts[prefix].add(info)  # the marker, which tells more
        prefix = key
    if last or info.key == prefix:
        parts[prefix].add(info)


def _find(top: Directory, path: str) -> Directory | None:
    directory = top
    for segment in path.split("/")[:-1]:
        child = directory.children.get(segment)
        if not isinstance(child, Directory):
            return None
        directory = child
    return directory
