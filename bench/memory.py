# SPDX-License-Identifier: Apache-2.0
"""Memory that is there when it is asked for.

In a virtual machine whose host takes back what its guest has freed, the first use of such a page
goes to the host, and costs several times as much as filling it. Whoever comes second in a round
would have it cheaper than whoever comes first, and much cheaper than after a pause: the same read
of 256 MiB into a cache file took 0.43 s, or 0.76 s. So most of what is free is held for as long as
is measured, and the page cache is filled and emptied with the rest before each run, whoever runs.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vmm.bench import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

ENOUGH: Final = 768 * MIB
LEFT: Final = 3072 * MIB
POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE, Linux 5.14


def _is_virtual() -> bool:
    """Whether a hypervisor is below us; processors that cannot tell have none that does this."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None


def _free() -> int:
    meminfo = Path("/proc/meminfo").read_text(encoding="utf-8")
    found = re.search(r"^MemFree:\s*(\d+) kB", meminfo, re.MULTILINE)
    return 0 if found is None else int(found[1]) << 10


@contextlib.contextmanager
def held(left: int = LEFT) -> Iterator[int]:
    """Holds what is free beyond `left` bytes; yields how much that is. For some 30 s to begin with.

    What is left is in use over and over then, and the host never gets it.
    """
    size = (_free() - left) // MIB * MIB
    if size <= 0 or not _is_virtual():
        yield 0
        return
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.madvise(POPULATE_WRITE)
        populate(left * 3 // 4)
        yield size


def populate(size: int = ENOUGH) -> None:
    """Touches so much memory, and frees it again."""
    os.sync()  # first: the run's fsync is not to wait for others' data, nor free pages for this
    block = bytes(MIB)
    with tempfile.TemporaryFile() as file:
        for _ in range(size // MIB):
            file.write(block)
