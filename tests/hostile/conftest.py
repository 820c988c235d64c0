# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one share for a module's attacks, since the daemon has to outlive them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hostile.prey import Prey

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def prey() -> Iterator[Prey]:
    """A share and its daemon, which ends well after all that a module does to it."""
    with Prey() as made:
        yield made
        made.check_next()
        log = made.daemon.log(1 << 22)
        assert made.daemon.stop() == 0, log[-4000:]
        assert "Traceback" not in log
        assert "internal error" not in log
