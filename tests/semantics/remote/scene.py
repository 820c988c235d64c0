# SPDX-License-Identifier: Apache-2.0
"""The directory of one test, seen by the guest by names and by the service as keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.semantics.remote.share import HeadLike, RemoteShare
    from tests.vmm import FuseClient


class Scene:
    """A fresh directory.

    Attributes:
        top: Its node id.
        prefix: What the keys in it start with.
    """

    def __init__(self, share: RemoteShare, name: str) -> None:
        self.share = share
        self.name = name
        self.prefix = f"{name}/"
        self.top = share.fs.mkdir(ROOT_ID, name.encode()).nodeid

    @property
    def fs(self) -> FuseClient:
        """The guest's requests."""
        return self.share.fs

    # The guest's side.

    def again(self) -> None:
        """Finds the directory again, in a new session."""
        self.top = self.fs.lookup(ROOT_ID, self.name.encode()).nodeid

    def node(self, name: str, top: int = 0) -> int:
        """The node id of a path, looked up name by name; 0 where there is none."""
        nodeid = top or self.top
        for part in name.split("/"):
            try:
                nodeid = self.fs.lookup(nodeid, os.fsencode(part)).nodeid
            except FileNotFoundError:
                return 0
            if nodeid == 0:
                return 0
        return nodeid

    def names(self, name: str = "") -> list[str]:
        """What a directory lists, sorted."""
        nodeid = self.node(name) if name else self.top
        return sorted(os.fsdecode(found) for found in self.fs.list_names(nodeid))

    def open(self, name: str, flags: int = os.O_RDWR) -> tuple[int, int]:
        """Node id and handle of a file that the guest opens."""
        nodeid = self.node(name)
        assert nodeid != 0, name
        return nodeid, self.fs.open(nodeid, flags).fh

    def make(self, name: str, flags: int = os.O_RDWR | os.O_CREAT) -> tuple[int, int]:
        """Node id and handle of a file that the guest makes."""
        above, _, last = name.rpartition("/")
        parent = self.node(above) if above else self.top
        entry, opened = self.fs.create(parent, os.fsencode(last), flags)
        return entry.nodeid, opened.fh

    def close(self, nodeid: int, fh: int) -> None:
        """What a program's close sends: FLUSH and RELEASE, also where the first fails."""
        try:
            self.fs.flush(nodeid, fh)
        finally:
            self.fs.release(nodeid, fh)

    def save(self, name: str, data: bytes) -> int:
        """Writes a file anew and closes it; returns its node id."""
        nodeid, fh = self.make(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.write(nodeid, fh, 0, data)
        self.close(nodeid, fh)
        return nodeid

    def write(self, nodeid: int, fh: int, offset: int, data: bytes) -> None:
        """Writes bytes of any number."""
        step = self.fs.max_write
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            assert self.fs.write(nodeid, fh, offset + at, piece) == len(piece)

    def read(self, nodeid: int, fh: int, offset: int = 0, size: int = 1 << 30) -> bytes:
        """Reads so many bytes, or to the end."""
        data = bytearray()
        while len(data) < size:
            want = min(1 << 20, size - len(data))
            piece = self.fs.read(nodeid, fh, offset + len(data), want)
            data += piece
            if len(piece) < want:
                break
        return bytes(data)

    def load(self, name: str) -> bytes:
        """Opens a file, reads it whole, closes it."""
        nodeid, fh = self.open(name, os.O_RDONLY)
        try:
            return self.read(nodeid, fh)
        finally:
            self.fs.release(nodeid, fh)

    # The service's side.

    def put(self, name: str, data: bytes, meta: Mapping[str, str] | None = None) -> str:
        """Stores an object elsewhere; returns its etag."""
        return self.share.objects.put(self.prefix + name, data, meta)

    def get(self, name: str) -> bytes:
        """An object's bytes."""
        return self.share.objects.get(self.prefix + name)

    def head(self, name: str) -> HeadLike | None:
        """What the service says of an object."""
        return self.share.objects.head(self.prefix + name)

    def meta(self, name: str) -> Mapping[str, str]:
        """An object's user metadata."""
        found = self.head(name)
        assert found is not None, name
        return found.meta

    def stored(self, name: str = "") -> list[str]:
        """All keys below, without the prefix; the directory's own marker is left out."""
        found = self.share.objects.keys(self.prefix + name)
        return [key[len(self.prefix) :] for key in found if key != self.prefix]

    def delete(self, name: str) -> None:
        """Removes an object elsewhere."""
        self.share.objects.delete(self.prefix + name)
