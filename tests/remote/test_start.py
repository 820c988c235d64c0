# SPDX-License-Identifier: Apache-2.0
"""What a daemon finds out before it serves: that it cannot, in one line; that it may only read."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from errno import EACCES, EROFS
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest

from tests.remote.faulty import FaultyShare, fails_with
from tests.services.fault_proxy import FaultProxy
from tests.services.faults import Hang, Status
from tests.services.ports import free_ports
from tests.services.seaweed import Credentials
from tests.vmm import ROOT_ID
from tests.vmm.daemon import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.bucket import Bucket
    from tests.services.seaweed import SeaweedFS

#: Nothing of it may be told to anybody; a start that fails has it in the URL.
SECRET: Final = "hush/hush+hush=0123456789"  # noqa: S105  (it opens nothing)
UNKNOWN: Final = Credentials("nobody-key", SECRET)


class Start:
    """An attempt to serve a URL that must not succeed."""

    def __init__(self, url: str, directory: Path) -> None:
        self._socket = directory / "socket"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ovfs", "--cache-dir", directory / "cache", self._socket, url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def end(self) -> None:
        """Sees that nothing of it is left."""
        with self._process as process:
            process.kill()

    def line(self, timeout: float = 20.0) -> str:
        """The one line of a start that ended with code 2; without its "ovfs: "."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        finally:
            self.end()
        assert self._process.returncode == 2, err
        assert out == ""
        assert err.endswith("\n"), err
        assert err.count("\n") == 1, err
        assert not self._socket.exists()
        for secret in (SECRET, "hush", "0123456789"):
            assert secret not in err
        return err.removeprefix("ovfs: ").rstrip()


@pytest.fixture(scope="module", autouse=True)
def silent(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A start at a server that says nothing. It takes ten seconds: the other tests go on."""
    with FaultProxy(seaweed.port) as proxy:
        proxy.add(Hang())
        url = seaweed.url(endpoint=proxy.endpoint, credentials=UNKNOWN)
        start = Start(url, tmp_path_factory.mktemp("silent"))
        yield start
        start.end()


@contextmanager
def web_server() -> Iterator[str]:
    """The address of a server that answers pages, whatever it is asked."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = b"<html><body>It works!</body></html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        do_HEAD = do_GET  # noqa: N815  (as the base class looks for it)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_wrong_bucket(seaweed: SeaweedFS, tmp_path: Path) -> None:
    line = Start(seaweed.url(bucket="not-there"), tmp_path).line()
    assert line == f"s3:// at {seaweed.endpoint}: there is no such bucket: check bucket"


def test_a_wrong_key(seaweed: SeaweedFS, tmp_path: Path) -> None:
    line = Start(seaweed.url(credentials=UNKNOWN), tmp_path).line()
    assert "check access_key_id" in line


def test_a_wrong_secret(seaweed: SeaweedFS, tmp_path: Path) -> None:
    wrong = Credentials(seaweed.access_key, SECRET)
    line = Start(seaweed.url(credentials=wrong), tmp_path).line()
    assert "check secret_access_key" in line


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://127.0.0.1:{closed}", "cannot be reached"),
        ("http://not-there.invalid", "cannot be reached"),
        ("https://127.0.0.1:{open}", "cannot be reached"),
    ],
)
def test_a_wrong_endpoint(seaweed: SeaweedFS, tmp_path: Path, endpoint: str, words: str) -> None:
    (closed,) = free_ports(1)
    address = endpoint.format(closed=closed, open=seaweed.port)
    line = Start(seaweed.url(endpoint=address, credentials=UNKNOWN), tmp_path).line()
    assert line.startswith(f"s3:// at {address}: ")
    assert words in line


def test_an_endpoint_that_is_no_s3(seaweed: SeaweedFS, tmp_path: Path) -> None:
    with web_server() as address:
        line = Start(seaweed.url(endpoint=address, credentials=UNKNOWN), tmp_path).line()
    assert line == f"s3:// at {address}: it finds what is not there: check endpoint"


@pytest.mark.parametrize(
    ("number", "words"),
    [(403, "check the credentials"), (429, "slow down"), (500, "failed"), (503, "slow down")],
)
def test_a_server_that_refuses(
    seaweed: SeaweedFS, proxy: FaultProxy, tmp_path: Path, number: int, words: str
) -> None:
    with proxy.fault(Status(number)):
        url = seaweed.url(endpoint=proxy.endpoint, credentials=UNKNOWN)
        assert words in Start(url, tmp_path).line()


@pytest.mark.parametrize("number", [500, 503])
def test_a_server_that_refuses_once_is_no_reason(
    seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str, number: int
) -> None:
    for method in ("GET", "PUT", "HEAD", "DELETE"):
        proxy.add(Status(number), method=method, times=1)
    with FaultyShare(seaweed, proxy, bucket_root) as share:
        share.save("file", b"data")
        assert share.bucket.get("file") == b"data"


def test_a_bucket_that_lets_nothing_be_stored_for_want_of_room(
    seaweed: SeaweedFS, proxy: FaultProxy, tmp_path: Path
) -> None:
    """That may pass, and what is there can be read meanwhile, but nothing is known of it then."""
    with proxy.fault(Status(507), method="PUT"):
        line = Start(seaweed.url(endpoint=proxy.endpoint), tmp_path).line()
    assert "out of space" in line


# Reading only.


@pytest.fixture(params=["reader", "reader, background", "--readonly"])
def reading(
    request: pytest.FixtureRequest, seaweed: SeaweedFS, proxy: FaultProxy, bucket: Bucket
) -> Iterator[FaultyShare]:
    """A share that can only be read, one with an object, a directory and a link in it."""
    bucket.put("file", b"data", {"xattr": quote('{"user.name":"dmFsdWU="}')})
    bucket.put("dir/inside", b"inside")
    bucket.put("link", b"target", {"mode": str(0o120777)})
    options = {"reader, background": ["--upload", "background"], "--readonly": ["--readonly"]}
    given = ["--xattr", *options.get(request.param, [])]
    who = seaweed.writer if request.param == "--readonly" else seaweed.reader
    with FaultyShare(seaweed, proxy, bucket.root, *given, credentials=who) as share:
        yield share


def test_a_bucket_that_cannot_be_written_is_read(reading: FaultyShare) -> None:
    assert reading.names() == ["dir", "file", "link"]
    assert reading.load("file") == b"data"
    assert reading.fs.getxattr(reading.node("file"), b"user.name") == b"value"
    assert reading.fs.readlink(reading.node("link")) == b"target"
    inside = reading.fs.lookup(reading.node("dir"), b"inside")
    assert inside.attr.size == 6


def test_a_bucket_that_cannot_be_written_says_so(
    reading: FaultyShare, proxy: FaultProxy, bucket: Bucket
) -> None:
    fs = reading.fs
    node, parent = reading.node("file"), reading.node("dir")
    before = bucket.objects()
    proxy.forget_seen()
    for call in (
        lambda: fs.create(ROOT_ID, b"new"),
        lambda: fs.create(ROOT_ID, b"file"),
        lambda: fs.open(node, os.O_WRONLY),
        lambda: fs.open(node, os.O_RDWR),
        lambda: fs.open(node, os.O_RDONLY | os.O_TRUNC),
        lambda: fs.mknod(ROOT_ID, b"new", 0o100644),
        lambda: fs.mkdir(ROOT_ID, b"new"),
        lambda: fs.symlink(ROOT_ID, b"new", b"target"),
        lambda: fs.unlink(ROOT_ID, b"file"),
        lambda: fs.unlink(parent, b"inside"),
        lambda: fs.rmdir(ROOT_ID, b"dir"),
        lambda: fs.rename(ROOT_ID, b"file", ROOT_ID, b"new"),
        lambda: fs.rename(ROOT_ID, b"dir", ROOT_ID, b"new"),
        lambda: fs.setattr(node, mode=0o600),
        lambda: fs.setattr(node, size=0),
        lambda: fs.setattr(node, mtime_ns=1),
        lambda: fs.setxattr(node, b"user.name", b"value"),
        lambda: fs.removexattr(node, b"user.name"),
    ):
        fails_with(EROFS, call)
    assert reading.names() == ["dir", "file", "link"]
    assert reading.daemon.stop() == 0
    assert bucket.objects() == before
    assert [seen for seen in proxy.seen() if seen.method not in {"GET", "HEAD"}] == []


def test_readonly_does_not_even_try(seaweed: SeaweedFS, proxy: FaultProxy, bucket: Bucket) -> None:
    bucket.put("file", b"data")
    with FaultyShare(seaweed, proxy, bucket.root, "--readonly") as share:
        assert share.load("file") == b"data"
    assert {seen.method for seen in proxy.seen()} <= {"GET", "HEAD"}


def test_rights_that_are_taken_away_later(share: FaultyShare, proxy: FaultProxy) -> None:
    """Nobody knows that before the answer, which the guest gets."""
    share.bucket.put("file", b"data")
    nodeid, fh = share.make("new", b"new")
    with proxy.fault(Status(403), method="PUT|POST|DELETE"):
        fails_with(EACCES, lambda: share.fs.flush(nodeid, fh))
        fails_with(EACCES, lambda: share.fs.mkdir(ROOT_ID, b"dir"))
        fails_with(EACCES, lambda: share.fs.unlink(ROOT_ID, b"file"))
        fails_with(EACCES, lambda: share.fs.rename(ROOT_ID, b"file", ROOT_ID, b"other"))
        assert share.load("file") == b"data"
        assert "dir" not in share.names()
    share.close(nodeid, fh)
    assert share.bucket.get("new") == b"new"
    assert share.load("file") == b"data"


@pytest.mark.slow
def test_a_server_that_says_nothing(silent: Start) -> None:
    assert "no answer in time" in silent.line()
