# SPDX-License-Identifier: Apache-2.0
"""The daemon without privileges: `python -m tests.nobody SOCKET URL [option ...]`, as root.

It becomes another user with all of ovfs loaded, since that user need not be able to read it: a
checkout may lie in root's home. The socket's directory is given away first.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # loaded by asyncio when it is first needed
import ctypes
import os
import shutil  # noqa: F401  # loaded by argparse when it is first needed
import sys
from pathlib import Path
from typing import Final

from ovfs import cli, daemon  # noqa: F401  # loaded by main when they are first needed
from ovfs.__main__ import main

NOBODY: Final = 65534
COMMAND: Final = (sys.executable, "-m", "tests.nobody", "{socket}", "fs://?root={dir}")

_PR_SET_DUMPABLE = 4


def run() -> int:
    """Runs this process's command line as nobody; returns the exit code."""
    socket = next((Path(word) for word in sys.argv[1:] if word.startswith("/")), None)
    if socket is not None:
        os.chown(socket.parent, NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # As after an exec: /proc/self is the process's own again.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    return main()


if __name__ == "__main__":
    sys.exit(run())
