# SPDX-License-Identifier: Apache-2.0
"""The services as fixtures: one server of each kind for a whole run, a prefix for each test."""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.services.bucket import Bucket
from tests.services.rclone import RcloneServe
from tests.services.seaweed import SeaweedFS

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedFS]:
    """A running SeaweedFS. Who kills or pauses it makes one of their own."""
    with SeaweedFS() as service:
        yield service


@pytest.fixture(scope="session")
def webdav() -> Iterator[RcloneServe]:
    """A running WebDAV server."""
    with RcloneServe("webdav") as service:
        yield service


@pytest.fixture(scope="session")
def ftp() -> Iterator[RcloneServe]:
    """A running FTP server."""
    with RcloneServe("ftp") as service:
        yield service


@pytest.fixture
def bucket_root(request: pytest.FixtureRequest) -> str:
    """A prefix that no other test uses, as a backend URL's root: `/t1-name/`."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")[:40]
    return f"/t{next(_numbers)}-{os.getpid()}-{name}/"


@pytest.fixture
def bucket(seaweed: SeaweedFS, bucket_root: str) -> Iterator[Bucket]:
    """The objects below `bucket_root` in `seaweed`, seen without ovfs; removed at the end."""
    found = Bucket(seaweed, bucket_root)
    yield found
    found.clear()
