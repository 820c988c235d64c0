# SPDX-License-Identifier: Apache-2.0
"""What a directory tree is: all that the host can tell about it, as a value to compare."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Item:
    """One object of a tree. Times are left out: the twin's call comes later."""

    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    rdev: int
    content: bytes = b""
    xattrs: dict[str, bytes] = field(default_factory=dict)


def item(path: bytes) -> Item:
    """One object, itself and not where it points."""
    st = os.lstat(path)
    content = b""
    if stat.S_ISREG(st.st_mode) and st.st_size <= 1 << 20:
        with open(path, "rb") as file:
            content = file.read()
    elif stat.S_ISLNK(st.st_mode):
        content = os.readlink(path)
    # A directory's size and link count are its file system's own affair.
    is_dir = stat.S_ISDIR(st.st_mode)
    return Item(
        mode=st.st_mode,
        nlink=0 if is_dir else st.st_nlink,
        uid=st.st_uid,
        gid=st.st_gid,
        size=0 if is_dir else st.st_size,
        rdev=st.st_rdev,
        content=content,
        xattrs={
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        },
    )


def tree(top: bytes) -> dict[bytes, Item]:
    """All objects below a directory, and itself as b"", by their relative paths."""
    items = {b"": item(top)}
    for parent, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            items[os.path.relpath(path, top)] = item(path)
    return items
