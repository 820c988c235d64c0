# SPDX-License-Identifier: Apache-2.0
"""The cache directory: shared, valid across restarts, checked, bounded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.semantics.remote.share import RemoteShare, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3

MIB = 1 << 20
SIZE = 3 * MIB + 100
PIECE = 256 << 10


def load(share: RemoteShare, name: bytes = b"file") -> bytes:
    """Reads a file in the root."""
    nodeid = share.fs.lookup(1, name).nodeid
    fh = share.fs.open(nodeid).fh
    pieces: list[bytes] = []
    while piece := share.fs.read(nodeid, fh, MIB * len(pieces), MIB):
        pieces.append(piece)
    share.fs.release(nodeid, fh)
    return b"".join(pieces)


def segments(share: RemoteShare) -> list[Path]:
    """The files with clean data."""
    return [path for path in (share.cache_dir / "v1/segments").rglob("*") if path.is_file()]


@pytest.mark.promise("r-cache-1")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_is_good_after_a_restart(fake: FakeS3, make_fake_share: MakeShare, end: str) -> None:
    share = make_fake_share()
    data = random.Random(0).randbytes(SIZE)
    fake.put("file", data)
    assert load(share) == data
    if end == "stop":
        share.stop()
    else:
        share.kill()
    fake.calls.clear()
    share.start_again()
    assert load(share) == data
    assert fake.count("GET", key="file") == 0
    fake.put("file", data[::-1])
    eventually(lambda: load(share) == data[::-1], 3.0)
    assert fake.count("GET", key="file") > 0


@pytest.mark.promise("r-cache-1")
def test_two_daemons_share_it(fake: FakeS3, make_fake_share: MakeShare) -> None:
    first = make_fake_share()
    second = make_fake_share(cache_dir=first.cache_dir)
    data = random.Random(0).randbytes(SIZE)
    fake.put("file", data)
    assert load(first) == data
    fake.calls.clear()
    assert load(second) == data
    assert fake.count("GET", key="file") == 0
    fake.put("other", data[::-1])
    eventually(lambda: second.fs.lookup(1, b"other").nodeid, 3.0)
    eventually(lambda: first.fs.lookup(1, b"other").nodeid, 3.0)
    pending = []
    for share in (first, second):  # at the same time, block by block
        nodeid = share.fs.lookup(1, b"other").nodeid
        fh = share.fs.open(nodeid).fh
        pending += [
            (share, offset, share.fs.submit_read(nodeid, fh, offset, PIECE))
            for offset in range(0, SIZE, PIECE)
        ]
    for share, offset, one in pending:
        assert share.fs.wait(one) == data[::-1][offset : offset + PIECE]


@pytest.mark.promise("r-cache-1")
def test_what_was_written_here_is_not_fetched(fake: FakeS3, make_fake_share: MakeShare) -> None:
    share = make_fake_share()
    data = random.Random(0).randbytes(SIZE)
    entry, opened = share.fs.create(1, b"file")
    for offset in range(0, SIZE, MIB):
        share.fs.write(entry.nodeid, opened.fh, offset, data[offset : offset + MIB])
    share.fs.flush(entry.nodeid, opened.fh)
    share.fs.release(entry.nodeid, opened.fh)
    assert load(share) == data
    eventually(lambda: segments(share))
    share.stop()
    share.start_again()
    assert load(share) == data
    assert fake.count("GET", key="file") == 0


def cut(path: Path) -> None:
    """Half of it is gone."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(path: Path) -> None:
    """All of it is gone."""
    with path.open("r+b") as file:
        file.truncate(0)


def flip(path: Path) -> None:
    """One bit in the data, and one near the end, where the checksums are."""
    content = bytearray(path.read_bytes())
    content[1_000_000] ^= 1
    content[-100] ^= 0x80
    path.write_bytes(content)


def rubbish(path: Path) -> None:
    """Other bytes, as many."""
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def remove(path: Path) -> None:
    """The file is gone."""
    path.unlink()


@pytest.mark.promise("r-cache-2")
@pytest.mark.parametrize("harm", [cut, empty, flip, rubbish, remove])
def test_what_was_altered_is_fetched_again(
    fake: FakeS3, make_fake_share: MakeShare, harm: Callable[[Path], None]
) -> None:
    share = make_fake_share()
    data = random.Random(0).randbytes(SIZE)
    fake.put("file", data)
    assert load(share) == data
    share.stop()
    paths = segments(share)
    assert paths
    for path in paths:
        harm(path)
    share.start_again()
    assert load(share) == data
    share.stop()
    fake.calls.clear()
    share.start_again()
    assert load(share) == data
    assert fake.count("GET", key="file") == 0


@pytest.mark.promise("r-cache-2")
@pytest.mark.parametrize("harm", [b"", b"rubbish" * 1000])
def test_its_index_is_no_more_than_a_help(
    fake: FakeS3, make_fake_share: MakeShare, harm: bytes
) -> None:
    share = make_fake_share()
    fake.put("file", b"data", {"mode": "33261"})
    assert load(share) == b"data"
    share.stop()
    (share.cache_dir / "v1/store.sqlite").write_bytes(harm)
    share.start_again()
    assert load(share) == b"data"
    assert share.fs.lookup(1, b"file").attr.mode == 0o100755


@pytest.mark.promise("r-cache-3")
def test_it_is_bounded(fake: FakeS3, make_fake_share: MakeShare) -> None:
    """Twenty files of 8 MiB through 64 MiB; the one that is read between them stays."""
    share = make_fake_share("--cache-size", str(64 * MIB), "--attr-timeout", "1000")
    data = random.Random(0).randbytes(8 * MIB)
    for number in range(20):
        fake.put(f"file-{number}", data)
    for number in range(20):
        assert load(share, b"file-%d" % number) == data
        assert load(share, b"file-0") == data

    def used() -> int:
        return sum(path.stat().st_blocks * 512 for path in segments(share))

    eventually(lambda: used() <= 66 * MIB)
    assert used() > 30 * MIB
    share.stop()
    fake.calls.clear()
    share.start_again()
    assert load(share, b"file-0") == data
    assert load(share, b"file-19") == data
    assert (fake.count("GET", key="file-0"), fake.count("GET", key="file-19")) == (0, 0)
    assert load(share, b"file-1") == data
    assert fake.count("GET", key="file-1") > 0
