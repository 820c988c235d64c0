# SPDX-License-Identifier: Apache-2.0
"""A service that never answers, and one that takes nothing in: no wait is for ever."""

from __future__ import annotations

from errno import EIO
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.hung import BYTES

if TYPE_CHECKING:
    from tests.semantics.remote.hung import Hung


@pytest.mark.slow
@pytest.mark.promise("r-fail-1")
@pytest.mark.parametrize("what", ["lookup", "read", "mkdir", "unlink", "open", "flush"])
def test_every_wait_ends(hung: Hung, what: str) -> None:
    assert hung.errno(what) == EIO


@pytest.mark.promise("r-end-1")
def test_what_an_ended_daemon_could_not_store(hung: Hung) -> None:
    """It has tried for ten seconds."""
    assert hung.doomed.daemon.wait(20.0) == 1
    held = [path for path in hung.doomed.cache_dir.rglob("*") if path.is_file()]
    assert any(BYTES in path.read_bytes() for path in held)
