# SPDX-License-Identifier: Apache-2.0
"""A cache directory whose disk is full."""

from __future__ import annotations

import random
import subprocess
from errno import ENOSPC
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 160 MiB."""
    words = ["mount", "-t", "tmpfs", "-o", "size=160m", "ovfs-test", str(tmp_path)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk takes a mount, and mounting takes root")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.promise("r-write-2")
def test_no_room_is_enospc(fake: FakeS3, make_fake_share: MakeShare, small_disk: Path) -> None:
    """Random order, so that nothing goes ahead to the service; what was taken is stored."""
    scene = make_fake_share(cache_dir=small_disk / "cache").scene()
    data = random.Random(0).randbytes(MIB)
    nodeid, fh = scene.make("file")
    taken: dict[int, int] = {}

    def fill() -> None:
        for offset in range(398 * MIB, 0, -2 * MIB):
            taken[offset] = scene.fs.write(nodeid, fh, offset, data)

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.errno == ENOSPC
    assert len(taken) > 10
    assert scene.fs.getattr(nodeid).attr.size == 399 * MIB
    scene.fs.flush(nodeid, fh, timeout=60.0)
    stored = scene.get("file")
    assert len(stored) == 399 * MIB
    for offset, count in taken.items():
        assert stored[offset : offset + count] == data[:count]
