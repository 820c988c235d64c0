# SPDX-License-Identifier: Apache-2.0
"""A directory of a hundred thousand objects: every name once, and memory that stays bounded."""

from __future__ import annotations

import time

import pytest

from tests.process.place import SANITIZED
from tests.semantics.remote.fake_s3 import FakeS3, Object
from tests.semantics.remote.share import RemoteShare

COUNT = 100_000
MIB = 1 << 20


@pytest.mark.slow
def test_a_hundred_thousand_entries() -> None:
    with FakeS3() as fake:
        made = Object(b"x", {}, time.time(), '"9dd4e461268c8034f5c8564e155c67a6"')
        prefix = "large/"
        with RemoteShare(fake.url(), fake) as share:
            before = share.daemon.rss()
            fake.objects.update({f"{prefix}name-{n:06}": made for n in range(COUNT)})
            fs = share.fs
            nodeid = fs.lookup(1, b"large", timeout=60).nodeid
            fh = fs.opendir(nodeid, timeout=60).fh
            seen: set[bytes] = set()
            offset = total = 0
            while entries := fs.readdir(nodeid, fh, offset, 1 << 20, timeout=120):
                offset = entries[-1].off
                total += len(entries)
                seen |= {entry.name for entry in entries}
            assert total == COUNT + 2
            assert len(seen) == total
            if not SANITIZED:
                assert share.daemon.rss() - before < 100 * MIB
            # One name in it costs two calls, and no second listing.
            fake.calls.clear()
            entry = fs.lookup(nodeid, b"name-077777", timeout=60)
            assert entry.attr.size == 1
            assert fake.count("LIST") <= 1  # the look whether there is a directory of that name
