# SPDX-License-Identifier: Apache-2.0
"""What is in flight: cancelling, closing, overflow, lifetime of buffers, threads, fork."""

import errno
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ovfs.uring import Operation, Ring, SetupFlags, _uring
from ovfs.uring import core as uring_core


class Tracked(bytearray):
    """A buffer whose end can be seen."""


def run(thread: threading.Thread) -> None:
    thread.start()
    thread.join()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    out, into = os.pipe()
    yield out, into
    os.close(out)
    os.close(into)


@pytest.fixture(params=[SetupFlags.DEFAULT, SetupFlags.NONE], ids=["flags", "no flags"])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring(8, flags=request.param) as ring:
        yield ring


def test_cancel_before_submission_prevents_the_operation(ring: Ring, pipe: tuple[int, int]) -> None:
    write = ring.write(pipe[1], b"x")
    ring.cancel(write)
    ring.cancel(write)
    assert ring.wait() == [write]
    with pytest.raises(OSError, match="Operation canceled") as caught:
        write.result()
    assert caught.value.errno == errno.ECANCELED
    os.set_blocking(pipe[0], False)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


def test_cancel_ends_an_operation_that_waits_in_the_kernel(
    ring: Ring, pipe: tuple[int, int]
) -> None:
    read = ring.read(pipe[0], bytearray(1))
    ring.submit()
    ring.cancel(read)
    assert ring.wait(1, timeout=5) == [read]
    error = read.exception()
    assert error is not None
    assert error.errno == errno.ECANCELED


def test_cancelling_what_is_done_does_nothing(ring: Ring) -> None:
    operation = ring.nop()
    ring.wait()
    ring.cancel(operation)
    assert operation.result() is None
    assert ring.in_flight == 0


def test_closing_cancels_and_reaps_what_is_in_flight(pipe: tuple[int, int]) -> None:
    ring = Ring(8)
    buffer = bytearray(4)
    operations: list[Operation[Any]] = [ring.read(pipe[0], buffer), ring.timeout(3600)]
    ring.submit()
    operations.append(ring.read(pipe[0], buffer))
    start = time.monotonic()
    ring.close()
    assert time.monotonic() - start < 5
    errors = [operation.exception() for operation in operations]
    assert [error.errno for error in errors if error] == [errno.ECANCELED] * 3
    buffer.extend(b"free to grow again")
    ring.close()
    assert ring.closed


def test_a_closed_ring_refuses_everything() -> None:
    ring = Ring(8)
    ring.close()
    calls: list[Callable[[], object]]
    calls = [ring.nop, ring.submit, ring.wait, ring.batch, ring.fileno, ring.statistics]
    for call in calls:
        with pytest.raises(ValueError, match="the ring is closed"):
            call()
    with pytest.raises(ValueError, match="the ring is closed"):
        ring.read(0, bytearray(1), 0)


def test_a_buffer_in_flight_cannot_be_resized(ring: Ring, pipe: tuple[int, int]) -> None:
    buffer = bytearray(4)
    read = ring.read(pipe[0], buffer)
    ring.submit()
    with pytest.raises(BufferError):
        buffer.extend(b"x")
    os.write(pipe[1], b"data")
    assert ring.wait() == [read]
    assert buffer == b"data"
    buffer.extend(b"x")


def test_a_buffer_lives_until_its_completion(ring: Ring, pipe: tuple[int, int]) -> None:
    buffer = Tracked(4)
    alive = weakref.ref(buffer)
    ring.read(pipe[0], buffer)
    ring.submit()
    del buffer
    gc.collect()
    assert alive() is not None
    os.write(pipe[1], b"data")
    (read,) = ring.wait()
    assert read.result() == 4
    gc.collect()
    assert alive() is None


def test_a_forgotten_ring_closes_itself_and_complains(pipe: tuple[int, int]) -> None:
    ring = Ring(8)
    buffer = Tracked(4)
    alive = weakref.ref(buffer)
    read = ring.read(pipe[0], buffer)
    ring.submit()
    del buffer
    with pytest.warns(ResourceWarning, match="unclosed ring"):
        del ring
    assert read.done
    assert alive() is None


def test_a_ring_forgotten_in_another_thread_never_frees_its_buffers(
    pipe: tuple[int, int],
) -> None:
    held: list[Ring] = [Ring(8)]
    buffer = Tracked(4)
    alive = weakref.ref(buffer)
    held[0].read(pipe[0], buffer)
    held[0].submit()
    del buffer
    before = len(uring_core._orphans)
    thread = threading.Thread(target=held.clear)
    with pytest.warns(ResourceWarning, match="unclosed ring"):
        run(thread)
    assert len(uring_core._orphans) == before + 1
    assert alive() is not None


@pytest.mark.parametrize("flags", [SetupFlags.DEFAULT, SetupFlags.NONE])
def test_more_completions_than_the_queue_holds_are_not_lost(flags: SetupFlags) -> None:
    with Ring(4, cq_entries=4, flags=flags) as ring:
        operations = [ring.nop() for _ in range(1000)]
        ring.submit()
        done = ring.wait(1000)
        assert ring.in_flight == 0
    assert set(done) == set(operations)
    assert [op.result() for op in operations] == [None] * 1000


def test_another_thread_is_refused(ring: Ring) -> None:
    errors: list[BaseException] = []

    def intrude() -> None:
        for call in (ring.nop, ring.submit, ring.wait, ring.close, ring.batch):
            try:
                call()
            except RuntimeError as error:
                errors.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert len(errors) == 5
    assert "thread that made it" in str(errors[0])
    assert ring.nop() in ring.wait()


def test_a_forked_child_cannot_use_the_ring(ring: Ring, pipe: tuple[int, int]) -> None:
    buffer = bytearray(4)
    read = ring.read(pipe[0], buffer)
    ring.submit()
    child = os.fork()
    if child == 0:
        try:
            ring.nop()
        except ValueError:
            with Ring(8) as own:
                os._exit(0 if len([own.nop(), *own.wait()]) == 2 else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.write(pipe[1], b"data")
    assert ring.wait() == [read]
    assert buffer == b"data"


def test_a_signal_interrupts_waiting_and_loses_nothing(ring: Ring, pipe: tuple[int, int]) -> None:
    class AlarmError(Exception):
        pass

    def on_alarm(_number: int, _frame: object) -> None:
        raise AlarmError

    read = ring.read(pipe[0], bytearray(4))
    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(AlarmError):
            ring.wait()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not read.done
    os.write(pipe[1], b"data")
    assert ring.wait() == [read]


def test_a_signal_that_raises_nothing_does_not_end_the_wait(ring: Ring) -> None:
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        operation = ring.timeout(0.1)
        assert ring.wait() == [operation]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_exception_while_completing_loses_no_other_completion(ring: Ring) -> None:
    class Interrupting:
        token = 0

        def finish(self, _result: int) -> None:
            raise KeyboardInterrupt

    first = ring.nop()
    ring._queue(Interrupting(), _uring.lib.uring_nop, 0)
    last = ring.nop()
    with pytest.raises(KeyboardInterrupt):
        ring.wait(3)
    assert ring.wait(1) == [first, last]


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="1 to 32768"):
        Ring(0)
    with pytest.raises(ValueError, match="entries=40000"):
        Ring(40_000)
    with pytest.raises(ValueError, match="cq_entries=4"):
        Ring(8, cq_entries=4)
    with pytest.raises(ValueError, match="only SetupFlags"):
        Ring(8, flags=SetupFlags(2))
    with Ring(5, cq_entries=100, flags=SetupFlags.NONE) as ring:
        assert (ring.entries, ring.cq_entries, ring.flags) == (8, 128, SetupFlags.NONE)


def test_no_descriptor_is_left_behind() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Ring(8) as ring:
            ring.nop()
    assert sorted(os.listdir("/proc/self/fd")) == before
