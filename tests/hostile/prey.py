# SPDX-License-Identifier: Apache-2.0
"""A share that is attacked: bait in it, a canary beside it, and the proof that both are well."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.vmm import ROOT_ID, Vmm
from tests.vmm.daemon import OVFS, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.vmm import FuseClient

#: Beyond this a file does not grow, whatever size a mangled request asks for.
MAX_FILE: Final = 16 << 20
OPTIONS: Final = ("--queues", "2", "--xattr", "--posix-lock", "--flock", "--log-level", "debug")


class Prey:
    """A daemon on `root`, which lies beside `outside` and holds links that lead there.

    Attributes:
        root: What is served.
        daemon: The one process that has to outlive it all.
    """

    def __init__(self, options: Sequence[str] = OPTIONS) -> None:
        self._stack = contextlib.ExitStack()
        self.work = Path(tempfile.mkdtemp(prefix="ovfs-hostile-", dir="/dev/shm"))
        self._stack.callback(self._remove)
        self.root = self.work / "root"
        self.outside = self.work / "outside"
        self.root.mkdir()
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(b"secret")
        (self.outside / "sub").mkdir()
        (self.root / "data").write_bytes(bytes(range(256)) * 256)
        (self.root / "sub").mkdir()
        (self.root / "sub" / "inner").write_bytes(b"inner")
        (self.root / "relative").symlink_to("../outside/secret")
        (self.root / "absolute").symlink_to(self.outside)
        (self.root / "up").symlink_to("..")
        self._canary = self._look()
        self._before = set(os.listdir(self.work))
        limit = ["prlimit", f"--fsize={MAX_FILE}"]
        self.daemon = self._stack.enter_context(
            Daemon.start(self.root, command=OVFS, options=options, prefix=limit)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def _remove(self) -> None:
        # A mangled request may have made files immutable.
        command = ["chattr", "-R", "-f", "-i", "-a", str(self.root)]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.work)

    def _look(self) -> list[tuple[str, os.stat_result, bytes]]:
        paths = [self.outside, self.outside / "secret", self.outside / "sub"]
        seen = []
        for path in paths:
            content = path.read_bytes() if path.is_file() else b" ".join(_names(path))
            status = path.stat()
            seen.append((path.name, (*status[:7], status.st_mtime_ns, status.st_ctime_ns), content))
        return seen  # type: ignore[return-value]

    def check_outside(self) -> None:
        """Nothing beside the root was touched."""
        assert self._look() == self._canary
        assert set(os.listdir(self.work)) == self._before

    @contextlib.contextmanager
    def guest(self, **how: Any) -> Iterator[tuple[Vmm, FuseClient]]:
        """A guest with two request queues that has mounted the share."""
        with Vmm.connect(self.daemon.socket, **{"queues": 2, **how}) as vmm:
            fs = vmm.fuse()
            fs.init()
            yield vmm, fs

    def check_serves(self, fs: FuseClient, **how: int) -> None:
        """This guest gets what the host has."""
        bait = self.root / "bait"
        if not bait.is_file():
            bait.write_bytes(b"bait" * 1000)
        content = bait.read_bytes()
        entry = fs.lookup(ROOT_ID, b"bait", **how)  # type: ignore[arg-type]
        assert fs.getattr(entry.nodeid, **how).attr.size == len(content)  # type: ignore[arg-type]
        fh = fs.open(entry.nodeid, **how).fh  # type: ignore[arg-type]
        assert fs.read(entry.nodeid, fh, 0, 8192, **how) == content[:8192]  # type: ignore[arg-type]
        fs.release(entry.nodeid, fh, **how)  # type: ignore[arg-type]

    def check_next(self) -> None:
        """The next guest is served, and nothing outside was touched."""
        with self.guest() as (_, fs):
            self.check_serves(fs)
        self.check_outside()


def _names(path: Path) -> list[bytes]:
    return sorted(os.listdir(os.fsencode(path)))
