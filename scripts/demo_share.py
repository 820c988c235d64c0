# SPDX-License-Identifier: Apache-2.0
"""What the demonstrations serve to the guest, as it looks from the other side.

A share is filled before the guest comes and looked at while it works: a directory by the host, a
bucket by another client of the storage service.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.guest import Daemon  # noqa: E402  (path first)

MIB = 1 << 20


class Share(ABC):
    """What the guest has on /mnt.

    Attributes:
        side: Who looks from the other side.
        place: What the guest works in.
    """

    side: str
    place: str

    @abstractmethod
    def daemon(self) -> Daemon:
        """The daemon that serves it, not yet started."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Stores a file."""

    @abstractmethod
    def make_directory(self, name: str) -> None:
        """Makes a directory."""

    @abstractmethod
    def make_link(self, name: str, target: str) -> None:
        """Makes a symbolic link."""

    @abstractmethod
    def names(self) -> set[str]:
        """The names at the top."""

    @abstractmethod
    def get(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def copy_out(self, name: str, target: Path) -> Path:
        """A directory as the host's programs can read it: `target`, or where it is already."""

    def sha256(self, name: str) -> str:
        """The checksum of a file, as sha256sum prints it."""
        return hashlib.sha256(self.get(name)).hexdigest()

    def fill(self) -> None:
        """Puts in what the guest is to find."""
        self.put("greeting.txt", b"hello, guest\n")
        self.put("random.bin", os.urandom(8 * MIB))
        self.put("tree.tar", archive())
        self.make_directory("directory")
        self.make_link("link", "greeting.txt")

    def check_repository(self, name: str) -> str:
        """What git finds wrong with a repository, seen from this side; empty if nothing."""
        with tempfile.TemporaryDirectory() as scratch:
            repository = self.copy_out(name, Path(scratch, "repository"))
            command = ["git", "-c", "safe.directory=*", "-C", str(repository), "fsck", "--full"]
            checked = subprocess.run(command, capture_output=True, check=False)
        return "" if checked.returncode == 0 else checked.stderr.decode() or "it failed"


def archive() -> bytes:
    """A tar archive of this project's files."""
    parts = [part for part in ("ovfs", "c", "tests", "scripts") if (ROOT / part).is_dir()]
    command = [
        "tar",
        "-C",
        str(ROOT),
        "--exclude=*.so",
        "--exclude=__pycache__",
        "-cf",
        "-",
        *parts,
    ]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


class Directory(Share):
    """A directory of this host.

    Args:
        scratch: Where it is made, and the daemon's socket.
    """

    side = "the host"
    place = "the directory"

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._path = scratch / "share"
        self._path.mkdir()

    def daemon(self) -> Daemon:
        """The daemon that serves it, not yet started."""
        return Daemon(self._path, self._scratch)

    def put(self, name: str, data: bytes) -> None:
        """Stores a file."""
        (self._path / name).write_bytes(data)

    def make_directory(self, name: str) -> None:
        """Makes a directory."""
        (self._path / name).mkdir()

    def make_link(self, name: str, target: str) -> None:
        """Makes a symbolic link."""
        (self._path / name).symlink_to(target)

    def names(self) -> set[str]:
        """The names at the top."""
        return {entry.name for entry in self._path.iterdir()}

    def get(self, name: str) -> bytes:
        """The content of a file."""
        return (self._path / name).read_bytes()

    def copy_out(self, name: str, target: Path) -> Path:  # noqa: ARG002  (it is there already)
        """Where the directory is."""
        return self._path / name
