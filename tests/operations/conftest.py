# SPDX-License-Identifier: Apache-2.0
"""Fixtures: shares that a whole module uses, and a fresh scene for each test in them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.operations.share import PLACES, Share

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.operations.scene import Scene

HERE = os.path.dirname(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Owners, devices and mounts take root, on the host as in the guest."""
    if os.geteuid() == 0:
        return
    for item in items:
        if _is_here(item.path):
            item.add_marker(pytest.mark.skip(reason="needs root: owners, devices, mounts"))


def _is_here(path: Path) -> bool:
    return str(path).startswith(HERE)


@pytest.fixture(scope="module", params=list(PLACES))
def share(request: pytest.FixtureRequest) -> Iterator[Share]:
    """A daemon with all options that add to what is served, on disk and on tmpfs."""
    with Share(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def memory_share() -> Iterator[Share]:
    """The same on tmpfs alone, for what no file system decides."""
    with Share("tmpfs") as made:
        yield made


@pytest.fixture
def scene(share: Share) -> Iterator[Scene]:
    """A fresh scene on each file system."""
    with share.scene() as made:
        yield made


@pytest.fixture
def memory_scene(memory_share: Share) -> Iterator[Scene]:
    """A fresh scene on tmpfs."""
    with memory_share.scene() as made:
        yield made
