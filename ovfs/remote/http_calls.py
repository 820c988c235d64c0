# SPDX-License-Identifier: Apache-2.0
"""HTTP requests that were signed elsewhere: the few things that OpenDAL has no call for.

On threads, over connections that are kept: these are requests without a body, seldom enough that a
thread each does not matter, often enough that a round trip to connect would.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import ssl
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

PAUSE = 0.25  # seconds half of the first pause between attempts; doubles
_TIMEOUT = 10.0
_ATTEMPTS = 4
_MAX_BODY = 4 << 20
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpCalls:
    """Connections to one server."""

    def __init__(self) -> None:
        self._idle: list[tuple[str, http.client.HTTPConnection]] = []  # append and pop: any thread
        self._tls: ssl.SSLContext | None = None

    async def send(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        """Send a request without a body; what may pass is tried again.

        Raises:
            OSError: no answer.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = await asyncio.to_thread(self._send, method, url, headers)
            except (OSError, http.client.HTTPException) as error:
                if attempt == _ATTEMPTS:
                    raise OSError(None, f"no answer: {type(error).__name__}") from None
            else:
                if attempt == _ATTEMPTS or not (answer.status >= 500 or answer.status == 429):
                    return answer
            await asyncio.sleep(PAUSE * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311
        raise AssertionError

    def close(self) -> None:
        """Drop the connections that are kept."""
        while self._idle:
            self._idle.pop()[1].close()

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection, fresh = self._connection(origin), False
        if connection is None:
            connection, fresh = self._connect(parts.scheme, parts.netloc), True
        try:
            try:
                answer = _exchange(connection, method, target, headers)
            except (http.client.RemoteDisconnected, ConnectionError):
                if fresh:
                    raise
                connection.close()  # it was kept for longer than the server keeps its end
                connection = self._connect(parts.scheme, parts.netloc)
                answer = _exchange(connection, method, target, headers)
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None and len(self._idle) < _KEPT:
            self._idle.append((origin, connection))
        else:
            connection.close()
        return answer

    def _connection(self, origin: str) -> http.client.HTTPConnection | None:
        try:
            kept, connection = self._idle.pop()
        except IndexError:
            return None
        if kept == origin:
            return connection
        connection.close()
        return None

    def _connect(self, scheme: str, host: str) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(host, timeout=_TIMEOUT)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return http.client.HTTPSConnection(host, timeout=_TIMEOUT, context=self._tls)


def is_direct(url: str) -> bool:
    """Return whether a server is reached without a proxy; with one, it is not for us to try."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    return parts.scheme not in proxies or bool(urllib.request.proxy_bypass(parts.hostname or ""))


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str]
) -> Answer:
    body = b"" if method in {"PUT", "POST"} else None  # for a Content-Length of 0
    connection.request(method, target, body=body, headers=dict(headers))
    response = connection.getresponse()
    data = response.read(_MAX_BODY)
    if response.will_close or not response.isclosed():
        connection.close()
    told = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, told, data)
