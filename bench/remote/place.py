# SPDX-License-Identifier: Apache-2.0
"""Where a run takes place: a prefix of a bucket, the way to it, and the data that it finds there.

Data is put in and results are looked at without the proxy, and without any contender.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import opendal

from bench.proxy import DelayProxy
from bench.remote.files import BLOCK, MIB
from tests.services.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.services.seaweed import SeaweedFS

STORED_SECONDS: Final = 120.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Way:
    """How far away the service is.

    Attributes:
        name: What the report calls it.
        round_trip: Seconds that the proxy adds; None: no proxy.
    """

    name: str
    round_trip: float | None


WAYS: Final = (Way("direct", None), Way("10 ms", 0.010))


@functools.cache
def noise(size: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return os.urandom(size)


class Place:
    """A prefix, reached in some way.

    Args:
        service: Whose bucket.
        way: How far it is.
        proxy: The proxy that makes it so far, if one does.
        prefix: The prefix, with a slash at its end.
    """

    def __init__(self, service: SeaweedFS, way: Way, proxy: DelayProxy | None, prefix: str) -> None:
        self.service = service
        self.way = way
        self.proxy = proxy
        self.prefix = prefix
        self.bucket = Bucket(service, prefix)

    @property
    def endpoint(self) -> str:
        """The address that contenders are told."""
        return self.proxy.endpoint if self.proxy else self.service.endpoint

    @property
    def root(self) -> str:
        """The prefix as the root of a backend URL."""
        return "/" + self.prefix

    def fresh(self) -> Self:
        """An empty prefix beside this one."""
        prefix = f"{self.prefix.partition('/')[0]}/{next(_numbers)}/"
        return type(self)(self.service, self.way, self.proxy, prefix)

    def operator(self, endpoint: str | None = None) -> opendal.Operator:
        """OpenDAL's view of the prefix; without an endpoint, past the proxy."""
        return opendal.Operator("s3", **self.parameters(endpoint or self.service.endpoint))

    def parameters(self, endpoint: str) -> dict[str, str]:
        """What OpenDAL is told."""
        return {
            "root": self.root,
            "bucket": self.service.bucket,
            "endpoint": endpoint,
            "region": self.service.region,
            "access_key_id": self.service.access_key,
            "secret_access_key": self.service.secret_key,
        }

    def put_large(self, name: str, size: int) -> None:
        """Stores an object of noise."""
        self.operator().write(name, noise(size), chunk=8 * MIB)

    def put_small(self, names: Sequence[str], size: int = BLOCK) -> None:
        """Stores many small objects."""
        operator = self.operator()
        for index, name in enumerate(names):
            operator.write(name, noise(MIB)[index * 16 :][:size])

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """What is stored, with sizes, directories left out."""
        listed = self.bucket.objects(prefix)
        return {found.key: found.size for found in listed if not found.key.endswith("/")}

    def is_stored(self, expected: dict[str, int]) -> bool:
        """Whether these objects are in the bucket with these sizes."""
        found = self.sizes()
        return all(found.get(name) == size for name, size in expected.items())

    def wait_stored(self, expected: dict[str, int]) -> None:
        """Waits until they are.

        Raises:
            TimeoutError: They are not in time.
        """
        deadline = time.monotonic() + STORED_SECONDS
        while not self.is_stored(expected):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not stored after {STORED_SECONDS} s in {self.prefix}")
            time.sleep(0.02)

    def fetched(self) -> int | None:
        """Bytes that have come from the server so far, where a proxy counts them."""
        return self.proxy.bytes_passed()[1] if self.proxy else None


@contextlib.contextmanager
def places(service: SeaweedFS) -> Iterator[dict[str, Place]]:
    """A place for each way, by its name."""
    with contextlib.ExitStack() as stack:
        found = {}
        for way in WAYS:
            proxy = None
            if way.round_trip is not None:
                proxy = stack.enter_context(DelayProxy(service.port, way.round_trip))
            found[way.name] = Place(service, way, proxy, f"bench-{os.getpid()}/0/")
        yield found
