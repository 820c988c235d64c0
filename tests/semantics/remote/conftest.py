# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a share on SeaweedFS for a whole module; a server in this process for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.semantics.remote.fake_s3 import FakeS3
from tests.semantics.remote.hung import Hung
from tests.semantics.remote.share import FRESH, RemoteShare
from tests.services.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.semantics.remote.scene import Scene
    from tests.services.seaweed import SeaweedFS

    MakeShare = Callable[..., RemoteShare]


@pytest.fixture(scope="package", autouse=True)
def hung(request: pytest.FixtureRequest) -> Iterator[Hung | None]:
    """What `test_waits` waits for, begun before everything else."""
    if not any(item.path.name == "test_waits.py" for item in request.session.items):
        yield None
        return
    made = Hung()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def root(request: pytest.FixtureRequest) -> str:
    """The module's prefix in the bucket."""
    return f"/{request.module.__name__.rpartition('.')[2]}/"


@pytest.fixture(scope="module")
def bucket(seaweed: SeaweedFS, root: str) -> Bucket:
    """Its objects."""
    return Bucket(seaweed, root)


@pytest.fixture(scope="module")
def share(seaweed: SeaweedFS, root: str, bucket: Bucket) -> Iterator[RemoteShare]:
    """A daemon with nothing but defaults, on SeaweedFS."""
    with RemoteShare(seaweed.url(root=root), bucket) as made:
        yield made


@pytest.fixture(scope="module")
def fresh_share(seaweed: SeaweedFS, root: str) -> Iterator[RemoteShare]:
    """One that looks each time, for what is changed elsewhere while the guest watches."""
    prefix = f"{root}fresh/"
    with RemoteShare(seaweed.url(root=prefix), Bucket(seaweed, prefix), FRESH) as made:
        yield made


@pytest.fixture
def scene(share: RemoteShare) -> Scene:
    """A fresh directory on SeaweedFS, with defaults."""
    return share.scene()


@pytest.fixture
def fresh(fresh_share: RemoteShare) -> Scene:
    """A fresh directory on SeaweedFS, where each look is fresh."""
    return fresh_share.scene()


@pytest.fixture
def make_share(
    seaweed: SeaweedFS, root: str, request: pytest.FixtureRequest
) -> Iterator[MakeShare]:
    """A function that starts a daemon on SeaweedFS with options; all on the same prefix."""
    prefix = f"{root}{request.node.name}/"
    made: list[RemoteShare] = []

    def make(*options: str, **more: Any) -> RemoteShare:
        made.append(RemoteShare(seaweed.url(root=prefix), Bucket(seaweed, prefix), options, **more))
        return made[-1]

    try:
        yield make
    finally:
        for each in reversed(made):
            each.__exit__()


@pytest.fixture
def fake() -> Iterator[FakeS3]:
    """A server whose requests are seen, held up and failed."""
    with FakeS3() as made:
        yield made


@pytest.fixture
def fake_share(fake: FakeS3) -> Iterator[RemoteShare]:
    """A daemon on it with nothing but defaults."""
    with RemoteShare(fake.url(), fake) as made:
        yield made


@pytest.fixture
def make_fake_share(fake: FakeS3) -> Iterator[MakeShare]:
    """A function that starts daemons on it."""
    made: list[RemoteShare] = []

    def make(*options: str, **more: Any) -> RemoteShare:
        made.append(RemoteShare(fake.url(), fake, options, **more))
        return made[-1]

    try:
        yield make
    finally:
        for each in reversed(made):
            each.__exit__()


@pytest.fixture(scope="module")
def memory_share() -> Iterator[RemoteShare]:
    """A daemon on memory://: no other side, no metadata, no copy."""
    with RemoteShare("memory://?root=/") as made:
        yield made
