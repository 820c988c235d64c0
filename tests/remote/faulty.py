# SPDX-License-Identifier: Apache-2.0
"""A share whose service is behind a fault proxy, and a guest that uses it by names."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

from tests.operations.share import Guest
from tests.services.bucket import Bucket
from tests.vmm import ROOT_ID
from tests.vmm.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.services.fault_proxy import FaultProxy
    from tests.services.seaweed import Credentials, SeaweedFS
    from tests.vmm import FuseClient, Vmm

#: Of the daemon's patience: a call that fails each time ends after 2 s, one that hangs after 2 s.
FACTOR: Final = 0.03
#: Every look at a name or at attributes asks the service.
FRESH: Final = ("--attr-timeout", "0", "--entry-timeout", "0")
COMMAND: Final = (sys.executable, "-m", "ovfs", "{socket}", "{dir}")


class FaultyShare:
    """A daemon on a prefix of a bucket, with a proxy between the two; a context manager.

    Args:
        service: The real server.
        proxy: In front of it; None: there is none.
        root: The prefix.
        options: The daemon's.
        factor: How much of its patience the daemon has; 1: it runs as it is.
        command: How else it is started, as Daemon.start takes it.
        cache_dir: Use this one instead of a fresh one.
        env: Added to the daemon's environment.
        credentials: Whose; the service's writer's without.

    Attributes:
        bucket: The objects, seen without proxy and daemon.
        cache_dir: What the daemon keeps on disk.
        vmm: Of the guest.
    """

    def __init__(
        self,
        service: SeaweedFS,
        proxy: FaultProxy | None,
        root: str,
        *options: str,
        factor: float = FACTOR,
        command: Sequence[str] | None = None,
        cache_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        impatient = ("-m", "tests.remote.impatient", str(factor), "{socket}", "{dir}")
        self._command = command or (COMMAND if factor == 1 else (sys.executable, *impatient))
        self._env = env
        self.bucket = Bucket(service, root)
        endpoint = (proxy or service).endpoint
        self.url = service.url(root=root, endpoint=endpoint, credentials=credentials)
        scratch = tempfile.mkdtemp(prefix="ovfs-faulty-")
        self._stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        self.cache_dir = cache_dir or Path(scratch, "cache")
        self._options = ["--log-level", "debug", "--queues", "2", *options]
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Starts a daemon on the URL and the cache directory, and a guest."""
        options = [*self._options, "--cache-dir", str(self.cache_dir)]
        self.daemon = self._stack.enter_context(
            Daemon.start(self.url, command=self._command, env=self._env, options=options)
        )
        self.connect()

    def connect(self) -> None:
        """Brings a guest, as another VMM does that finds the daemon running."""
        self._guest = self._stack.enter_context(Guest(self.daemon, queues=2))

    def disconnect(self) -> None:
        """Lets the VMM hang up."""
        self._guest.close()

    def kill(self) -> None:
        """Ends the daemon as `kill -9` does."""
        self._guest.close()
        self.daemon.process.kill()
        self.daemon.process.wait()

    @property
    def fs(self) -> FuseClient:
        """The guest's requests."""
        return self._guest.fs

    @property
    def vmm(self) -> Vmm:
        """The guest's machine."""
        return self._guest.vmm

    def log(self) -> str:
        """All that the daemon has logged."""
        return self.daemon.log(1 << 24)

    def conflicts(self) -> list[bytes]:
        """What losers of races had written."""
        return [path.read_bytes() for path in sorted((self.cache_dir / "v1/conflicts").iterdir())]

    def owed(self) -> int:
        """How many uploads the journal has."""
        return len(list((self.cache_dir / "v1/writes").glob("*.json")))

    # The guest's programs; names are in the root.

    def node(self, name: str) -> int:
        """Looks a name up; it must be there."""
        nodeid = self.fs.lookup(ROOT_ID, name.encode()).nodeid
        assert nodeid != 0, name
        return nodeid

    def open(self, name: str, flags: int = os.O_RDWR) -> tuple[int, int]:
        """Node id and handle of a file that is there."""
        nodeid = self.node(name)
        return nodeid, self.fs.open(nodeid, flags).fh

    def make(self, name: str, data: bytes = b"") -> tuple[int, int]:
        """Node id and handle of a file that the guest makes, or empties, and writes to."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        entry, opened = self.fs.create(ROOT_ID, name.encode(), flags)
        self.write(entry.nodeid, opened.fh, data)
        return entry.nodeid, opened.fh

    def write(self, nodeid: int, fh: int, data: bytes, offset: int = 0) -> None:
        """Writes bytes of any number."""
        step = self.fs.max_write
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            assert self.fs.write(nodeid, fh, offset + at, piece, timeout=30.0) == len(piece)

    def read(self, nodeid: int, fh: int) -> bytes:
        """Reads to the end."""
        data = bytearray()
        while piece := self.fs.read(nodeid, fh, len(data), 1 << 20, timeout=30.0):
            data += piece
        return bytes(data)

    def close(self, nodeid: int, fh: int, flags: int = os.O_RDWR) -> None:
        """FLUSH and RELEASE, as a close sends them; the second also where the first fails."""
        try:
            self.fs.flush(nodeid, fh, timeout=90.0)
        finally:
            self.fs.release(nodeid, fh, flags, timeout=90.0)

    def save(self, name: str, data: bytes) -> int:
        """Writes a file anew and closes it; returns its node id."""
        nodeid, fh = self.make(name, data)
        self.close(nodeid, fh)
        return nodeid

    def load(self, name: str) -> bytes:
        """Opens a file, reads it whole, closes it."""
        nodeid, fh = self.open(name, os.O_RDONLY)
        try:
            return self.read(nodeid, fh)
        finally:
            self.fs.release(nodeid, fh)

    def names(self) -> list[str]:
        """What `ls` shows."""
        return sorted(name.decode() for name in self.fs.list_names(ROOT_ID))


def fails_with(number: int, call: Callable[[], object]) -> None:
    """The call is answered with that errno."""
    with pytest.raises(OSError, match=r"^\[Errno ") as caught:
        call()
    assert caught.value.errno == number, caught.value


def eventually(holds: Callable[[], object], timeout: float = 15.0) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"not after {timeout} s"
        time.sleep(0.02)
