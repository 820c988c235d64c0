# SPDX-License-Identifier: Apache-2.0
"""What a service that fails means to a guest: retries nobody notices, or the right errno."""

from __future__ import annotations

import os
import time
from errno import EACCES, EIO, ENOENT, ENOSPC, ESTALE
from typing import TYPE_CHECKING

import pytest

from tests.remote.every import Every
from tests.remote.faulty import eventually, fails_with
from tests.services.faults import Cut, DropResponse, Hang, Reset, Slow, Status
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.remote.faulty import FaultyShare
    from tests.services.fault_proxy import FaultProxy
    from tests.services.faults import Fault

pytestmark = pytest.mark.slow

MIB = 1 << 20
DATA = os.urandom(3 * MIB)

#: What each request is answered while the service does nothing but this, and whether at once.
LASTING = {
    "refused": (None, EIO, False),
    "reset": (Reset(), EIO, False),
    "silent": (Hang(), EIO, False),
    "answer lost": (DropResponse(), EIO, False),
    "403": (Status(403), EACCES, True),
    "404 bucket": (Status(404, "NoSuchBucket"), EIO, True),
    "429": (Status(429), EIO, False),
    "500": (Status(500), EIO, False),
    "503": (Status(503), EIO, False),
    "507": (Status(507), ENOSPC, True),
}


@pytest.mark.parametrize("what", LASTING)
def test_every_request_gets_the_right_errno(
    share: FaultyShare, proxy: FaultProxy, what: str
) -> None:
    fault, number, at_once = LASTING[what]
    every = Every(share)
    if fault is None:
        proxy.down()
    else:
        proxy.add(fault)
    every.send()
    errors, seconds = every.wait()
    proxy.clear()
    proxy.up()
    assert errors == dict.fromkeys(errors, number)
    assert (seconds < 1.5) if at_once else (seconds < 12.0)
    # Nothing was lost by it, and the next try succeeds.
    share.fs.flush(*every.new)
    share.fs.fsync(*every.old)
    assert share.bucket.get("new") == b"new data"
    assert share.bucket.get("old") == b"newer" + every.content["old"][5:]
    for name in ("looked", "known", "opened", "gone", "moved", "read"):
        assert share.bucket.get(name) == every.content[name], name
    assert share.conflicts() == []
    for name in ("looked", "gone", "moved", "read"):
        assert share.load(name) == every.content[name], name


#: Requests to the service by what the guest does, as method and target of the proxy's rules.
STEPS = {
    "look": ("HEAD", "/object$"),
    "list": ("GET", "list-type=2"),
    "read": ("GET", "/object$"),
    "store": ("PUT", "/new$"),
    "begin": ("POST", r"/large-1\?uploads"),
    "part": ("PUT", r"/large-2\?partNumber=2"),
    "complete": ("POST", r"/large-3\?uploadId="),
    "mark": ("PUT", "/dir/$"),
    "copy": ("PUT", "/copied$"),
    "remove": ("DELETE", "/object$"),
}


def go_through(share: FaultyShare) -> None:
    """Does everything that STEPS has; all of it must succeed."""
    share.bucket.put("object", DATA)
    made = {name: os.urandom(9 * MIB) for name in ("large-1", "large-2", "large-3")}
    made["new"] = b"new data"
    assert share.load("object") == DATA
    assert share.names() == ["object"]
    for name, data in made.items():
        share.save(name, data)
        assert share.bucket.get(name) == data
    share.fs.mkdir(ROOT_ID, b"dir")
    share.fs.rename(ROOT_ID, b"object", ROOT_ID, b"copied")
    assert share.bucket.get("copied") == DATA
    assert share.bucket.keys() == sorted(["copied", "dir/", *made])
    assert share.names() == sorted(["copied", "dir", *made])
    assert share.conflicts() == []


def check_not_noticed(
    share: FaultyShare, proxy: FaultProxy, fault: Fault, times: int, steps: Iterable[str]
) -> None:
    """Each of these steps fails so many times, and the guest gets what it wants."""
    rules = {
        step: proxy.add(fault, method=STEPS[step][0], target=STEPS[step][1], times=times)
        for step in steps
    }
    go_through(share)
    assert {step: rule.hits for step, rule in rules.items()} == dict.fromkeys(steps, times)
    assert "changed by another writer" not in share.log()


@pytest.mark.parametrize(
    "fault",
    [Status(500), Status(503), Status(429), Reset(), DropResponse()],
    ids=["500", "503", "429", "reset", "answer lost"],
)
def test_two_failures_are_not_noticed(share: FaultyShare, proxy: FaultProxy, fault: Fault) -> None:
    """The last of them happens after the step has taken effect."""
    check_not_noticed(share, proxy, fault, 2, STEPS)


def test_an_answer_that_never_comes_is_not_noticed(share: FaultyShare, proxy: FaultProxy) -> None:
    """Once: a second one would take all the time that there is."""
    steps = ("look", "list", "read", "store", "complete", "remove")
    check_not_noticed(share, proxy, Hang(forwarded=True), 1, steps)


def test_so_many_tries_and_no_more(share: FaultyShare, proxy: FaultProxy) -> None:
    nodeid, fh = share.make("new", b"data")
    with proxy.fault(Status(500), method="PUT") as rule:
        fails_with(EIO, lambda: share.fs.flush(nodeid, fh))
        tries = rule.hits
    assert 5 <= tries <= 9
    waits = [seen.at for seen in proxy.seen("PUT", "/new")]
    assert waits[-1] - waits[-2] > 2 * (waits[1] - waits[0])


@pytest.mark.parametrize("how", ["close", "reset", "hang"])
def test_a_body_that_is_cut_is_read_again(share: FaultyShare, proxy: FaultProxy, how: str) -> None:
    share.bucket.put("object", DATA)
    node, fh = share.open("object", os.O_RDONLY)
    with proxy.fault(Cut(70_000, how), method="GET", target="/object$", times=2) as rule:
        assert share.read(node, fh) == DATA
        assert rule.hits == 2
    with proxy.fault(Cut(50, how), method="GET", target="list-type=2", times=2) as rule:
        assert share.names() == ["object"]
        assert rule.hits == 2


def test_a_body_that_is_always_cut(share: FaultyShare, proxy: FaultProxy) -> None:
    share.bucket.put("object", DATA)
    node, fh = share.open("object", os.O_RDONLY)
    with proxy.fault(Cut(50), method="GET"):
        began = time.monotonic()
        reading = share.fs.submit_read(node, fh, MIB, 4096, timeout=60.0)
        fails_with(EIO, share.names)
        assert -share.fs.wait_reply(reading)[0].error == EIO
        assert time.monotonic() - began < 15.0
    assert share.fs.read(node, fh, MIB, 4096) == DATA[MIB : MIB + 4096]
    assert share.names() == ["object"]


def test_slow_is_not_dead(share: FaultyShare, proxy: FaultProxy) -> None:
    """A body that goes on coming has time: its deadline is one on progress."""
    share.bucket.put("object", DATA[: 600 << 10])
    with proxy.fault(Slow(200 << 10), method="GET", target="/object$") as rule:
        began = time.monotonic()
        assert share.load("object") == DATA[: 600 << 10]
        assert time.monotonic() - began > 2.5
        assert rule.hits == 1


def test_too_slow_ends(share: FaultyShare, proxy: FaultProxy) -> None:
    share.bucket.put("object", DATA)
    node, fh = share.open("object", os.O_RDONLY)
    with proxy.fault(Slow(20), method="GET", target="/object$"):
        began = time.monotonic()
        fails_with(EIO, lambda: share.fs.read(node, fh, 2 * MIB, 4096, timeout=60.0))
        assert time.monotonic() - began < 20.0


def test_what_is_gone(share: FaultyShare) -> None:
    for name in ("looked", "opened", "read", "gone", "moved"):
        share.bucket.put(name, DATA)
    node = share.node("opened")
    reading = share.open("read", os.O_RDONLY)
    share.bucket.clear()
    fails_with(ESTALE, lambda: share.fs.open(node))
    fails_with(ESTALE, lambda: share.fs.read(*reading, 2 * MIB, 4096))
    fails_with(ENOENT, lambda: share.fs.lookup(ROOT_ID, b"looked"))
    fails_with(ENOENT, lambda: share.fs.unlink(ROOT_ID, b"gone"))
    fails_with(ENOENT, lambda: share.fs.rename(ROOT_ID, b"moved", ROOT_ID, b"elsewhere"))
    assert share.names() == []


def test_what_is_replaced_while_it_is_read(share: FaultyShare) -> None:
    share.bucket.put("object", DATA)
    node, fh = share.open("object", os.O_RDONLY)
    newer = os.urandom(len(DATA))
    share.bucket.put("object", newer)
    fails_with(ESTALE, lambda: share.fs.read(node, fh, 2 * MIB, 4096))
    assert share.load("object") == newer
    fails_with(ESTALE, lambda: share.fs.read(node, fh, 2 * MIB, 4096))


@pytest.mark.parametrize(
    ("fault", "number", "size"),
    [
        (Status(403), EACCES, 1000),
        (Status(403), EACCES, 20 * MIB),
        (Status(507), ENOSPC, 1000),
        (Status(507), ENOSPC, 20 * MIB),
        (Status(500), EIO, 1000),
    ],
)
def test_a_failed_upload_keeps_its_data(
    share: FaultyShare, proxy: FaultProxy, fault: Fault, number: int, size: int
) -> None:
    """Told at fsync and at close; read back meanwhile; stored by the next fsync."""
    old, new = b"o" * 100, os.urandom(size)
    share.save("file", old)
    nodeid, fh = share.open("file", os.O_RDWR | os.O_TRUNC)
    with proxy.fault(fault, method="PUT|POST"):
        share.write(nodeid, fh, new)
        fails_with(number, lambda: share.fs.fsync(nodeid, fh, timeout=60.0))
        fails_with(number, lambda: share.fs.flush(nodeid, fh, timeout=60.0))
        assert share.read(nodeid, fh) == new
        assert share.bucket.get("file") == old
    share.fs.fsync(nodeid, fh, timeout=60.0)
    assert share.bucket.get("file") == new
    assert share.bucket.uploads() == []
    assert share.conflicts() == []


@pytest.mark.parametrize("told", ["open", "fsync"])
def test_after_the_last_close_it_is_stored_later(
    share: FaultyShare, proxy: FaultProxy, told: str
) -> None:
    share.save("file", b"old")
    reader = share.open("file", os.O_RDONLY)
    nodeid, fh = share.open("file")
    share.write(nodeid, fh, b"newer")
    with proxy.fault(Status(403), method="PUT") as rule:
        fails_with(EACCES, lambda: share.close(nodeid, fh))
        before = rule.hits
        eventually(lambda: rule.hits > before)  # it is tried again by itself
        if told == "open":
            fails_with(EACCES, lambda: share.fs.open(nodeid, os.O_RDONLY))
        else:
            fails_with(EACCES, lambda: share.fs.fsync(*reader))
        assert share.owed() == 1
        assert share.load("file") == b"newer"  # told once
    eventually(lambda: share.bucket.get("file") == b"newer")
    eventually(lambda: share.owed() == 0)
    assert share.load("file") == b"newer"
