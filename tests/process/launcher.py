# SPDX-License-Identifier: Apache-2.0
"""The daemon in one process with a Python thread that holds the GIL when it is told to.

    python -m tests.process.launcher TRIGGER SECONDS SOCKET URL [option ...]

Whenever the file TRIGGER is there it is removed, and for so many seconds no other Python thread of
the process runs: ctypes.PyDLL keeps the lock across the call.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from pathlib import Path

from ovfs.__main__ import main


def _hold(trigger: Path, seconds: float) -> None:
    library = ctypes.PyDLL(None)
    while True:
        if trigger.exists():
            trigger.unlink()
            library.usleep(int(seconds * 1e6))
        time.sleep(0.005)


if __name__ == "__main__":
    threading.Thread(
        target=_hold, args=(Path(sys.argv[1]), float(sys.argv[2])), daemon=True
    ).start()
    sys.argv[1:3] = []
    sys.exit(main())
