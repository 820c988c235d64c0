# SPDX-License-Identifier: Apache-2.0
"""Fixtures: daemons whose cache directory outlives them, or whose service has bad days.

They are on SeaweedFS, or on a server in here.
`seaweed`, `bucket_root` and `bucket` are of tests/services.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.remote.faulty import FRESH, FaultyShare
from tests.semantics.remote.fake_s3 import FakeS3
from tests.semantics.remote.share import RemoteShare
from tests.services.bucket import Bucket
from tests.services.fault_proxy import FaultProxy
from tests.services.seaweed import SeaweedFS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    MakeShare = Callable[..., RemoteShare]


@pytest.fixture
def cache_dir(disk_dir: Path) -> Path:
    """A cache directory that daemons of this test may share, one after the other or at a time."""
    return disk_dir / "cache"


@pytest.fixture(scope="module")
def own_seaweed() -> Iterator[SeaweedFS]:
    """One that a test may pause or kill; running again when the test ends."""
    with SeaweedFS() as service:
        yield service


@pytest.fixture
def pausable(own_seaweed: SeaweedFS) -> Iterator[SeaweedFS]:
    """The same for one test, which need not undo what it did."""
    yield own_seaweed
    if own_seaweed.running:
        own_seaweed.resume()
    else:
        own_seaweed.start()


def _maker(url: str, objects: Bucket | FakeS3, cache_dir: Path) -> Iterator[MakeShare]:
    made: list[RemoteShare] = []

    def make(*options: str, **more: Any) -> RemoteShare:
        given = {"cache_dir": cache_dir, **more}
        made.append(RemoteShare(url, objects, ("--log-level", "debug", *options), **given))
        return made[-1]

    try:
        yield make
    finally:
        for each in reversed(made):
            each.__exit__()


@pytest.fixture
def make_share(pausable: SeaweedFS, bucket_root: str, cache_dir: Path) -> Iterator[MakeShare]:
    """A function that starts daemons on one prefix of `pausable`, with one cache directory."""
    yield from _maker(pausable.url(root=bucket_root), Bucket(pausable, bucket_root), cache_dir)


@pytest.fixture
def fake() -> Iterator[FakeS3]:
    """A server whose requests are seen, held up and failed."""
    with FakeS3() as made:
        yield made


@pytest.fixture
def make_fake_share(fake: FakeS3, cache_dir: Path) -> Iterator[MakeShare]:
    """A function that starts daemons on it, with one cache directory."""
    yield from _maker(fake.url(), fake, cache_dir)


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultProxy]:
    """A proxy before the suite's server."""
    with FaultProxy(seaweed.port) as made:
        yield made


@pytest.fixture
def share(seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str) -> Iterator[FaultyShare]:
    """A share behind it with little patience, that asks the service each time."""
    with FaultyShare(seaweed, proxy, bucket_root, *FRESH) as made:
        yield made


@pytest.fixture
def patient(seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str) -> Iterator[FaultyShare]:
    """A share behind it as it is, for which a minute is no time."""
    with FaultyShare(seaweed, proxy, bucket_root, factor=1) as made:
        yield made
