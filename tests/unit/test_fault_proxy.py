# SPDX-License-Identifier: Apache-2.0
"""The fault proxy does what it says, and nothing without being told."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from tests.services.bucket import Bucket
from tests.services.fault_proxy import FaultProxy
from tests.services.faults import Cut, Delay, DropResponse, Hang, Reset, Slow, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.seaweed import SeaweedFS

MIB = 1 << 20


class Behind:
    """A service as it is reached through a proxy."""

    def __init__(self, service: SeaweedFS, proxy: FaultProxy) -> None:
        self.bucket = service.bucket
        self.region = service.region
        self.endpoint = proxy.endpoint
        self.access_key = service.access_key
        self.secret_key = service.secret_key


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.port) as running:
        yield running


@pytest.fixture
def through(seaweed: SeaweedFS, proxy: FaultProxy, bucket: Bucket) -> Bucket:
    """The bucket through the proxy; `bucket` is the same one without it."""
    return Bucket(Behind(seaweed, proxy), bucket.root, timeout=10.0)


def status_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_without_rules_everything_passes_unchanged(through: Bucket, bucket: Bucket) -> None:
    data = os.urandom(5 * MIB + 17)
    etag = through.put("a b/ü", data, {"mode": "33188"})
    assert bucket.get("a b/ü") == data
    assert through.get("a b/ü") == data
    head = through.head("a b/ü")
    assert head is not None
    assert (head.etag, head.meta, head.size) == (etag, {"mode": "33188"}, len(data))
    assert through.keys() == ["a b/ü"]
    assert through.head("none") is None


def test_requests_are_seen_decoded(through: Bucket, proxy: FaultProxy) -> None:
    through.put("a b", b"")
    seen = proxy.seen("PUT", "/a b")
    assert len(seen) == 1
    assert seen[0].headers["content-length"] == "0"
    assert seen[0].fault is None
    proxy.forget_seen()
    assert proxy.seen() == []


CODES = {
    403: "AccessDenied",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}


@pytest.mark.parametrize("number", CODES)
def test_a_status_is_answered_and_the_server_hears_nothing(
    through: Bucket, bucket: Bucket, proxy: FaultProxy, number: int
) -> None:
    with proxy.fault(Status(number), method="PUT") as rule:
        with pytest.raises(ClientError) as error:
            through.put("name", b"content" * 10000)
        assert status_of(error) == (number, CODES[number])
        assert rule.hits == 1
    assert bucket.keys() == []
    through.put("name", b"content")
    assert bucket.get("name") == b"content"


def test_rules_count_and_skip(through: Bucket, proxy: FaultProxy) -> None:
    through.put("name", b"x")
    rule = proxy.add(Status(404), method="GET|HEAD", target="/name", times=2, skip=1)
    answers = [through.head("name") is not None for _ in range(5)]
    assert answers == [True, False, False, True, True]
    assert rule.hits == 2


def test_rules_take_paths_and_queries(through: Bucket, proxy: FaultProxy) -> None:
    through.put("one", b"1")
    through.put("two", b"2")
    with proxy.fault(Status(500), target=r"/two$"):
        assert through.get("one") == b"1"
        with pytest.raises(ClientError):
            through.get("two")
    with proxy.fault(Status(500), target=r"list-type=2"):
        with pytest.raises(ClientError):
            through.keys()
        assert through.get("two") == b"2"


def test_a_delay_delays(through: Bucket, proxy: FaultProxy) -> None:
    through.put("name", b"x")
    with proxy.fault(Delay(0.3)):
        began = time.monotonic()
        assert through.get("name") == b"x"
        assert 0.3 <= time.monotonic() - began < 2.0


@contextlib.contextmanager
def fetch(proxy: FaultProxy, timeout: float = 5.0) -> Iterator[http.client.HTTPResponse]:
    """Sends an unsigned request, which the server refuses with a body."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        with connection.getresponse() as answer:
            yield answer


def status(proxy: FaultProxy, timeout: float = 5.0) -> int:
    """The status of such a request."""
    with fetch(proxy, timeout) as answer:
        answer.read()
        return answer.status


def test_a_hanging_request_hangs_until_the_rule_goes(proxy: FaultProxy) -> None:
    rule = proxy.add(Hang())
    with pytest.raises(TimeoutError):
        status(proxy, timeout=0.3)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            status(proxy)
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    rule.wait_hit(2)
    assert thread.is_alive()
    proxy.remove(rule)
    thread.join()
    assert isinstance(ended[0], ConnectionResetError)
    assert status(proxy) == 403


def put_and_fail(bucket: Bucket) -> None:
    with pytest.raises(BotoCoreError):
        bucket.put("name", b"content")


def test_a_hang_behind_the_server_takes_effect(
    through: Bucket, bucket: Bucket, proxy: FaultProxy
) -> None:
    with proxy.fault(Hang(forwarded=True), method="PUT") as rule:
        thread = threading.Thread(target=put_and_fail, args=(through,))
        thread.start()
        rule.wait_hit()
        deadline = time.monotonic() + 5
        while not bucket.keys() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bucket.get("name") == b"content"
        assert thread.is_alive()
    thread.join()


def test_a_reset_resets(proxy: FaultProxy) -> None:
    with proxy.fault(Reset(), times=1) as rule:
        with pytest.raises(ConnectionResetError):
            status(proxy)
        assert status(proxy) == 403
        assert rule.hits == 1


def test_a_dropped_response_took_effect(through: Bucket, bucket: Bucket, proxy: FaultProxy) -> None:
    with proxy.fault(DropResponse(), method="PUT") as rule:
        put_and_fail(through)
        assert rule.hits == 1
    assert bucket.get("name") == b"content"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_body_is_cut_short(proxy: FaultProxy, how: str) -> None:
    wrong = http.client.IncompleteRead if how == "close" else ConnectionResetError
    with proxy.fault(Cut(20, how)), fetch(proxy) as answer:
        assert answer.status == 403
        assert answer.length is not None
        assert answer.length > 20
        with pytest.raises(wrong):
            answer.read()


def test_a_body_stalls(proxy: FaultProxy) -> None:
    with proxy.fault(Cut(20, "hang")), fetch(proxy, timeout=0.3) as answer:
        assert len(answer.read(20)) == 20
        with pytest.raises(TimeoutError):
            answer.read(1)


def test_a_slow_body_comes_at_its_rate(through: Bucket, proxy: FaultProxy) -> None:
    through.put("name", b"x" * 100_000)
    with proxy.fault(Slow(200_000)):
        began = time.monotonic()
        assert len(through.get("name")) == 100_000
        assert 0.4 < time.monotonic() - began < 3.0


def _read_out(sock: socket.socket) -> None:
    while sock.recv(1 << 16):  # the rest of an answer may have been on its way
        continue


def test_down_refuses_and_up_is_the_same_port(proxy: FaultProxy) -> None:
    port = proxy.port
    with socket.create_connection(("127.0.0.1", port)) as held:
        held.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert held.recv(1 << 16).startswith(b"HTTP/1.1 403")
        proxy.down()
        with pytest.raises(ConnectionResetError):
            _read_out(held)
    with pytest.raises(ConnectionRefusedError):
        status(proxy)
    proxy.up()
    assert proxy.port == port
    assert status(proxy) == 403


def test_a_server_that_is_gone_is_a_reset(seaweed: SeaweedFS) -> None:
    with FaultProxy(1) as proxy, pytest.raises(ConnectionResetError):
        status(proxy)
