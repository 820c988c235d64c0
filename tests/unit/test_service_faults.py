# SPDX-License-Identifier: Apache-2.0
"""The storage service on bad days: each failure of the server or the network is an errno, in time.

Deadlines and pauses are shortened here; that those of ``operators.py`` add up to a minute is
reckoned, not waited for.
"""

from __future__ import annotations

import asyncio
import errno
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ovfs.errors import UsageError
from ovfs.remote import operators, upload_stream
from ovfs.remote import service as service_module
from ovfs.remote.errors import ConflictError, FsError
from ovfs.remote.operators import Patience
from ovfs.remote.service import Service, Upload
from tests.services.fault_proxy import FaultProxy
from tests.services.faults import Cut, DropResponse, Fault, Hang, Reset, Slow, Status
from tests.unit.test_service import errno_of, keys_of, remote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.services.bucket import Bucket
    from tests.services.seaweed import SeaweedFS

DATA = bytes(range(256)) * 4096  # 1 MiB
OPERATIONS: dict[str, Any] = {
    "stat": lambda service: service.stat("f"),
    "list": keys_of,
    "read": lambda service: service.read("f", 100, 500_000),
    "put": lambda service: service.put("g", DATA),
    "delete": lambda service: service.delete("none"),
    "copy": lambda service: service.copy("f", "h"),
    "make_dir": lambda service: service.make_dir("d/"),
}


@pytest.fixture(scope="module")
def proxy(seaweed: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.port) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(proxy: FaultProxy) -> Iterator[None]:
    yield
    proxy.clear()
    proxy.up()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Patience(answer=1.0, data=1.0, retries=3, pause=0.01, max_pause=0.05)
    for name in ("START", "CONTROL", "DATA"):
        monkeypatch.setattr(operators, name, quick)
    monkeypatch.setattr(operators, "UPLOAD", replace(quick, answer=5.0, data=5.0))
    monkeypatch.setattr(service_module, "DEADLINE", 4.0)
    monkeypatch.setattr(upload_stream, "STEP_DEADLINE", 7.0)


@pytest.fixture
def on_proxy(
    seaweed: SeaweedFS, proxy: FaultProxy, bucket: Bucket
) -> Callable[[Callable[[Service], Awaitable[object]]], None]:
    bucket.put("f", DATA)

    def run(work: Callable[[Service], Awaitable[object]]) -> None:
        async def main() -> None:
            url = seaweed.url(f"/{bucket.root}", endpoint=proxy.endpoint)
            service = await Service.open(remote(url))
            try:
                await work(service)
            finally:
                await service.close()

        asyncio.run(main())

    return run


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize(
    ("status", "number", "tries"),
    [
        (400, errno.EIO, 1),
        (403, errno.EACCES, 1),
        (429, errno.EIO, 4),
        (500, errno.EIO, 4),
        (503, errno.EIO, 4),
        (507, errno.ENOSPC, None),
    ],
)
def test_an_error_that_stays(
    on_proxy: Any, proxy: FaultProxy, *, status: int, number: int, tries: int | None
) -> None:
    async def work(service: Service) -> None:
        for name, operation in OPERATIONS.items():
            with proxy.fault(Status(status)) as rule, within(6):
                found = await errno_of(operation(service))
            assert found == number, name
            assert tries is None or rule.hits == tries, name

    on_proxy(work)


@pytest.mark.parametrize(
    "fault", [Status(500), Status(503), Status(429), Reset(), DropResponse()], ids=repr
)
def test_an_error_that_passes(on_proxy: Any, proxy: FaultProxy, fault: Fault) -> None:
    async def work(service: Service) -> None:
        for name, operation in OPERATIONS.items():
            with proxy.fault(fault, times=2) as rule, within(5):
                await operation(service)
            assert rule.hits == 2, name

    on_proxy(work)


@pytest.mark.parametrize("how", ["close", "reset", "hang"])
@pytest.mark.parametrize("length", [0, 1, 400_000])
def test_a_body_that_is_cut_short_once(
    on_proxy: Any, proxy: FaultProxy, how: str, length: int
) -> None:
    async def work(service: Service) -> None:
        with proxy.fault(Cut(length, how), method="GET", times=1) as rule, within(8):
            assert await service.read("f", 100, 500_000) == DATA[100:500_100]
        assert rule.hits == 1

    on_proxy(work)


@pytest.mark.parametrize("how", ["close", "reset", "hang"])
def test_a_body_that_is_always_cut_short(on_proxy: Any, proxy: FaultProxy, how: str) -> None:
    async def work(service: Service) -> None:
        with proxy.fault(Cut(0, how), method="GET"), within(16):
            assert await errno_of(service.read("f", 0, 100_000)) == errno.EIO

    on_proxy(work)


def test_a_server_that_does_not_answer(on_proxy: Any, proxy: FaultProxy) -> None:
    async def work(service: Service) -> None:
        calls = [operation(service) for operation in OPERATIONS.values()]
        with proxy.fault(Hang()), within(18):
            results = await asyncio.gather(*calls, return_exceptions=True)
        for name, result in zip(OPERATIONS, results, strict=True):
            assert isinstance(result, FsError), name
            assert (result.errno, "no answer" in str(result)) == (errno.EIO, True), name
        for operation in OPERATIONS.values():
            await operation(service)  # nothing of it stays

    on_proxy(work)


def test_a_server_that_is_down(on_proxy: Any, proxy: FaultProxy) -> None:
    async def work(service: Service) -> None:
        for operation in OPERATIONS.values():
            proxy.down()
            with within(5), pytest.raises(FsError, match="cannot be reached") as caught:
                await operation(service)
            assert caught.value.errno == errno.EIO
            proxy.up()
            await operation(service)

    on_proxy(work)


def test_a_server_that_comes_back_in_time(on_proxy: Any, proxy: FaultProxy) -> None:
    async def work(service: Service) -> None:
        proxy.down()
        read = asyncio.create_task(service.read("f", 0, 10))
        await asyncio.sleep(0.03)
        proxy.up()
        assert await read == DATA[:10]

    on_proxy(work)


def test_a_slow_body_is_no_failure(on_proxy: Any, proxy: FaultProxy) -> None:
    """Longer than the deadline of an attempt, but never silent for that long."""

    async def work(service: Service) -> None:
        with proxy.fault(Slow(250_000), method="GET"):
            started = time.monotonic()
            assert await service.read("f", 0, 400_000) == DATA[:400_000]
            assert time.monotonic() - started > 1.1

    on_proxy(work)


def test_what_is_not_there_is_no_failure(on_proxy: Any, proxy: FaultProxy) -> None:
    async def work(service: Service) -> None:
        with proxy.fault(Status(404)):
            assert await service.stat("f") is None
            assert await errno_of(service.read("f", 0, 1)) == errno.ENOENT
            await service.delete("f")

    on_proxy(work)


def test_a_condition_that_fails(on_proxy: Any, proxy: FaultProxy) -> None:
    async def work(service: Service) -> None:
        with proxy.fault(Status(412)):
            for call in (
                service.put("f", b"x", if_match='"x"'),
                service.put("f", b"x", if_none=True),
                service.read("f", 0, 1, etag='"x"'),
                service.delete("f", if_match='"x"'),
            ):
                with pytest.raises(ConflictError):
                    await call

    on_proxy(work)


def test_stuck_reads_hold_up_nothing_else(on_proxy: Any, proxy: FaultProxy) -> None:
    async def work(service: Service) -> None:
        with proxy.fault(Hang(), method="GET", target="/f") as rule:
            reads = [asyncio.create_task(service.read("f", 0, 10)) for _ in range(100)]
            await asyncio.to_thread(rule.wait_hit, 40)
            with within(2):
                assert await keys_of(service) == ["f"]
                assert await service.stat("f")
            results = await asyncio.gather(*reads, return_exceptions=True)
        assert {type(result) for result in results} == {FsError}

    on_proxy(work)


def test_a_call_that_is_cancelled_ends(on_proxy: Any, proxy: FaultProxy) -> None:
    async def work(service: Service) -> None:
        with proxy.fault(Hang()) as rule:
            read = asyncio.create_task(service.read("f", 0, 10))
            await asyncio.to_thread(rule.wait_hit)
            read.cancel()
            with within(1), pytest.raises(asyncio.CancelledError):
                await read
        assert await service.read("f", 0, 10) == DATA[:10]

    on_proxy(work)


async def send(upload: Upload) -> None:
    for _ in range(20):
        await upload.write(bytes(upload.part_size))
    await upload.commit()


@pytest.mark.parametrize(
    ("fault", "number"),
    [(Hang(), errno.EIO), (Status(500), errno.EIO), (Status(507), errno.ENOSPC),
     (Status(403), errno.EACCES)],
    ids=repr,
)  # fmt: skip
def test_parts_that_fail(
    on_proxy: Any, proxy: FaultProxy, bucket: Bucket, fault: Fault, number: int
) -> None:
    async def work(service: Service) -> None:
        upload = await service.writer("big")
        with proxy.fault(fault, method="PUT"), within(20):
            with pytest.raises(FsError) as caught:
                await send(upload)
            assert caught.value.errno == number
            assert await errno_of(upload.write(b"x")) == errno.EIO  # it does not go on
            assert await errno_of(upload.commit()) == errno.EIO
            await upload.abort()
        assert bucket.keys() == ["f"]
        assert bucket.uploads() == []

    on_proxy(work)


def test_parts_that_fail_once_are_sent_again(
    on_proxy: Any, proxy: FaultProxy, bucket: Bucket
) -> None:
    async def work(service: Service) -> None:
        upload = await service.writer("big")
        with proxy.fault(Reset(), method="PUT", times=3), proxy.fault(
            Status(503), method="POST", times=2
        ):  # fmt: skip
            for _ in range(4):
                await upload.write(DATA * 8)
            await upload.commit()
        assert bucket.get("big") == DATA * 32

    on_proxy(work)


def test_a_commit_whose_answer_is_lost(on_proxy: Any, proxy: FaultProxy, bucket: Bucket) -> None:
    """It is asked again, and succeeds or finds a conflict with itself; the object is whole."""

    async def work(service: Service) -> None:
        for number, if_none in enumerate((False, True)):
            upload = await service.writer(f"big{number}", meta={"id": "mine"}, if_none=if_none)
            for _ in range(3):
                await upload.write(DATA * 8)
            with proxy.fault(DropResponse(), method="POST", target="uploadId", times=1) as rule:
                try:
                    await upload.commit()
                except ConflictError:
                    await upload.abort()
            assert rule.hits == 1
            info = await service.stat(f"big{number}")
            assert info is not None
            assert (info.size, info.meta) == (24 << 20, {"id": "mine"})
        assert bucket.uploads() == []

    on_proxy(work)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Hang(), "no answer in time"),
        (Status(500), "the service failed"),
        (Status(503), "asks to slow down"),
        (Status(403), "access denied .*check the credentials"),
        (Status(404), "nothing at this address: check endpoint, bucket and root"),
        (Reset(), "cannot be reached"),
    ],
    ids=repr,
)
def test_what_fails_at_start(
    seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str, fault: Fault, words: str
) -> None:
    url = seaweed.url(bucket_root, endpoint=proxy.endpoint)
    with proxy.fault(fault), within(11), pytest.raises(UsageError, match=words) as caught:
        asyncio.run(Service.open(remote(url)))
    assert "\n" not in str(caught.value)
    assert seaweed.secret_key not in str(caught.value)


def test_patience_adds_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for patience in (operators.CONTROL, operators.DATA, operators.UPLOAD):
        pauses = sum(
            min(patience.max_pause, patience.pause * 2**number)
            for number in range(patience.retries)
        )
        assert 30 < pauses < 40  # with jitter, up to twice that, which the deadline cuts off
        assert patience.answer <= service_module.DEADLINE
    assert service_module.DEADLINE == 60
    assert operators.START.answer * 2 < 10
    assert replace(operators.DATA, data=10.0) == operators.CONTROL
