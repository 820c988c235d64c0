# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of the process title, which every user of the host can read.

The kernel shows as ``/proc/PID/cmdline`` the very memory that it put the arguments in, between two
addresses in ``/proc/PID/stat``. Python has copied its arguments from there long ago, and neither
``sys.argv`` nor ``Py_GetArgcArgv`` leads back to it; moving the addresses (``PR_SET_MM_ARG_START``)
needs CAP_SYS_RESOURCE. So the memory itself is overwritten: the arguments, with what must not be
seen replaced, then zeros, which the kernel shows as empty arguments.
"""

from __future__ import annotations

import re
from pathlib import Path

# The queries of all backends but fs:// may hold secrets, and so may what is only nearly a URL.
_HARMLESS = re.compile(rb"fs://")
_QUERY = re.compile(rb"(://|\?|&)")

_STAT_ARG_START = 48 - 3  # fields of proc_pid_stat(5) count from 1; 3 is the first after the name
_HIDDEN = b"..."


def redact(argument: bytes) -> bytes:
    """Return an argument as others may see it."""
    if _HARMLESS.match(argument):
        return argument
    found = _QUERY.search(argument)
    return argument if found is None else argument[: found.end()] + _HIDDEN


def hide_secrets() -> None:
    """Overwrite this process's arguments where one of them may hold a secret.

    Best effort where /proc is hidden: then nobody else reads the arguments there either.
    """
    try:
        shown = Path("/proc/self/cmdline").read_bytes()
        stat = Path("/proc/self/stat").read_bytes()
    except OSError:
        return
    hidden = b"\0".join(redact(argument) for argument in shown.split(b"\0"))
    if hidden == shown:
        return
    # The name in parentheses may hold anything, blanks and parentheses included.
    numbers = stat.rpartition(b")")[2].split()
    start, end = int(numbers[_STAT_ARG_START]), int(numbers[_STAT_ARG_START + 1])
    size = end - start
    import ctypes  # noqa: PLC0415 (10 ms that only a URL with secrets costs)

    ctypes.memmove(start, hidden[: size - 1].ljust(size, b"\0"), size)
