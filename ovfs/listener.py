# SPDX-License-Identifier: Apache-2.0
"""The socket that VMMs connect to: made at a path, or handed over ready by whoever started us.

What is at the path already decides: nothing, or a socket that nobody listens on (a daemon died), is
replaced; a live one, or anything that is no socket, is an error and stays. Looking and binding are
two steps, so an exclusive ``flock`` on the directory makes them one among ovfs daemons; the kernel
drops it with its holder, and unlike a lock file it leaves nothing behind.

The socket is bound with no more permissions than it ends with, gets its group, then its mode, and
only then listens: at no instant can somebody connect who may not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ovfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 16  # VMMs that may wait, since one is served at a time
_LOCK_WAIT = 5.0  # seconds; whoever holds the lock needs milliseconds for its two steps
_MAX_PATH = 107  # bytes, sockaddr_un


class Listener:
    """A listening socket, and the path to remove at the end if it is ours."""

    def __init__(self, sock: socket.socket, path: Path | None, identity: tuple[int, int]) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._path = path
        self._identity = identity

    @property
    def name(self) -> str:
        """What to call it in the log."""
        return f"descriptor {self.sock.fileno()}" if self._path is None else str(self._path)

    def close(self) -> None:
        """Stop listening and remove the path, unless somebody else's socket is there by now."""
        if self.sock.fileno() < 0:
            return
        if self._path is not None:
            with contextlib.suppress(OSError, UsageError), _locked(self._path.parent):
                if _identity(os.lstat(self._path)) == self._identity:
                    self._path.unlink()
        self.sock.close()


def adopt(fd: int) -> Listener:
    """Return the listening socket that was passed in as a descriptor.

    Raises:
        UsageError: the descriptor is none that VMMs could connect to.
    """
    hint = "pass a listening UNIX stream socket"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        raise UsageError(f"--fd {fd}: no such descriptor is open; {hint}") from None
    if not is_socket:
        raise UsageError(f"--fd {fd} is not a socket; {hint}")
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (sock.family, sock.type, listens) != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        sock.detach()
        raise UsageError(f"--fd {fd} is a socket of another kind, or does not listen; {hint}")
    return Listener(sock, None, (0, 0))


def listen(path_text: str, mode: int, group: str | None) -> Listener:
    """Return a socket that listens at a path.

    Raises:
        UsageError: something is there that must stay, or the path or group cannot be had.
    """
    path = Path(path_text)
    if len(os.fsencode(path)) > _MAX_PATH:
        raise UsageError(f"socket path {path} is longer than {_MAX_PATH} bytes: use a shorter one")
    gid = -1 if group is None else _group_id(group)
    with _locked(path.parent):
        _clear(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            return _bind(sock, path, mode, gid)
        except BaseException:
            sock.close()
            raise


def _bind(sock: socket.socket, path: Path, mode: int, gid: int) -> Listener:
    old_umask = os.umask(0o777 & ~mode if gid < 0 else 0o177)
    try:
        sock.bind(os.fspath(path))
    except OSError as error:
        raise UsageError(f"cannot make the socket {path}: {error.strerror}") from error
    finally:
        os.umask(old_umask)
    try:
        # By descriptor: whoever may write to the directory could swap the path under our feet.
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            itself = f"/proc/self/fd/{fd}"
            os.chown(itself, -1, gid)
            Path(itself).chmod(mode)
            identity = _identity(os.fstat(fd))
        finally:
            os.close(fd)
        sock.listen(BACKLOG)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UsageError(
            f"cannot give the socket {path} its group and mode: {error.strerror}"
        ) from error
    return Listener(sock, path, identity)


def _clear(path: Path) -> None:
    """Remove a dead socket from the path; raise for anything else that is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot look at socket path {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise UsageError(f"{path} exists and is not a socket: remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(os.fspath(path))
    if result == errno.ECONNREFUSED:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"cannot replace the dead socket {path}: {error.strerror}") from error
    elif result in {errno.EACCES, errno.EPERM}:
        raise UsageError(f"{path} is a socket of somebody else: choose another path")
    elif result != errno.ENOENT:  # connected, or its backlog is full, or it is of another type
        raise UsageError(f"{path} is in use by another process: stop that or choose another path")


def _group_id(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"--socket-group: there is no group {group}") from None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock that ovfs daemons take to look at a directory's sockets and change them."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"cannot open the socket's directory {directory}: {error.strerror}"
        ) from error
    try:
        _lock(fd, directory)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, directory: Path) -> None:
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UsageError(f"{directory} stays locked (flock) by another process") from None
            time.sleep(0.01)
        else:
            return


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
