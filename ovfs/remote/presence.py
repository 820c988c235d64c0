# SPDX-License-Identifier: Apache-2.0
"""Which daemons are at work on a cache directory.

Each holds an exclusive ``flock`` on its file in ``daemons`` for as long as it lives; the kernel
lets go of it however the process ends. A token is never used twice (process ids are: by another
process later, and by another container at the same time), so what a dead token left behind stays a
dead one's. A file gets its name only when it is locked: one that is not is a dead daemon's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ovfs.remote.layout import Layout


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """What a daemon tells of itself in its file."""

    token: str
    pid: int
    identity: str
    cache_size: int
    started_ns: int


class Presence:
    """This daemon's token, held until ``close``."""

    def __init__(self, layout: Layout, identity: str, cache_size: int) -> None:
        self._layout = layout
        self.token = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._path = layout.daemons / f"{self.token}.lock"
        info = DaemonInfo(self.token, os.getpid(), identity, cache_size, time.time_ns())
        temporary = self._path.with_suffix(".new")
        self._fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            os.write(self._fd, json.dumps(asdict(info)).encode())
            temporary.rename(self._path)
        except BaseException:
            os.close(self._fd)
            temporary.unlink(missing_ok=True)
            raise

    def alive(self, token: str) -> bool:
        """Whether that daemon, or this one, lives."""
        return token == self.token or alive(self._layout, token)

    def close(self) -> None:
        """Give the token up."""
        if self._fd < 0:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def remove_dead(self) -> None:
        """Remove the files of daemons that died."""
        for path in list(self._layout.daemons.iterdir()):
            if path.stem == self.token:
                continue
            if path.suffix == ".new":  # died in its first millisecond, or is in it
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > 60:
                        path.unlink()
            elif path.suffix in {".lock", ".sock"} and not alive(self._layout, path.stem):
                path.unlink(missing_ok=True)


def alive(layout: Layout, token: str) -> bool:
    """Whether a daemon lives. Several may ask at once: a shared lock is compatible with others."""
    fd = _open(layout.daemons / f"{token}.lock")
    if fd < 0:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def living(layout: Layout) -> list[DaemonInfo]:
    """Return the daemons that live, the oldest first."""
    found: list[DaemonInfo] = []
    for path in sorted(layout.daemons.glob("*.lock")):
        if alive(layout, path.stem):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append(DaemonInfo(**json.loads(path.read_bytes())))
    return sorted(found, key=lambda info: info.started_ns)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
