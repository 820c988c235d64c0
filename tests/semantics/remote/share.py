# SPDX-License-Identifier: Apache-2.0
"""A daemon on a storage service's URL, a guest on its queues, and its cache directory."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from tests.operations.share import Guest
from tests.semantics.remote.scene import Scene
from tests.vmm.daemon import Daemon
from tests.vmm.fuse_flags import LINUX_6_12, Init

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.vmm import FuseClient

COMMAND: Final = (sys.executable, "-m", "ovfs", "{socket}", "{dir}")

#: Every look is fresh: for what is changed elsewhere while the guest watches.
FRESH: Final = ("--cache", "never")


class HeadLike(Protocol):
    """What a service says of an object."""

    @property
    def etag(self) -> str: ...
    @property
    def meta(self) -> Mapping[str, str]: ...


class Objects(Protocol):
    """The other side: the service without ovfs."""

    def put(
        self,
        key: str,
        data: bytes,
        meta: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> str: ...
    def get(self, key: str) -> bytes: ...
    def head(self, key: str) -> HeadLike | None: ...
    def keys(self, prefix: str = "") -> list[str]: ...
    def delete(self, key: str) -> None: ...


class RemoteShare:
    """A served URL.

    Args:
        url: What is served.
        objects: The same place, seen without ovfs.
        options: The daemon's.
        cache_dir: Use this one instead of a fresh one.
        flags: What INIT offers.
        queues: Request queues.

    Attributes:
        work: A scratch directory, for this share alone.
        cache_dir: What the daemon keeps on disk.
    """

    def __init__(
        self,
        url: str,
        objects: Objects | None = None,
        options: Sequence[str] = (),
        *,
        cache_dir: Path | None = None,
        flags: Init = LINUX_6_12,
        queues: int = 2,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._url = url
        self._objects = objects
        self._flags = flags
        self._queues = queues
        self.work = Path(tempfile.mkdtemp(prefix="ovfs-remote-"))
        self._stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.cache_dir = cache_dir or self.work / "cache"
        self._options = [*options, "--cache-dir", str(self.cache_dir), "--queues", str(queues)]
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> None:
        self.daemon = self._stack.enter_context(
            Daemon.start(self._url, command=COMMAND, options=self._options)
        )
        self.guest = self._stack.enter_context(
            Guest(self.daemon, queues=self._queues, flags=self._flags)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    @property
    def fs(self) -> FuseClient:
        """The guest's requests."""
        return self.guest.fs

    @property
    def objects(self) -> Objects:
        """The service without ovfs."""
        assert self._objects is not None
        return self._objects

    @property
    def url(self) -> str:
        """What is served."""
        return self._url

    def reconnect(self) -> FuseClient:
        """Lets the VMM go and comes back as another one: a session that knows nothing."""
        self.guest.close()
        self.guest = self._stack.enter_context(
            Guest(self.daemon, queues=self._queues, flags=self._flags)
        )
        return self.guest.fs

    def kill(self) -> None:
        """Kills the daemon as `kill -9` does."""
        self.guest.close()
        self.daemon.process.kill()
        self.daemon.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends the daemon; returns its exit code."""
        self.daemon.process.send_signal(number)
        code = self.daemon.wait(20.0)
        self.guest.close()
        return code

    def start_again(self, options: Sequence[str] | None = None) -> FuseClient:
        """Starts a daemon on the same URL and cache directory, and a guest."""
        if options is not None:
            tail = self._options[-4:]
            self._options = [*options, *tail]
        self._start()
        return self.fs

    def scene(self) -> Scene:
        """A fresh directory below the root."""
        return Scene(self, f"scene-{next(self._numbers)}")

    def log(self) -> str:
        """All that the daemon has logged."""
        return self.daemon.log(1 << 20)


def eventually(holds: Callable[[], object], timeout: float = 10.0) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"not after {timeout} s"
        time.sleep(0.02)
