# SPDX-License-Identifier: Apache-2.0
"""Ring: every operation against what the same system call does, on a disk and on tmpfs."""

import errno
import mmap
import os
import select
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovfs.uring import (
    IOV_MAX,
    MAX_LENGTH,
    Ring,
    SetupFlags,
    SqeFlags,
    StatResult,
)

AT_EMPTY_PATH = 0x1000
AT_REMOVEDIR = 0x200
RENAME_NOREPLACE = 1
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2


@pytest.fixture(params=["disk", "tmpfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="uring-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=[SetupFlags.DEFAULT, SetupFlags.NONE], ids=["flags", "no flags"])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring(16, flags=request.param) as ring:
        yield ring


@pytest.fixture
def file(place: Path) -> Iterator[int]:
    fd = os.open(place / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_read_fills_any_writable_buffer_in_place(ring: Ring, file: int) -> None:
    os.pwrite(file, bytes(range(100)), 0)
    array = bytearray(10)
    part = memoryview(bytearray(30))[10:20]
    mapping = mmap.mmap(-1, 4096)
    with ring.batch() as batch:
        batch.read(file, array, 0)
        batch.read(file, part, 20)
        batch.read(file, mapping, 50)
    assert batch.results() == [10, 10, 50]
    assert array == bytes(range(10))
    assert part.tobytes() == bytes(range(20, 30))
    assert mapping[:50] == bytes(range(50, 100))
    mapping.close()


def test_reads_at_the_end_are_short_and_past_it_empty(ring: Ring, file: int) -> None:
    os.pwrite(file, b"abc", 0)
    buffer = bytearray(8)
    with ring.batch() as batch:
        batch.read(file, buffer, 1)
        batch.read(file, bytearray(8), 3)
        batch.read(file, bytearray(0), 0)
    assert batch.results() == [2, 0, 0]
    assert buffer == b"bc" + bytes(6)


def test_write_takes_any_contiguous_buffer(ring: Ring, file: int) -> None:
    with ring.batch() as batch:
        batch.write(file, b"bytes", 0)
        batch.write(file, bytearray(b"array"), 5)
        batch.write(file, memoryview(b"xxviewxx")[2:6], 10)
    assert batch.results() == [5, 5, 4]
    assert os.pread(file, 100, 0) == b"bytesarrayview"


def test_offset_minus_one_is_the_position_of_the_file(ring: Ring, file: int) -> None:
    for word in (b"one", b"two"):
        with ring.batch() as batch:
            batch.write(file, word)
    assert os.lseek(file, 0, os.SEEK_CUR) == 6
    assert os.pread(file, 10, 0) == b"onetwo"


def test_offsets_beyond_4_gib(ring: Ring, file: int) -> None:
    far = (5 << 30) + 3
    back = bytearray(4)
    with ring.batch() as batch:
        batch.write(file, b"far!", far, flags=SqeFlags.LINK)
        batch.read(file, back, far)
    assert back == b"far!"
    assert os.fstat(file).st_size == far + 4
    with pytest.raises(OverflowError):
        ring.read(file, back, 1 << 63)


def test_vectors(ring: Ring, file: int) -> None:
    first, second = bytearray(3), bytearray(5)
    with ring.batch() as batch:
        batch.writev(file, [b"abc", b"", bytearray(b"defgh")], 7, flags=SqeFlags.LINK)
        batch.readv(file, [first, second], 7)
    assert batch.results() == [8, 8]
    assert [bytes(first), bytes(second)] == [b"abc", b"defgh"]
    with pytest.raises(ValueError, match="at most 1024"):
        ring.writev(file, [b"x"] * (IOV_MAX + 1), 0)


def test_too_long_buffers_are_refused_before_the_kernel_cuts_them_short(
    ring: Ring, file: int
) -> None:
    os.ftruncate(file, MAX_LENGTH + 1)  # a hole: neither memory nor disk is used
    with mmap.mmap(file, MAX_LENGTH + 1) as huge:
        with pytest.raises(ValueError, match="at most 2147479552"):
            ring.read(0, huge, 0)
        with pytest.raises(ValueError, match="at most 2147479552"):
            ring.write(0, huge, 0)
        with pytest.raises(ValueError, match="at most 2147479552"):
            ring.writev(0, [huge, b"x"], 0)
    assert ring.in_flight == 0


def test_buffers_that_cannot_be_read_into_are_refused(ring: Ring, file: int) -> None:
    with pytest.raises(BufferError):
        ring.read(file, b"constant", 0)
    with pytest.raises(BufferError):
        ring.read(file, memoryview(bytearray(8))[::2], 0)
    with pytest.raises(TypeError):
        ring.write(file, "text", 0)  # type: ignore[arg-type]
    assert ring.in_flight == 0


def test_fsync_both_ways(ring: Ring, file: int) -> None:
    with ring.batch() as batch:
        batch.write(file, b"x", 0, flags=SqeFlags.LINK)
        batch.fsync(file, datasync=True, flags=SqeFlags.LINK)
        batch.fsync(file)
    assert batch.results() == [1, None, None]


def test_openat_and_close_fd(ring: Ring, place: Path) -> None:
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    umask = os.umask(0)
    try:
        with ring.batch() as batch:
            opened = batch.openat("new", os.O_CREAT | os.O_RDWR, 0o640, dir_fd=directory)
        fd = opened.result()
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640
        assert not os.get_inheritable(fd)
        with ring.batch() as batch:
            batch.close_fd(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    finally:
        os.umask(umask)
        os.close(directory)


def test_statx_agrees_with_stat(ring: Ring, place: Path, file: int) -> None:
    os.pwrite(file, bytes(5000), 0)
    os.utime(file, ns=(1_234_567_890_123_456_789, 987_654_321))
    with ring.batch() as batch:
        by_path = batch.statx(place / "file")
        by_fd = batch.statx(dir_fd=file, at_flags=AT_EMPTY_PATH)
    seen: StatResult = by_path.result()
    host = os.stat(file)
    assert seen == by_fd.result()
    assert seen[3:10] == (
        host.st_nlink, host.st_uid, host.st_gid, host.st_mode,
        host.st_ino, host.st_size, host.st_blocks,
    )  # fmt: skip
    assert (seen.atime_ns, seen.mtime_ns) == (host.st_atime_ns, host.st_mtime_ns)
    assert (seen.ctime_ns, seen.dev, seen.rdev) == (host.st_ctime_ns, host.st_dev, host.st_rdev)


def test_fallocate_and_ftruncate(ring: Ring, file: int) -> None:
    if not ring.supports("ftruncate"):
        with pytest.raises(OSError, match=r"needs Linux 6\.9") as caught:
            ring.ftruncate(file, 1)
        assert caught.value.errno == errno.EOPNOTSUPP
        os.ftruncate(file, 1 << 16)
    else:
        with ring.batch() as batch:
            batch.ftruncate(file, (5 << 30) + 1, flags=SqeFlags.LINK)
            batch.ftruncate(file, 1 << 16)
    assert os.fstat(file).st_size == 1 << 16
    with ring.batch() as batch:
        batch.fallocate(file, 0, 1 << 17)
    assert os.fstat(file).st_size == 1 << 17
    assert os.fstat(file).st_blocks * 512 >= 1 << 17
    with ring.batch() as batch:
        batch.fallocate(file, 0, 1 << 17, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
    assert os.fstat(file).st_blocks == 0


def test_names(ring: Ring, place: Path) -> None:
    odd = os.fsencode(place) + b"/\xff\xfe"
    with ring.batch() as batch:
        batch.mkdirat(place / "dir", 0o700)
        batch.mkdirat(odd)
    with ring.batch() as batch:
        batch.renameat(place / "dir", place / "other")
    assert sorted(os.listdir(os.fsencode(place))) == [b"other", b"\xff\xfe"]
    with ring.batch(check=False) as batch:
        refused = batch.renameat(odd, place / "other", rename_flags=RENAME_NOREPLACE)
    error = refused.exception()
    assert isinstance(error, FileExistsError)
    assert (error.filename, error.filename2) == (odd, place / "other")
    with ring.batch() as batch:
        batch.unlinkat(odd, at_flags=AT_REMOVEDIR)
        batch.unlinkat(place / "other", at_flags=AT_REMOVEDIR)
    assert os.listdir(place) == []


def test_paths_with_nul_are_refused(ring: Ring) -> None:
    with pytest.raises(ValueError, match="null byte"):
        ring.openat("a\0b")


def test_splice_moves_file_bytes_into_a_pipe(ring: Ring, file: int) -> None:
    os.pwrite(file, b"0123456789", 0)
    out, into = os.pipe()
    with ring.batch() as batch:
        batch.splice(file, into, 4, offset_in=3)
    assert batch.results() == [4]
    assert os.read(out, 100) == b"3456"
    os.close(out)
    os.close(into)


def test_poll_add_waits_for_the_event(ring: Ring) -> None:
    out, into = os.pipe()
    poll = ring.poll_add(out, select.POLLIN)
    assert ring.wait(1, timeout=0) == []
    os.write(into, b"x")
    assert ring.wait() == [poll]
    assert poll.result() == select.POLLIN
    os.close(out)
    os.close(into)


def test_timeout_is_not_an_error_and_takes_its_time(ring: Ring) -> None:
    start = time.monotonic()
    operation = ring.timeout(0.05)
    assert ring.wait() == [operation]
    assert operation.result() is None
    assert 0.05 <= time.monotonic() - start < 2
    with pytest.raises(ValueError, match="seconds"):
        ring.timeout(-1)


def test_link_timeout_cancels_the_operation_before_it(ring: Ring) -> None:
    out, into = os.pipe()
    with ring.batch(check=False) as batch:
        read = batch.read(out, bytearray(1), flags=SqeFlags.LINK)
        limit = batch.link_timeout(0.02)
    error = read.exception()
    assert error is not None
    assert error.errno == errno.ECANCELED
    assert limit.result() is None
    os.write(into, b"x")
    with ring.batch() as batch:
        batch.read(out, bytearray(1), flags=SqeFlags.LINK)
        batch.link_timeout(60)
    assert batch.results() == [1, None]
    os.close(out)
    os.close(into)


def test_a_failed_link_cancels_what_follows_it(ring: Ring, file: int) -> None:
    with ring.batch(check=False) as batch:
        batch.read(-1, bytearray(1), 0, flags=SqeFlags.LINK)
        batch.write(file, b"never", 0, flags=SqeFlags.LINK)
        batch.fsync(file)
        batch.write(file, b"ok", 0)
    codes = [error.errno if (error := op.exception()) else 0 for op in batch]
    assert codes == [errno.EBADF, errno.ECANCELED, errno.ECANCELED, 0]
    assert os.pread(file, 10, 0) == b"ok"


def test_a_hard_link_goes_on_after_a_failure(ring: Ring, file: int) -> None:
    with ring.batch(check=False) as batch:
        batch.fsync(-1, flags=SqeFlags.HARDLINK)
        batch.write(file, b"yes", 0)
    assert os.pread(file, 10, 0) == b"yes"


def test_a_chain_across_the_end_of_the_queue_stays_together(ring: Ring, file: int) -> None:
    with ring.batch(check=False) as batch:
        for _ in range(ring.entries - 2):
            batch.nop()
        batch.fsync(-1, flags=SqeFlags.LINK)
        batch.write(file, b"never", 0, flags=SqeFlags.LINK)
        batch.write(file, b"never", 0)
    codes = [error.errno if (error := op.exception()) else 0 for op in batch]
    assert codes[-3:] == [errno.EBADF, errno.ECANCELED, errno.ECANCELED]
    assert codes[:-3] == [0] * (ring.entries - 2)
    assert os.fstat(file).st_size == 0


def test_a_chain_longer_than_the_queue_is_refused(ring: Ring) -> None:
    for _ in range(ring.entries):
        ring.nop(flags=SqeFlags.LINK)
    with pytest.raises(RuntimeError, match="longer than 16"):
        ring.nop()
    assert len(ring.wait(ring.entries)) == ring.entries


def test_errors_name_operation_and_file(ring: Ring, place: Path, file: int) -> None:
    with ring.batch(check=False) as batch:
        batch.read(987_654, bytearray(1), 0)
        batch.openat(place / "missing")
        batch.fallocate(file, 0, 0)
        batch.mkdirat(place)
    bad, missing, invalid, exists = [op.exception() for op in batch]
    assert str(bad) == "[Errno 9] read(fd=987654): Bad file descriptor"
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == place / "missing"
    assert str(missing).startswith("[Errno 2] openat: No such file or directory: ")
    assert invalid is not None
    assert invalid.errno == errno.EINVAL
    assert isinstance(exists, FileExistsError)


def test_misaligned_direct_reads_are_einval_on_a_disk(ring: Ring, tmp_path: Path) -> None:
    path = tmp_path / "direct"
    path.write_bytes(bytes(8192))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    aligned = mmap.mmap(-1, 4096)
    with ring.batch(check=False) as batch:
        good = batch.read(fd, aligned, 4096)
        bad = batch.read(fd, aligned, 1)
    assert good.result() == 4096
    error = bad.exception()
    assert error is not None
    assert error.errno == errno.EINVAL
    aligned.close()
    os.close(fd)


def test_a_batch_raises_its_first_error_when_all_is_done(ring: Ring, file: int) -> None:
    batch = ring.batch()
    batch.write(file, b"a", 0)
    batch.fsync(-1)
    batch.fsync(-2)
    with pytest.raises(OSError, match="fd=-1"), batch:
        pass
    assert all(op.done for op in batch)
    with pytest.raises(ValueError, match="finished"):
        batch.nop()


def test_a_batch_that_raises_carries_out_nothing(ring: Ring, file: int) -> None:
    batch = ring.batch()
    batch.write(file, b"a", 0, flags=SqeFlags.LINK)
    batch.write(file, b"b", 1)
    with pytest.raises(ZeroDivisionError), batch:
        _ = 1 // 0
    assert os.fstat(file).st_size == 0
    codes = [error.errno if (error := op.exception()) else 0 for op in batch]
    assert codes == [errno.ECANCELED, errno.ECANCELED]


def test_a_batch_leaves_other_completions_to_wait(ring: Ring) -> None:
    own = ring.nop()
    with ring.batch() as batch:
        batch.nop()
    assert len(batch) == 1
    assert ring.wait(0) == [own]


def test_a_batch_costs_one_submit(file: int) -> None:
    with Ring(64) as ring:
        with ring.batch() as batch:
            for index in range(64):
                batch.read(file, bytearray(16), index)
        statistics = ring.statistics()
    assert (statistics.submits, statistics.submitted, statistics.in_flight) == (1, 64, 0)


def test_completions_yields_each_operation_once(ring: Ring) -> None:
    operations = {ring.timeout(0.001 * n) for n in range(5)} | {ring.nop() for _ in range(40)}
    seen = list(ring.completions())
    assert len(seen) == 45
    assert set(seen) == operations


def test_submit_does_not_wait(ring: Ring) -> None:
    operation = ring.timeout(0.01)
    assert ring.submit() == 1
    assert not operation.done
    with pytest.raises(RuntimeError, match="not done"):
        operation.result()
    assert ring.submit() == 0
    assert ring.wait() == [operation]


def test_wait_gives_up_when_the_time_is_over(ring: Ring) -> None:
    operation = ring.timeout(30)
    start = time.monotonic()
    assert ring.wait(1, timeout=0.03) == []
    assert ring.wait(1, timeout=0.03) == []
    assert 0.06 <= time.monotonic() - start < 5
    ring.cancel(operation)
    assert ring.wait() == [operation]


def test_wait_for_more_than_is_in_flight_returns_what_there_is(ring: Ring) -> None:
    assert ring.wait(5) == []
    operation = ring.nop()
    assert ring.wait(5) == [operation]
