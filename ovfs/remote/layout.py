# SPDX-License-Identifier: Apache-2.0
"""Where things lie in a cache directory, and what its files are called.

    v1/segments/xx/HASH.N        64 MiB of one version of an object; shared, evicted (segment.py)
    v1/writes/FILEID.N           64 MiB of a file being written; private, never evicted (writes.py)
    v1/writes/FILEID.json        a journal entry: what is still to be stored (journal.py)
    v1/writes/FILEID.owner       a link that names who took over the file of a dead daemon
    v1/conflicts/NAME            what the loser of a race had written
    v1/uploads/NOTE              a multipart upload under way (upload_log.py)
    v1/store.sqlite              user metadata of object versions (store.py)
    v1/daemons/TOKEN.lock .sock  who is at work here (presence.py), how to talk to it (control.py)

HASH names service, key and version; FILEID is a daemon's TOKEN and a number. The directory is the
daemons' own: nothing else is expected below ``v1``, and nobody else may look.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from ovfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT = 1 << 26  # bytes of an object in one file; the data plane counts in the same units
BLOCK = 1 << 16  # what is fetched and checked as a whole
PAGE = 1 << 12

FILE_ID = re.compile(r"[0-9a-z]+-[0-9a-f]{8}-[0-9a-f]+")
_SEGMENT_NAME = re.compile(r"([0-9a-f]{64})\.(0|[1-9][0-9]{0,8})")
_WRITE_NAME = re.compile(rf"({FILE_ID.pattern})\.(0|[1-9][0-9]{{0,8}}|json|owner)")


class Layout:
    """The paths of one cache directory."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir / "v1"
        self.segments = self.root / "segments"
        self.writes = self.root / "writes"
        self.conflicts = self.root / "conflicts"
        self.daemons = self.root / "daemons"
        self.uploads = self.root / "uploads"
        self.store = self.root / "store.sqlite"
        self._writes = f"{self.writes}/"

    def make(self) -> None:
        """Make what is missing.

        Raises:
            UsageError: the directory cannot be used.
        """
        try:
            self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            parts = (self.segments, self.writes, self.conflicts, self.daemons, self.uploads)
            for path in (self.root, *parts):
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot use the cache directory {self.root.parent}: {error.strerror}"
            ) from error

    def segment(self, key_hash: str, index: int) -> Path:
        """Return where a clean segment lies."""
        return self.segments / key_hash[:2] / f"{key_hash}.{index}"

    def write(self, file_id: str, suffix: int | str) -> Path:
        """Return where a write segment (a number), ``json`` or ``owner`` lies."""
        return self.writes / f"{file_id}.{suffix}"

    def write_at(self, file_id: str, suffix: int | str) -> str:
        """Return the same as text, for what is done for each file."""
        return f"{self._writes}{file_id}.{suffix}"


def hash_key(identity: str, key: str, version: str) -> str:
    """Return the name of one version of an object; unlike the key, it is good as a file name."""
    text = f"{identity}\0{key}\0{version}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def parse_segment(name: str) -> tuple[str, int] | None:
    """Return hash and index of a clean segment's file name."""
    match = _SEGMENT_NAME.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def parse_write(name: str) -> tuple[str, str] | None:
    """Return file id and suffix of a name in ``writes``."""
    match = _WRITE_NAME.fullmatch(name)
    return (match[1], match[2]) if match else None


def token_of(file_id: str) -> str:
    """Return the daemon that made a file id."""
    return file_id.rpartition("-")[0]


def round_up(size: int, unit: int) -> int:
    """Return the next multiple of a power of two."""
    return (size + unit - 1) & ~(unit - 1)


def segment_length(size: int, index: int) -> int:
    """Return how many bytes of an object of this size lie in its segment ``index``."""
    return max(0, min(SEGMENT, size - index * SEGMENT))
