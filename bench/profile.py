# SPDX-License-Identifier: Apache-2.0
"""Where a daemon's time goes, as perf samples it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Functions that wait for a lock, of the kernel and of libc. That a lock is let go of is not among
#: them: `_raw_spin_unlock_irq` is where a sample lands that interrupts were switched off for, in a
#: virtual machine above all.
WAITING: Final = re.compile(
    r"lock_slowpath|_spin_lock|mutex_lock|lll_lock|rwsem_|down_(read|write)|spin_on_owner|"
    r"osq_lock|futex|rwlock_(rd|wr)lock"
)


class Profile:
    """Samples processes for some seconds; `symbols` waits for the end.

    Args:
        pids: Which.
        seconds: For how long.
    """

    def __init__(self, pids: Sequence[int], seconds: float) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="profile-")
        self._data = Path(self._scratch.name, "data")
        listed = ",".join(map(str, pids))
        command = ["perf", "record", "-q", "-p", listed, "-o", str(self._data)]
        command += ["--", "sleep", f"{seconds:.3f}"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    @staticmethod
    def is_possible() -> bool:
        """Whether there is a perf that may sample."""
        if not shutil.which("perf"):
            return False
        probe = ["perf", "record", "-q", "-o", "/dev/null", "-p", str(os.getpid()), "--", "true"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    def symbols(self, count: int) -> list[str]:
        """The hottest functions, the hottest first."""
        self._process.wait()
        command = ["perf", "report", "-i", str(self._data), "--no-children", "-s", "symbol"]
        table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self._scratch.cleanup()
        return re.findall(r"^ *[\d.]+% +\[[.k]\] +(\S+)", table, re.MULTILINE)[:count]


def waiting(symbols: Sequence[str]) -> list[str]:
    """Those of them that wait for a lock."""
    return [symbol for symbol in symbols if WAITING.search(symbol)]
