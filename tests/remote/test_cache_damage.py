# SPDX-License-Identifier: Apache-2.0
"""Cache files that were cut off, altered or swapped: what they held is fetched again."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from tests.remote.faulty import FRESH, FaultyShare
from tests.services.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.services.seaweed import SeaweedFS

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
ROOT: Final = "/cache-damage/"
BLOCK: Final = 1 << 16
#: Of less than a block, of some, and of more than a segment.
CONTENT: Final = {
    "small": random.Random(1).randbytes(5000),
    "medium": random.Random(2).randbytes(3 * MIB + 123),
    "large": random.Random(3).randbytes(66 * MIB),
}


@pytest.fixture(scope="module")
def proxy(seaweed: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.port) as made:
        yield made


@pytest.fixture(scope="module")
def made(seaweed: SeaweedFS, proxy: FaultProxy) -> Iterator[FaultyShare]:
    with FaultyShare(seaweed, proxy, ROOT, *FRESH, factor=1) as share:
        yield share


@pytest.fixture
def cached(made: FaultyShare, proxy: FaultProxy) -> FaultyShare:
    """A share with all its objects in the cache, whatever the test before did to them."""
    for name, data in CONTENT.items():
        if not made.bucket.keys(name) or made.bucket.get(name) != data:
            made.bucket.put(name, data)
    check_content(made)
    proxy.forget_seen()
    return made


def segments(share: FaultyShare) -> list[Path]:
    """The cache's files, the shortest first."""
    found = [path for path in (share.cache_dir / "v1/segments").rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_size)


def check_content(share: FaultyShare) -> None:
    """Each file is what it should be."""
    for name, data in CONTENT.items():
        assert share.load(name) == data, name


def fetched(proxy: FaultProxy) -> int:
    """How many requests for bytes there were."""
    return len([seen for seen in proxy.seen("GET") if "list-type" not in seen.target])


def cut(length: float) -> Callable[[Path], None]:
    """Leaves a part of a file, from its beginning."""
    return lambda path: os.truncate(path, int(path.stat().st_size * length))


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 4096)


def blank(path: Path) -> None:
    """As a file system may leave it after a loss of power: all there, and nothing in it."""
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def blank_data(path: Path) -> None:
    """Table and footer are as they were."""
    with path.open("r+b") as file:
        file.write(bytes(4000))


def alter(where: float) -> Callable[[Path], None]:
    """Changes one bit, that far from the beginning."""

    def change(path: Path) -> None:
        at = min(int(path.stat().st_size * where), path.stat().st_size - 1)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))

    return change


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BETWEEN: Final = {
    "emptied": cut(0),
    "cut in half": cut(0.5),
    "one byte short": shorten,
    "too long": lengthen,
    "blank": blank,
    "blank data": blank_data,
    "altered at the start": alter(0),
    "altered inside": alter(0.4),
    "altered at the end": alter(1),
    "a link": replace_by_link,
    "a FIFO": replace_by_fifo,
    "removed": os.unlink,
}


def test_without_damage_nothing_is_fetched(cached: FaultyShare, proxy: FaultProxy) -> None:
    assert cached.daemon.stop() == 0
    cached.disconnect()
    cached.start()
    proxy.forget_seen()
    check_content(cached)
    assert fetched(proxy) == 0


@pytest.mark.parametrize("damage", BETWEEN)
def test_damage_between_runs(cached: FaultyShare, proxy: FaultProxy, damage: str) -> None:
    assert cached.daemon.stop() == 0
    cached.disconnect()
    for path in segments(cached):
        BETWEEN[damage](path)
    cached.start()
    proxy.forget_seen()
    check_content(cached)
    assert fetched(proxy) >= 3
    # What was fetched is good, and stays.
    assert cached.daemon.stop() == 0
    cached.disconnect()
    cached.start()
    proxy.forget_seen()
    check_content(cached)
    assert fetched(proxy) == 0


def test_files_that_changed_places(cached: FaultyShare) -> None:
    """Each is whole, and of another object or another part."""
    cached.daemon.stop()
    cached.disconnect()
    one, other = [path for path in segments(cached) if path.suffix in {".0", ".1"}][-2:]
    kept = other.with_name("kept")
    other.rename(kept)
    one.rename(other)
    kept.rename(one)
    cached.start()
    check_content(cached)


def test_what_is_not_altered_is_not_fetched(cached: FaultyShare, proxy: FaultProxy) -> None:
    """One bit of 66 MiB costs a block or so."""
    cached.daemon.stop()
    cached.disconnect()
    alter(0.5)(segments(cached)[-1])
    cached.start()
    proxy.forget_seen()
    assert cached.load("large") == CONTENT["large"]
    ranges = [seen.headers["range"] for seen in proxy.seen("GET") if "range" in seen.headers]
    assert len(ranges) == 1
    first, last = (int(number) for number in ranges[0].removeprefix("bytes=").split("-"))
    assert last - first < 8 * MIB


@pytest.mark.parametrize("damage", ["emptied", "cut in half", "one byte short"])
def test_files_that_are_cut_while_they_are_used(cached: FaultyShare, damage: str) -> None:
    handles = {name: cached.open(name, os.O_RDONLY) for name in CONTENT}
    for path in segments(cached):
        BETWEEN[damage](path)
    for name, handle in handles.items():
        assert cached.read(*handle) == CONTENT[name], name
    check_content(cached)


def test_a_file_that_is_cut_is_no_base_to_write_on(cached: FaultyShare) -> None:
    """What was not written is neither zeros nor missing, here and on the service."""
    for path in segments(cached):
        os.truncate(path, 0)
    for name, data in CONTENT.items():
        nodeid, fh = cached.open(name)
        cached.write(nodeid, fh, b"new", 1001)
        expected = data[:1001] + b"new" + data[1004:]
        assert cached.read(nodeid, fh) == expected
        cached.close(nodeid, fh)
        assert cached.bucket.get(name) == expected
        assert cached.load(name) == expected


@pytest.mark.parametrize("damage", ["blank data", "altered at the start", "altered inside"])
def test_what_another_daemon_left_is_looked_at(
    seaweed: SeaweedFS, proxy: FaultProxy, cached: FaultyShare, damage: str
) -> None:
    """Both are at work on one directory, and the file is altered after the first has filled it."""
    for path in segments(cached):
        BETWEEN[damage](path)
    cache_dir = cached.cache_dir
    with FaultyShare(seaweed, proxy, ROOT, factor=1, cache_dir=cache_dir) as other:
        check_content(other)


def test_a_cache_that_is_removed_while_it_is_used(cached: FaultyShare) -> None:
    shutil.rmtree(cached.cache_dir / "v1/segments")
    (cached.cache_dir / "v1/segments").mkdir()
    check_content(cached)
    cached.bucket.put("another", b"data")
    assert cached.load("another") == b"data"
    cached.save("new", b"new")
    assert cached.load("new") == b"new"
    assert cached.bucket.get("new") == b"new"
