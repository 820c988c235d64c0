# SPDX-License-Identifier: Apache-2.0
"""A directory on a given file system, a daemon that serves it, and a guest on its queues."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.operations.scene import Scene
from tests.vmm import Vmm
from tests.vmm.daemon import Daemon
from tests.vmm.fuse_flags import LINUX_6_12, Init

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.vmm import FuseClient

#: Where scratch directories go, by the name of a file system.
PLACES: Final = {"disk": None, "tmpfs": "/dev/shm"}

#: What most tests want: all that the host has reaches the guest, and nothing is kept by time, so
#: that a name which is not there is ENOENT and not a cached absence.
PLAIN: Final = ("--entry-timeout", "0", "--xattr", "--posix-lock", "--flock", "--allow-direct-io")


class Guest:
    """One VMM on a daemon's socket, two request queues, INIT done."""

    def __init__(
        self, daemon: Daemon, *, queues: int = 2, flags: Init = LINUX_6_12, init: bool = True
    ) -> None:
        self.vmm = Vmm.connect(daemon.socket, queues=queues)
        self.fs: FuseClient = self.vmm.fuse()
        if init:
            self.fs.init(flags)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self.vmm.close()


class Share:
    """A served directory.

    Args:
        place: A key of PLACES.
        options: The daemon's.
        flags: What INIT offers.
        directory: Serve this one instead of a fresh one.
        env: Added to the daemon's environment.
        command: How the daemon is started, if not as this process starts it.

    Attributes:
        work: A scratch directory: `root` is in it, and the twins of scenes.
        root: What is served.
        fs: The guest's requests.
    """

    def __init__(
        self,
        place: str = "tmpfs",
        options: Sequence[str] = PLAIN,
        *,
        flags: Init = LINUX_6_12,
        directory: Path | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self.place = place
        self.flags = flags
        self.work = Path(tempfile.mkdtemp(prefix="ovfs-ops-", dir=PLACES[place]))
        self._stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.work.chmod(0o755)
        self.root = directory or self.work / "root"
        self.root.mkdir(exist_ok=True)
        try:
            self.daemon = self._stack.enter_context(
                Daemon.start(
                    self.root, options=[*options, "--queues", "2"], env=env, command=command
                )
            )
            self.guest = self._stack.enter_context(Guest(self.daemon, flags=flags))
        except BaseException:
            self._stack.close()
            raise

    @property
    def fs(self) -> FuseClient:
        """The guest's requests."""
        return self.guest.fs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def reconnect(self, *, init: bool = True) -> FuseClient:
        """Lets the VMM go and comes back as another one: a session that knows nothing."""
        self.guest.close()
        self.guest = self._stack.enter_context(Guest(self.daemon, flags=self.flags, init=init))
        return self.guest.fs

    def scene(self) -> Scene:
        """A fresh, filled directory below the root, with a twin outside of it."""
        number = next(self._numbers)
        name = b"scene-%d" % number
        return Scene(self, name, os.fsencode(self.root) + b"/" + name, self._twin(number))

    def _twin(self, number: int) -> bytes:
        return os.fsencode(self.work / f"twin-{number}")
