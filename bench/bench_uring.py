# SPDX-License-Identifier: Apache-2.0
"""ovfs.uring against plain system calls: 64 operations of 4 KiB a round.

What the numbers are of: Python's cost per operation, kernel included, on one thread. The nop batch
is the null backend (queueing, one io_uring_enter, reaping). Cached reads show what the ring costs
where it has nothing to overlap; O_DIRECT reads show what overlap brings on the disk below.
"""

import asyncio
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ovfs.uring import AsyncRing, Ring

COUNT = 64
BLOCK = 4096
ROUNDS = 200
WARM_UP = 20
PLACES = ["/tmp", "/dev/shm"]  # noqa: S108  files are made exclusively there, and unlinked at once

Job = Callable[[], object]


def measure(benchmark: BenchmarkFixture, job: Job) -> None:
    """Fixed rounds, so that every case does the same work."""
    benchmark.pedantic(job, rounds=ROUNDS, warmup_rounds=WARM_UP)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uring") / "blocks"
    with path.open("wb") as file:
        file.write(os.urandom(COUNT * BLOCK))
        os.fsync(file.fileno())
    return path


@pytest.fixture(params=["cached", "direct"])
def fd(request: pytest.FixtureRequest, path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if request.param == "direct" else 0))
    yield fd
    os.close(fd)


@pytest.fixture
def buffers() -> list[memoryview]:
    memory = memoryview(mmap.mmap(-1, COUNT * BLOCK))  # page-aligned, as O_DIRECT wants
    return [memory[i * BLOCK : (i + 1) * BLOCK] for i in range(COUNT)]


def check(path: Path, buffers: list[memoryview]) -> None:
    assert b"".join(buffers) == path.read_bytes()


def test_read_64_blocks_preadv(
    benchmark: BenchmarkFixture, path: Path, fd: int, buffers: list[memoryview]
) -> None:
    def job() -> None:
        for index, buffer in enumerate(buffers):
            os.preadv(fd, [buffer], index * BLOCK)

    measure(benchmark, job)
    check(path, buffers)


def test_read_64_blocks_ring(
    benchmark: BenchmarkFixture, path: Path, fd: int, buffers: list[memoryview]
) -> None:
    with Ring(COUNT) as ring:

        def job() -> None:
            with ring.batch() as batch:
                for index, buffer in enumerate(buffers):
                    batch.read(fd, buffer, index * BLOCK)

        measure(benchmark, job)
        statistics = ring.statistics()
    assert statistics.submitted == COUNT * statistics.submits
    check(path, buffers)


def test_read_64_blocks_async_ring(
    benchmark: BenchmarkFixture, path: Path, fd: int, buffers: list[memoryview]
) -> None:
    with asyncio.Runner() as runner:

        async def make() -> AsyncRing:
            return AsyncRing(COUNT)

        ring = runner.run(make())

        async def read() -> None:
            await asyncio.gather(
                *(ring.read(fd, buffer, i * BLOCK) for i, buffer in enumerate(buffers))
            )

        measure(benchmark, lambda: runner.run(read()))
        statistics = ring.statistics()
        runner.run(ring.aclose())
    assert statistics.submitted == COUNT * statistics.submits
    check(path, buffers)


def test_nop_64_ring(benchmark: BenchmarkFixture) -> None:
    with Ring(COUNT) as ring:

        def job() -> None:
            with ring.batch() as batch:
                for _ in range(COUNT):
                    batch.nop()

        measure(benchmark, job)
        assert ring.statistics().submitted == COUNT * (ROUNDS + WARM_UP)


@pytest.mark.parametrize("directory", PLACES, ids=["disk", "tmpfs"])
@pytest.mark.parametrize("way", ["pwritev", "ring"])
def test_write_64_blocks(benchmark: BenchmarkFixture, directory: str, way: str) -> None:
    path = Path(directory) / f"bench-uring-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    path.unlink()
    block = os.urandom(BLOCK)

    def pwritev() -> None:
        for index in range(COUNT):
            os.pwritev(fd, [block], index * BLOCK)

    with Ring(COUNT) as ring:

        def batched() -> None:
            with ring.batch() as batch:
                for index in range(COUNT):
                    batch.write(fd, block, index * BLOCK)

        job: Job = pwritev if way == "pwritev" else batched
        measure(benchmark, job)
    assert os.pread(fd, COUNT * BLOCK, 0) == block * COUNT
    os.close(fd)
