# SPDX-License-Identifier: Apache-2.0
"""Opcodes about names and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from tests.vmm import fuse_pack as pack
from tests.vmm import fuse_wire as wire
from tests.vmm.fuse_flags import GETATTR_FH, Init, Opcode, Setattr
from tests.vmm.requests import How, Requests, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRY = wire.Entry.wire_size()
ATTR = wire.AttrOut.wire_size()
PATH_MAX = 4096


class NameOps(Requests):
    """Lookup, attributes, making, moving and removing names, extended attributes."""

    def create_extension(
        self, *, groups: Sequence[int] = (), contexts: Sequence[tuple[bytes, bytes]] = ()
    ) -> bytes:
        """What a guest appends to a creating request, as far as INIT negotiated it.

        Args:
            groups: The one supplementary group that a guest sends (more, for those who lie).
            contexts: (attribute, label) pairs; a guest without LSM sends the empty list.
        """
        extension = b""
        if self.init_flags & Init.SECURITY_CTX:
            extension += pack.pack_security_context(list(contexts))
        if groups and self.init_flags & Init.CREATE_SUPP_GROUP:
            extension += pack.pack_groups(list(groups))
        return extension

    def creating(self, how: How, groups: Sequence[int]) -> How:
        """The keywords of a creating request, with its extension unless the caller gave one."""
        return {"extension": self.create_extension(groups=groups), **how}

    def _entry(self, opcode: Opcode, nodeid: int, args: bytes, how: How) -> wire.Entry:
        return wire.Entry.unpack(self.exact(opcode, nodeid, args, ENTRY, **how))

    def lookup(self, parent: int, name: bytes, **how: Unpack[How]) -> wire.Entry:
        """LOOKUP. A negative entry that the daemon lets the guest cache has node id 0."""
        return self._entry(Opcode.LOOKUP, parent, name + b"\0", how)

    def getattr(self, nodeid: int, fh: int | None = None, **how: Unpack[How]) -> wire.AttrOut:
        """GETATTR, through a handle where one is given."""
        flags = 0 if fh is None else GETATTR_FH
        args = wire.GetattrIn(flags, fh or 0).pack()
        return wire.AttrOut.unpack(self.exact(Opcode.GETATTR, nodeid, args, ATTR, **how))

    def statx(
        self,
        nodeid: int,
        fh: int | None = None,
        *,
        mask: int = 0xFFF,
        flags: int = 0,
        **how: Unpack[How],
    ) -> wire.StatxOut:
        """STATX."""
        args = wire.StatxIn(0 if fh is None else GETATTR_FH, fh or 0, flags, mask).pack()
        size = wire.StatxOut.wire_size()
        return wire.StatxOut.unpack(self.exact(Opcode.STATX, nodeid, args, size, **how))

    def setattr(
        self,
        nodeid: int,
        *,
        mode: int | None = None,
        owner: int | None = None,
        group: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
        fh: int | None = None,
        lock_owner: int | None = None,
        valid: int = 0,
        **how: Unpack[How],
    ) -> wire.AttrOut:
        """SETATTR of what is given.

        Args:
            nodeid: The node.
            mode: Permission bits.
            owner: New uid (`uid` is the caller's).
            group: New gid.
            size: Truncate or extend.
            atime_ns: Nanoseconds since the epoch.
            mtime_ns: The same.
            ctime_ns: The same; only with a writeback cache.
            fh: Through this handle.
            lock_owner: Of mandatory locks.
            valid: Further bits of Setattr: ATIME_NOW, MTIME_NOW, KILL_SUIDGID.
            **how: See How.
        """
        given = {
            Setattr.MODE: mode,
            Setattr.UID: owner,
            Setattr.GID: group,
            Setattr.SIZE: size,
            Setattr.ATIME: atime_ns,
            Setattr.MTIME: mtime_ns,
            Setattr.CTIME: ctime_ns,
            Setattr.FH: fh,
            Setattr.LOCKOWNER: lock_owner,
        }
        for bit, value in given.items():
            if value is not None:
                valid |= bit
        atime, mtime, ctime = (divmod(t or 0, 10**9) for t in (atime_ns, mtime_ns, ctime_ns))
        args = wire.SetattrIn(
            valid=valid,
            fh=fh or 0,
            size=size or 0,
            lock_owner=lock_owner or 0,
            atime=atime[0] & 0xFFFF_FFFF_FFFF_FFFF,
            mtime=mtime[0] & 0xFFFF_FFFF_FFFF_FFFF,
            ctime=ctime[0] & 0xFFFF_FFFF_FFFF_FFFF,
            atimensec=atime[1],
            mtimensec=mtime[1],
            ctimensec=ctime[1],
            mode=mode or 0,
            uid=owner or 0,
            gid=group or 0,
        ).pack()
        return wire.AttrOut.unpack(self.exact(Opcode.SETATTR, nodeid, args, ATTR, **how))

    def readlink(self, nodeid: int, **how: Unpack[How]) -> bytes:
        """READLINK."""
        return self.request(Opcode.READLINK, nodeid, b"", PATH_MAX, **how)

    def symlink(
        self,
        parent: int,
        name: bytes,
        target: bytes,
        *,
        groups: Sequence[int] = (),
        **how: Unpack[How],
    ) -> wire.Entry:
        """SYMLINK."""
        args = name + b"\0" + target + b"\0"
        return self._entry(Opcode.SYMLINK, parent, args, self.creating(how, groups))

    def mknod(
        self,
        parent: int,
        name: bytes,
        mode: int,
        *,
        rdev: int = 0,
        umask: int = 0o022,
        groups: Sequence[int] = (),
        **how: Unpack[How],
    ) -> wire.Entry:
        """MKNOD; mode with the type's bits."""
        args = wire.MknodIn(mode, rdev, umask).pack() + name + b"\0"
        return self._entry(Opcode.MKNOD, parent, args, self.creating(how, groups))

    def mkdir(
        self,
        parent: int,
        name: bytes,
        mode: int = 0o755,
        *,
        umask: int = 0o022,
        groups: Sequence[int] = (),
        **how: Unpack[How],
    ) -> wire.Entry:
        """MKDIR."""
        args = wire.MkdirIn(mode, umask).pack() + name + b"\0"
        return self._entry(Opcode.MKDIR, parent, args, self.creating(how, groups))

    def unlink(self, parent: int, name: bytes, **how: Unpack[How]) -> None:
        """UNLINK."""
        self.exact(Opcode.UNLINK, parent, name + b"\0", 0, **how)

    def rmdir(self, parent: int, name: bytes, **how: Unpack[How]) -> None:
        """RMDIR."""
        self.exact(Opcode.RMDIR, parent, name + b"\0", 0, **how)

    def rename(
        self, parent: int, name: bytes, newparent: int, newname: bytes, **how: Unpack[How]
    ) -> None:
        """RENAME."""
        args = wire.RenameIn(newparent).pack() + name + b"\0" + newname + b"\0"
        self.exact(Opcode.RENAME, parent, args, 0, **how)

    def rename2(
        self,
        parent: int,
        name: bytes,
        newparent: int,
        newname: bytes,
        flags: int = 0,
        **how: Unpack[How],
    ) -> None:
        """RENAME2 with renameat2(2)'s flags."""
        args = wire.Rename2In(newparent, flags).pack() + name + b"\0" + newname + b"\0"
        self.exact(Opcode.RENAME2, parent, args, 0, **how)

    def link(self, nodeid: int, newparent: int, newname: bytes, **how: Unpack[How]) -> wire.Entry:
        """LINK; the reply counts as a lookup."""
        args = wire.LinkIn(nodeid).pack() + newname + b"\0"
        return self._entry(Opcode.LINK, newparent, args, how)

    def access(self, nodeid: int, mask: int, **how: Unpack[How]) -> None:
        """ACCESS."""
        self.exact(Opcode.ACCESS, nodeid, wire.AccessIn(mask).pack(), 0, **how)

    def setxattr(
        self,
        nodeid: int,
        name: bytes,
        value: bytes,
        flags: int = 0,
        *,
        setxattr_flags: int = 0,
        **how: Unpack[How],
    ) -> None:
        """SETXATTR, in the short form unless SETXATTR_EXT is negotiated."""
        head = wire.SetxattrIn(len(value), flags, setxattr_flags).pack()
        if not self.init_flags & Init.SETXATTR_EXT:
            head = head[:8]
        self.exact(Opcode.SETXATTR, nodeid, head + name + b"\0" + value, 0, **how)

    def _xattr(self, opcode: Opcode, nodeid: int, size: int, tail: bytes, how: How) -> bytes:
        args = wire.GetxattrIn(size).pack() + tail
        if size == 0:
            raise WireError("a size of 0 asks for the size: use the _size method")
        return self.request(opcode, nodeid, args, size, **how)

    def _xattr_size(self, opcode: Opcode, nodeid: int, tail: bytes, how: How) -> int:
        args = wire.GetxattrIn(0).pack() + tail
        data = self.exact(opcode, nodeid, args, wire.GetxattrIn.wire_size(), **how)
        return wire.GetxattrIn.unpack(data).size

    def getxattr(self, nodeid: int, name: bytes, size: int = 65536, **how: Unpack[How]) -> bytes:
        """GETXATTR into a buffer of that size."""
        return self._xattr(Opcode.GETXATTR, nodeid, size, name + b"\0", how)

    def getxattr_size(self, nodeid: int, name: bytes, **how: Unpack[How]) -> int:
        """GETXATTR with size 0: how long the value is."""
        return self._xattr_size(Opcode.GETXATTR, nodeid, name + b"\0", how)

    def listxattr(self, nodeid: int, size: int = 65536, **how: Unpack[How]) -> list[bytes]:
        """LISTXATTR into a buffer of that size."""
        data = self._xattr(Opcode.LISTXATTR, nodeid, size, b"", how)
        if data and not data.endswith(b"\0"):
            raise WireError("LISTXATTR: the list does not end with a NUL")
        return data.split(b"\0")[:-1]

    def listxattr_size(self, nodeid: int, **how: Unpack[How]) -> int:
        """LISTXATTR with size 0: how long the list is."""
        return self._xattr_size(Opcode.LISTXATTR, nodeid, b"", how)

    def removexattr(self, nodeid: int, name: bytes, **how: Unpack[How]) -> None:
        """REMOVEXATTR."""
        self.exact(Opcode.REMOVEXATTR, nodeid, name + b"\0", 0, **how)
