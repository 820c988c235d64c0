# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a request, and which requests it happens to."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.services.http_wire import Head

#: The error codes that S3 has for a status; SDKs go by the code.
S3_CODES: Final[Mapping[int, str]] = {
    400: "InvalidRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "OperationAborted",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
    507: "InsufficientStorage",
}


@dataclass(frozen=True, slots=True)
class Delay:
    """The request is forwarded after a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """The request is read and never answered; when the rule goes, the connection is reset.

    Args:
        forwarded: It reaches the server first, and takes effect.
    """

    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset when the request's head has come."""


@dataclass(frozen=True, slots=True)
class Status:
    """The proxy answers an error, and the server never hears of the request."""

    status: int
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """The response ends after so many bytes of its body.

    Args:
        length: Bytes that pass.
        how: "close": the connection ends in good order; "reset"; "hang": nothing more comes.
    """

    length: int
    how: str = "close"


@dataclass(frozen=True, slots=True)
class DropResponse:
    """The request takes effect, and its response is lost: the connection is reset instead."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The response's body comes at so many bytes a second."""

    bytes_per_second: float


Fault = Delay | Hang | Reset | Status | Cut | DropResponse | Slow


class Rule:
    """A fault and the requests that it happens to. Made by `FaultProxy.add`.

    Attributes:
        hits: How many requests it has happened to.
    """

    def __init__(
        self, fault: Fault, method: str | None, target: str, times: int | None, skip: int
    ) -> None:
        self.fault = fault
        self.hits = 0
        self.released = asyncio.Event()  # set on the proxy's loop when the rule is removed
        self._methods = method.split("|") if method else None
        self._target = re.compile(target)
        self._left = times
        self._skip = skip
        self._changed = threading.Condition()

    def takes(self, request: Head) -> bool:
        """Whether it happens to this request; counts it. On the proxy's thread alone."""
        if self._methods is not None and request.method not in self._methods:
            return False
        if self._left == 0 or not self._target.search(request.target):
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self._left is not None:
            self._left -= 1
        with self._changed:
            self.hits += 1
            self._changed.notify_all()
        return True

    def wait_hit(self, count: int = 1, timeout: float = 30.0) -> None:
        """Waits until it has happened to so many requests.

        Raises:
            TimeoutError: It has not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.hits >= count, timeout):
                raise TimeoutError(f"{self.fault} hit {self.hits} requests, not {count}")
