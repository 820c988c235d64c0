# SPDX-License-Identifier: Apache-2.0
"""Two daemons on one bucket: who comes second is told, and what either wrote can be had."""

from __future__ import annotations

import os
import random
import threading
from errno import ENOENT, ESTALE
from typing import TYPE_CHECKING

import pytest

from tests.remote.faulty import FRESH, FaultyShare, fails_with
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.seaweed import SeaweedFS

MIB = 1 << 20
#: One request, several at the end, several while it is written.
SIZES = [1000, 9 * MIB, 20 * MIB]


@pytest.fixture
def pair(seaweed: SeaweedFS, bucket_root: str) -> Iterator[tuple[FaultyShare, FaultyShare]]:
    """Two daemons with a cache directory each."""
    with (
        FaultyShare(seaweed, None, bucket_root, *FRESH, factor=1) as one,
        FaultyShare(seaweed, None, bucket_root, *FRESH, factor=1) as other,
    ):
        yield one, other


Pair = tuple[FaultyShare, FaultyShare]


def check_lost(loser: FaultyShare, nodeid: int, fh: int, kept: bytes) -> None:
    """The close fails, and what would have been stored is in a file that the log names."""
    fails_with(ESTALE, lambda: loser.close(nodeid, fh))
    assert loser.conflicts() == [kept]
    (path,) = (loser.cache_dir / "v1/conflicts").iterdir()
    assert str(path) in loser.log()
    assert loser.owed() == 0


@pytest.mark.parametrize("size", SIZES)
def test_both_replace_a_file(pair: Pair, size: int) -> None:
    winner, loser = pair
    winner.save("file", b"old")
    first, second = os.urandom(size), os.urandom(size + 1)
    theirs, ours = winner.make("file", first), loser.make("file", second)
    winner.close(*theirs)
    fails_with(ESTALE, lambda: loser.fs.fsync(*ours))
    assert loser.fs.getattr(ours[0]).attr.size == size
    check_lost(loser, *ours, kept=second)
    assert winner.bucket.get("file") == first
    assert loser.load("file") == first
    assert winner.load("file") == first
    assert winner.conflicts() == []


@pytest.mark.parametrize("size", SIZES)
def test_both_make_a_file(pair: Pair, size: int) -> None:
    """Neither sees the other's before it is stored, O_EXCL or not."""
    winner, loser = pair
    first, second = os.urandom(size), os.urandom(size + 1)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    made = [share.fs.create(ROOT_ID, b"file", flags) for share in pair]
    (theirs, their_fh), (ours, our_fh) = ((entry.nodeid, out.fh) for entry, out in made)
    winner.write(theirs, their_fh, first)
    loser.write(ours, our_fh, second)
    winner.close(theirs, their_fh)
    check_lost(loser, ours, our_fh, kept=second)
    assert winner.bucket.get("file") == first
    assert loser.load("file") == first


def test_both_change_a_part(pair: Pair) -> None:
    """The loser's file is whole: what it had not changed is there too."""
    winner, loser = pair
    old = os.urandom(3 * MIB)
    winner.save("file", old)
    assert loser.load("file") == old
    theirs, ours = winner.open("file"), loser.open("file")
    winner.write(*theirs, b"first", 100)
    loser.write(*ours, b"second", 2 * MIB + 7)
    winner.close(*theirs)
    at = 2 * MIB + 7
    check_lost(loser, *ours, kept=old[:at] + b"second" + old[at + 6 :])
    assert winner.bucket.get("file") == old[:100] + b"first" + old[105:]


def test_one_replaces_what_the_other_reads(pair: Pair) -> None:
    winner, loser = pair
    winner.save("file", b"old")
    assert loser.load("file") == b"old"
    winner.save("file", b"new")
    assert loser.load("file") == b"new"
    loser.save("file", b"newest")
    assert winner.load("file") == b"newest"
    assert winner.conflicts() == loser.conflicts() == []


def test_one_removes_what_the_other_writes(pair: Pair) -> None:
    winner, loser = pair
    winner.save("file", b"old")
    ours = loser.make("file", b"new")
    winner.fs.unlink(ROOT_ID, b"file")
    check_lost(loser, *ours, kept=b"new")
    assert winner.bucket.keys() == []
    assert winner.names() == loser.names() == []


def test_one_removes_what_the_other_has_just_written(pair: Pair) -> None:
    """A name is removed, whatever it stands for; who has it open writes to what is no more."""
    one, other = pair
    one.save("file", b"old")
    nodeid, fh = other.make("file", b"new")
    other.fs.fsync(nodeid, fh)
    one.fs.unlink(ROOT_ID, b"file")
    assert one.bucket.keys() == []
    other.write(nodeid, fh, b"newer")
    check_lost(other, nodeid, fh, kept=b"newer")
    assert one.bucket.keys() == []


def test_one_renames_what_the_other_writes(pair: Pair) -> None:
    winner, loser = pair
    winner.save("file", b"old")
    ours = loser.make("file", b"new")
    winner.fs.rename(ROOT_ID, b"file", ROOT_ID, b"moved")
    check_lost(loser, *ours, kept=b"new")
    assert winner.bucket.keys() == ["moved"]
    assert loser.load("moved") == b"old"


def test_one_renames_over_what_the_other_writes(pair: Pair) -> None:
    winner, loser = pair
    winner.save("file", b"old")
    winner.save("other", b"theirs")
    ours = loser.make("file", b"new")
    winner.fs.rename(ROOT_ID, b"other", ROOT_ID, b"file")
    check_lost(loser, *ours, kept=b"new")
    assert winner.bucket.keys() == ["file"]
    assert loser.load("file") == b"theirs"


def test_both_rename_a_file(pair: Pair) -> None:
    one, other = pair
    one.save("file", b"data")
    other.node("file")
    one.fs.rename(ROOT_ID, b"file", ROOT_ID, b"here")
    fails_with(ENOENT, lambda: other.fs.rename(ROOT_ID, b"file", ROOT_ID, b"there"))
    assert one.bucket.keys() == ["here"]
    assert other.load("here") == b"data"


def test_a_new_file_renamed_to_one_that_came_up(pair: Pair) -> None:
    """A rename replaces what it finds, and here it finds nothing before the other's is there."""
    winner, loser = pair
    nodeid, fh = loser.make("temporary", b"new")
    loser.fs.rename(ROOT_ID, b"temporary", ROOT_ID, b"file")
    winner.save("file", b"theirs")
    check_lost(loser, nodeid, fh, kept=b"new")
    assert winner.bucket.keys() == ["file"]
    assert winner.bucket.get("file") == b"theirs"


def append(share: FaultyShare, tag: bytes) -> bool:
    """Reads a file, puts something behind what is there, and writes it anew; whether that went."""
    try:
        nodeid, fh = share.open("file")
        try:
            data = share.read(nodeid, fh)
            share.write(nodeid, fh, data + tag)
        finally:
            share.close(nodeid, fh)
    except OSError as error:
        if error.errno != ESTALE:
            raise
        return False
    return True


def test_no_update_is_lost(pair: Pair) -> None:
    """Both put tags behind a file's end, as often as it takes: all that were stored are there."""
    pair[0].save("file", b"")
    refused = 0
    lock = threading.Lock()

    def work(share: FaultyShare, name: str) -> None:
        nonlocal refused
        moments = random.Random(name)
        for number in range(15):
            while not append(share, f"{name}{number} ".encode()):
                with lock:
                    refused += 1
                threading.Event().wait(moments.random() * 0.02)

    threads = [
        threading.Thread(target=work, args=(share, name))
        for share, name in zip(pair, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tags = pair[0].bucket.get("file").decode().split()
    for name in "ab":
        assert [tag for tag in tags if tag[0] == name] == [f"{name}{n}" for n in range(15)]
    assert len(tags) == 30
    assert refused > 0, "they never met"
    # What was refused is kept, each time.
    assert len(pair[0].conflicts()) + len(pair[1].conflicts()) <= refused
