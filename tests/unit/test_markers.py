# SPDX-License-Identifier: Apache-2.0
"""Directory markers with metadata, against a server that keeps what it is given, and fails."""

from __future__ import annotations

import asyncio
import errno
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, TypeVar

import pytest

from ovfs.config import RemoteBackend
from ovfs.remote import http_calls
from ovfs.remote.errors import FsError
from ovfs.remote.http_calls import HttpCalls, is_direct
from ovfs.remote.markers import Markers
from ovfs.remote.operators import build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")


class Store(BaseHTTPRequestHandler):
    """Keeps headers by path; answers with the errors that it is told to."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, dict[str, str]]
    failures: list[int]  # statuses; 0: the connection is dropped
    connections: int

    def setup(self) -> None:
        type(self).connections += 1
        super().setup()

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def fails(self) -> bool:
        if not self.failures:
            return False
        status = self.failures.pop(0)
        if status == 0:
            self.close_connection = True
        else:
            self.answer(status)
        return True

    def do_PUT(self) -> None:
        assert self.headers["Content-Length"] == "0"
        if not self.fails():
            names = [name for name in self.headers if name.lower().startswith("x-amz-meta-")]
            found = {name: self.headers[name] for name in names}
            found["Last-Modified"] = "Wed, 21 Oct 2015 07:28:00 GMT"
            found["ETag"] = '"x"'
            self.kept[self.path.partition("?")[0]] = found
            self.answer(200)

    def do_HEAD(self) -> None:
        if not self.fails():
            found = self.kept.get(self.path.partition("?")[0])
            self.answer(404 if found is None else 200, found)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def store() -> Iterator[tuple[type[Store], str]]:
    handler = type("Handler", (Store,), {"kept": {}, "failures": [], "connections": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_calls, "PAUSE", 0.001)


def with_markers(endpoint: str, work: Callable[[Markers], Awaitable[T]]) -> T:
    async def main() -> T:
        parameters = {"bucket": "b", "root": "/r", "endpoint": endpoint}
        parameters |= {"access_key_id": "a", "secret_access_key": "hush"}
        calls = HttpCalls()
        try:
            return await work(Markers(build(RemoteBackend("s3", parameters)).control, calls))
        finally:
            calls.close()

    return asyncio.run(main())


def test_metadata_comes_back(store: tuple[type[Store], str]) -> None:
    handler, endpoint = store

    async def work(markers: Markers) -> None:
        assert await markers.stat("d/") is None
        for mode in ("16877", "16832"):
            await markers.put("d/", {"mode": mode, "uid": "7"})
            info = await markers.stat("d/")
            assert info is not None
            assert (info.key, info.is_dir, info.size, info.etag) == ("d/", True, 0, '"x"')
            assert info.meta == {"mode": mode, "uid": "7"}
            assert info.mtime_ns == 1445412480 * 10**9

    with_markers(endpoint, work)
    assert list(handler.kept) == ["/b/r/d/"]
    assert handler.connections == 1  # one that is kept


def test_what_passes_is_tried_again(store: tuple[type[Store], str]) -> None:
    handler, endpoint = store

    async def work(markers: Markers) -> None:
        for failures in ([500, 503], [429], [0, 0], [0, 500, 0]):
            handler.failures[:] = failures
            await markers.put("d/", {"mode": "1"})
            assert handler.failures == []

    with_markers(endpoint, work)


@pytest.mark.parametrize(
    ("failures", "number"),
    [
        ([403], errno.EACCES),
        ([400], errno.EIO),
        ([500] * 9, errno.EIO),
        ([507] * 9, errno.ENOSPC),
        ([0] * 9, errno.EIO),
    ],
)
def test_what_stays_is_an_errno(
    store: tuple[type[Store], str], failures: list[int], number: int
) -> None:
    handler, endpoint = store

    async def work(markers: Markers) -> None:
        for call in (markers.put("d/", {}), markers.stat("d/")):
            handler.failures[:] = failures
            with pytest.raises((FsError, OSError)) as caught:
                await call
            assert "hush" not in str(caught.value)
            if isinstance(caught.value, FsError):
                assert caught.value.errno == number

    with_markers(endpoint, work)


def test_a_proxy_is_not_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert is_direct("https://h/x")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert not is_direct("https://h/x")
    assert is_direct("http://h/x")
    monkeypatch.setenv("no_proxy", "h")
    assert is_direct("https://h/x")
