# SPDX-License-Identifier: Apache-2.0
"""A share with known content, a guest on it, and the proofs that both are well."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from tests.vmm import ROOT_ID, Vmm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.vmm import FuseClient, Pending
    from tests.vmm.daemon import Daemon

MIB: Final = 1 << 20
#: Content of `data` in every share: no two pages of it are alike.
DATA: Final = random.Random(1).randbytes(8 * MIB)
#: A build with a sanitizer is slow and large: what is measured means nothing there.
SANITIZED: Final = "OVFS_SANITIZE" in os.environ


def fill(root: Path) -> Path:
    """Makes the content: `data`, `small` and `sub/inner`."""
    root.mkdir(exist_ok=True)
    root.chmod(0o755)
    (root / "data").write_bytes(DATA)
    (root / "small").write_bytes(b"text")
    (root / "sub").mkdir()
    (root / "sub" / "inner").write_bytes(b"inner")
    return root


@contextlib.contextmanager
def guest(daemon: Daemon, **how: Any) -> Iterator[tuple[Vmm, FuseClient]]:
    """A VMM whose guest has mounted the share."""
    with Vmm.connect(daemon.socket, **how) as vmm:
        fs = vmm.fuse()
        fs.init()
        yield vmm, fs


def opened(fs: FuseClient, name: bytes = b"data", flags: int = os.O_RDWR) -> tuple[int, int]:
    """The node and a handle of a file in the root."""
    node = fs.lookup(ROOT_ID, name).nodeid
    return node, fs.open(node, flags).fh


def check_serves(fs: FuseClient) -> None:
    """Attributes and data of this guest's share are what they should be."""
    node, fh = opened(fs, flags=os.O_RDONLY)
    assert fs.getattr(node).attr.size == len(DATA)
    assert fs.read(node, fh, 12345, 8192) == DATA[12345 : 12345 + 8192]
    fs.release(node, fh)


def check_next_vmm(daemon: Daemon) -> None:
    """The next VMM is served."""
    with guest(daemon) as (_, fs):
        check_serves(fs)


def error_of(fs: FuseClient, pending: Pending) -> int:
    """Waits for a request; returns its errno, 0 where it succeeds."""
    return -fs.wait_reply(pending)[0].error


def wait_until(holds: Callable[[], bool], timeout: float = 10.0) -> None:
    """Waits for something that the daemon does by itself.

    Raises:
        TimeoutError: It does not happen.
    """
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.005)


def counters(daemon: Daemon) -> dict[str, int]:
    """The daemon's own counters."""
    line = re.compile(r"Stats\((.*)\)")
    before = len(line.findall(daemon.log(1 << 20)))
    os.kill(daemon.pid, signal.SIGUSR1)
    wait_until(lambda: len(line.findall(daemon.log(1 << 20))) > before)
    pairs = line.findall(daemon.log(1 << 20))[-1].split(", ")
    return {name: int(value) for name, value in (pair.split("=") for pair in pairs)}
