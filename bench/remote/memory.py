# SPDX-License-Identifier: Apache-2.0
"""Memory that is there when it is asked for.

In a virtual machine whose host takes back what its guest has freed, the first use of such a page
goes to the host, and costs several times as much as filling it. Whoever comes second in a round
would have it cheaper than whoever comes first, and much cheaper than after a pause. So the page
cache is filled and emptied before each run, whoever runs: that leaves its pages for who comes next.
"""

from __future__ import annotations

import os
import tempfile
from typing import Final

from bench.remote.files import MIB

ENOUGH: Final = 768 * MIB


def populate(size: int = ENOUGH) -> None:
    """Touches so much memory, and frees it again."""
    os.sync()  # first: the run's fsync is not to wait for others' data, nor free pages for this
    block = bytes(MIB)
    with tempfile.TemporaryFile() as file:
        for _ in range(size // MIB):
            file.write(block)
