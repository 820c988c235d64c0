# SPDX-License-Identifier: Apache-2.0
"""The daemon's memory while 10 GiB go through it: 5 written, and then 5 read from the service."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from bench.remote.files import MIB
from bench.remote.guest import remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.remote.guest import GuestFiles
    from bench.remote.place import Place
    from bench.remote.table import RemoteReport

HEADING = "Memory"
SIZE = 5 << 30
QUICK_SIZE = 256 * MIB
LIMIT = 300 * MIB
EVERY = 0.2  # seconds


@contextlib.contextmanager
def watched(files: GuestFiles) -> Iterator[list[int]]:
    """Resident bytes of the daemon, guest memory not counted, a few times a second."""
    seen = [files.daemon.rss()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            seen.append(files.daemon.rss())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(1800)
def test_memory(ways: dict[str, Place], results: RemoteReport) -> None:
    size = QUICK_SIZE if results.is_quick else SIZE
    place = ways["direct"].fresh()
    with remote(place, ("--cache-size", "1G")) as files:
        with watched(files) as writing:
            files.write("large", size)
        assert place.is_stored({"large": size})
    # Another daemon, which has nothing in its cache.
    with remote(place, ("--cache-size", "1G")) as files, watched(files) as reading:
        files.read("large", size)
    place.bucket.clear()
    results.add(
        HEADING,
        f"at most {max(writing) / MIB:.0f} MiB resident while writing {size / (1 << 30):.2f} GiB"
        f" ({writing[0] / MIB:.0f} before), {max(reading) / MIB:.0f} while reading them",
    )
    assert max(*writing, *reading) < LIMIT
