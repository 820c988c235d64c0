# SPDX-License-Identifier: Apache-2.0
"""AsyncRing: batching by tick, back-pressure, cancellation, closing."""

import asyncio
import errno
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovfs.uring import AsyncRing, SetupFlags, SqeFlags

both = pytest.mark.parametrize(
    "flags", [SetupFlags.DEFAULT, SetupFlags.NONE], ids=["flags", "no flags"]
)


class Tracked(bytearray):
    """A buffer whose end can be seen."""


def forget(kept: list[AsyncRing]) -> None:
    kept.clear()
    gc.collect()  # a ring and its operations in flight know each other


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    out, into = os.pipe()
    yield out, into
    os.close(out)
    os.close(into)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@both
def test_operations_are_awaited(flags: SetupFlags, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncRing(flags=flags) as ring:
            fd = await ring.openat(tmp_path / "new", os.O_RDWR | os.O_CREAT)
            assert await ring.write(fd, b"hello world", 0) == 11
            buffer = bytearray(5)
            assert await ring.read(fd, buffer, 6) == 5
            assert buffer == b"world"
            assert (await ring.statx(tmp_path / "new")).size == 11
            await ring.fsync(fd)
            await ring.close_fd(fd)
            with pytest.raises(FileNotFoundError, match="openat"):
                await ring.openat(tmp_path / "missing")

    asyncio.run(main())


@both
def test_64_reads_of_one_tick_cost_one_submit(flags: SetupFlags, file: int) -> None:
    content = os.urandom(64 * 512)
    os.pwrite(file, content, 0)

    async def main() -> None:
        async with AsyncRing(flags=flags) as ring:
            buffers = [bytearray(512) for _ in range(64)]

            async def one(index: int) -> int:
                return await ring.read(file, buffers[index], index * 512)

            assert await asyncio.gather(*map(one, range(64))) == [512] * 64
            assert b"".join(buffers) == content
            statistics = ring.statistics()
            assert (statistics.submits, statistics.submitted) == (1, 64)

    asyncio.run(main())


@both
def test_completions_that_come_later_wake_the_loop(
    flags: SetupFlags, pipe: tuple[int, int]
) -> None:
    async def main() -> None:
        async with AsyncRing(flags=flags) as ring:
            for round_ in range(20):
                buffer = bytearray(4)
                read = ring.read(pipe[0], buffer)
                await asyncio.sleep(0.001 * (round_ % 3))
                assert not read.done()
                threading.Thread(target=os.write, args=(pipe[1], b"data")).start()
                assert await asyncio.wait_for(read, 5) == 4
                assert buffer == b"data"
            await asyncio.wait_for(ring.timeout(0.01), 5)

    asyncio.run(main())


@both
def test_more_operations_than_slots_wait_their_turn(
    flags: SetupFlags, pipe: tuple[int, int]
) -> None:
    async def main() -> None:
        async with AsyncRing(4, cq_entries=8, flags=flags) as ring:
            reads = [ring.read(pipe[0], bytearray(1)) for _ in range(50)]
            await asyncio.sleep(0)
            statistics = ring.statistics()
            assert (statistics.in_flight, statistics.waiting) == (8, 42)
            os.write(pipe[1], bytes(50))
            assert await asyncio.wait_for(asyncio.gather(*reads), 5) == [1] * 50
            assert ring.statistics().waiting == 0

    asyncio.run(main())


@both
def test_a_thousand_operations_through_a_small_ring(flags: SetupFlags, file: int) -> None:
    async def main() -> None:
        async with AsyncRing(4, flags=flags) as ring:
            writes = (
                ring.write(file, index.to_bytes(2, "big"), 2 * index) for index in range(1000)
            )
            assert await asyncio.wait_for(asyncio.gather(*writes), 10) == [2] * 1000

    asyncio.run(main())
    assert os.pread(file, 3000, 0) == b"".join(i.to_bytes(2, "big") for i in range(1000))


def test_a_cancelled_task_resumes_when_the_kernel_let_go(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        async with AsyncRing() as ring:
            buffer = Tracked(4)
            alive = weakref.ref(buffer)

            async def reader(buffer: Tracked) -> None:
                try:
                    await ring.read(pipe[0], buffer)
                finally:
                    assert ring.in_flight == 0
                    buffer.extend(b"ours again")

            task = asyncio.create_task(reader(buffer))
            await asyncio.sleep(0.01)
            assert ring.in_flight == 1
            task.cancel()
            assert not task.done()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 5)
            assert task.cancelled()
            del buffer, task
            gc.collect()
            assert alive() is None
            os.write(pipe[1], b"later")
            assert await ring.read(pipe[0], bytearray(9)) == 5

    asyncio.run(main())


def test_a_write_cancelled_in_its_tick_is_not_carried_out(file: int) -> None:
    async def main() -> None:
        async with AsyncRing() as ring:
            write = ring.write(file, b"never", 0)
            assert write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            assert write.cancelled()
            assert not write.cancel()

    asyncio.run(main())
    assert os.fstat(file).st_size == 0


def test_an_operation_cancelled_while_it_waits_never_starts(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        async with AsyncRing(4, cq_entries=4) as ring:
            reads = [ring.read(pipe[0], bytearray(1)) for _ in range(4)]
            waiting = ring.write(pipe[1], b"never")
            last = ring.nop()
            waiting.cancel()
            assert waiting.cancelled()
            reads[0].cancel()
            await asyncio.wait_for(last, 5)
            for read in reads:
                read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
            assert ring.statistics().submitted < 12

    asyncio.run(main())
    os.set_blocking(pipe[0], False)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


def test_timeouts_of_asyncio_cancel_the_operation(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        async with AsyncRing() as ring:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await ring.read(pipe[0], bytearray(1))
            assert ring.in_flight == 0

    asyncio.run(main())


def test_a_cancelled_openat_leaves_no_descriptor(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncRing() as ring:
            before = sorted(os.listdir("/proc/self/fd"))
            opened = ring.openat(tmp_path, flags=SqeFlags.ASYNC)
            ring._submit()
            opened.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opened
            assert sorted(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


@both
def test_chains_hold_through_back_pressure(flags: SetupFlags, tmp_path: Path) -> None:
    """Each chain is write, fsync, write; every second one starts with a failure."""
    paths = [tmp_path / str(index) for index in range(20)]
    fds = [os.open(path, os.O_RDWR | os.O_CREAT) for path in paths]

    async def main() -> None:
        async with AsyncRing(8, cq_entries=8, flags=flags) as ring:
            operations = []
            for index, fd in enumerate(fds):
                first = fd if index % 2 else -1
                operations += [
                    ring.write(first, b"a", 0, flags=SqeFlags.LINK),
                    ring.write(fd, b"b", 1, flags=SqeFlags.LINK),
                    ring.write(fd, b"c", 2),
                ]
            results = await asyncio.wait_for(
                asyncio.gather(*operations, return_exceptions=True), 10
            )
        for index in range(20):
            chain = results[3 * index : 3 * index + 3]
            if index % 2:
                assert chain == [1, 1, 1]
            else:
                codes = [result.errno for result in chain if isinstance(result, OSError)]
                assert codes == [errno.EBADF, errno.ECANCELED, errno.ECANCELED]

    asyncio.run(main())
    assert [path.read_bytes() for path in paths] == [b"", b"abc"] * 10
    for fd in fds:
        os.close(fd)


def test_a_chain_whose_waiting_head_is_cancelled_fails_whole(
    file: int, pipe: tuple[int, int]
) -> None:
    async def main() -> None:
        async with AsyncRing(4, cq_entries=4) as ring:
            reads = [ring.read(pipe[0], bytearray(1)) for _ in range(4)]
            head = ring.write(file, b"a", 0, flags=SqeFlags.LINK)
            tail = ring.write(file, b"b", 1)
            head.cancel()
            os.write(pipe[1], bytes(4))
            with pytest.raises(OSError, match="Operation canceled"):
                await asyncio.wait_for(tail, 5)
            await asyncio.gather(*reads)

    asyncio.run(main())
    assert os.fstat(file).st_size == 0


def test_closing_fails_what_is_in_flight(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        ring = AsyncRing(4, cq_entries=4)
        reads = [ring.read(pipe[0], bytearray(1)) for _ in range(6)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(ring.aclose(), 5)
        for read in reads:
            error = read.exception()
            assert isinstance(error, OSError)
            assert error.errno == errno.ECANCELED
        assert ring.closed
        await ring.aclose()
        with pytest.raises(ValueError, match="closed"):
            ring.nop()

    asyncio.run(main())


def test_a_forgotten_ring_closes_itself_and_complains(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        ring = AsyncRing()
        alive = weakref.ref(ring)
        await ring.nop()
        await asyncio.sleep(0)  # until then the loop itself holds the nop that woke us
        with pytest.warns(ResourceWarning, match="unclosed ring"):
            del ring
        assert alive() is None

    asyncio.run(main())


def test_a_loop_that_ended_without_aclose(pipe: tuple[int, int]) -> None:
    kept: list[AsyncRing] = []

    async def main() -> None:
        kept.append(AsyncRing())
        kept[0].read(pipe[0], bytearray(1))
        await asyncio.sleep(0)

    asyncio.run(main())
    with pytest.warns(ResourceWarning, match="unclosed ring"):
        forget(kept)


def test_it_needs_a_running_loop_and_its_thread() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncRing()

    async def main() -> None:
        async with AsyncRing() as ring:

            def intrude() -> None:
                ring.nop()

            with pytest.raises(RuntimeError, match="thread that made it"):
                await asyncio.to_thread(intrude)
            await ring.nop()

    asyncio.run(main())
