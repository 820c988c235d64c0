# SPDX-License-Identifier: Apache-2.0
"""A second process on a cache directory: it runs what it is told, a line at a time, until killed.

Lines are Python expressions over ``cache`` and ``store``; the answer is the value's ``repr``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = """
import asyncio, os, sys, time
from pathlib import Path
from ovfs.remote.cache import Cache
from ovfs.remote.store import Store
from ovfs.remote.journal import JournalEntry

directory, size, identity = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
cache = Cache(directory, size, identity, None, reserve=0)
store = Store(directory, identity, cache.presence)
run = asyncio.run

def entry(file_id, key, size=0):
    return JournalEntry(file_id, key, size, {}, None, True, "file", time.time_ns())

def fill(key, size, pattern):
    # Adds blocks of a segment for ever.
    segment = cache.segment(key, "v", 0, size)
    block = 0
    while True:
        asyncio.run(segment.add(block * 65536, pattern * 65536))
        block = (block + 1) % (size // 65536)

def put_for_ever(file_id):
    number = 0
    while True:
        store.journal.put(entry(file_id, f"key {number}" + "x" * (number % 5000), number))
        number += 1

print("ready", flush=True)
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class OtherDaemon:
    """The process; killed at the end at the latest."""

    def __init__(self, directory: Path, identity: str = "x://a", size: int = 1 << 30) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(directory), str(size), identity],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._read() == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, expression: str) -> str:
        """Run an expression, and return the ``repr`` of its value."""
        self.tell(expression)
        return self._read()

    def tell(self, expression: str) -> None:
        """Run an expression without waiting for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other daemon died"
        return line.rstrip("\n")
