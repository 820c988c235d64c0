# SPDX-License-Identifier: Apache-2.0
"""Which multipart uploads are under way, so that a later daemon can clean up after a killed one.

One small file per upload in a directory that daemons share. Its maker holds a lock on it
(``flock``, which goes with the process), so a file that can be locked belongs to nobody any more.
Nothing here is needed for the data: a file that is lost means parts that stay on the service.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAX_SIZE = 16 * 1024


@dataclass(slots=True)
class Noted:
    """One upload: whose key it is and when it was begun; open, and so locked, until it is over."""

    path: Path
    fd: int
    key: str
    since: float
    until: float

    def forget(self) -> None:
        """Take the note away: nothing of the upload is left on the service."""
        self.path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let go of the note, for whoever comes later."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class UploadLog:
    """The notes of one service's uploads; a directory that cannot be written to keeps none."""

    def __init__(self, directory: Path, identity: str) -> None:
        self._directory = directory
        self._identity = identity

    def note(self, key: str) -> Noted | None:
        """Write down that an upload begins."""
        since = time.time()
        text = json.dumps({"identity": self._identity, "key": key, "since": since})
        path = self._directory / f"{os.getpid()}-{secrets.token_hex(8)}"
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(fd, text.encode())
            return Noted(path, fd, key, since, since)
        return None

    def orphans(self) -> Iterator[Noted]:
        """Yield the uploads of daemons that are gone; each is the caller's until it lets go."""
        with contextlib.suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                found = self._take(path)
                if found is not None:
                    yield found

    def _take(self, path: Path) -> Noted | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            told = json.loads(os.read(fd, _MAX_SIZE))
            if told["identity"] == self._identity and status.st_nlink:
                # The upload was begun at its first part; its daemon died some time after that.
                until = time.time()
                return Noted(path, fd, str(told["key"]), float(told["since"]), until)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # locked by a daemon that lives, or cut short by one that died
        os.close(fd)
        return None
