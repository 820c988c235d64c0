# SPDX-License-Identifier: Apache-2.0
"""A service that says nothing: who waits for it waits a while, and nobody else does."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import sys
import threading
import time
from errno import EINTR, EIO
from typing import TYPE_CHECKING, Final

import pytest

from tests.process.place import SANITIZED
from tests.remote.every import Every
from tests.remote.faulty import FRESH, FaultyShare, eventually
from tests.services.faults import Hang
from tests.services.seaweed import SeaweedFS
from tests.vmm import ROOT_ID, Opcode
from tests.vmm import fuse_wire as wire
from tests.vmm.bench import run_job
from tests.vmm.ops_names import ENTRY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.fault_proxy import FaultProxy
    from tests.vmm import Pending
    from tests.vmm.bench import Workload

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
DATA: Final = random.Random(1).randbytes(4 * MIB)
#: Seconds that the daemon's patience is at most, with what a busy machine adds.
PATIENCE: Final = 90.0


class Dead:
    """Requests of every kind to a server that has stopped in its tracks."""

    def __init__(self, service: SeaweedFS, share: FaultyShare) -> None:
        self.service = service
        self.share = share
        self.every = Every(share)
        service.pause()
        self.every.send()
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self._ends = self.every.wait()

    def wait(self) -> tuple[dict[str, int], float]:
        """Waits until all of them have ended; as Every has it."""
        self._thread.join()
        return self._ends


@pytest.fixture(scope="module", autouse=True)
def dead() -> Iterator[Dead]:
    """They wait for as long as they would in earnest.

    So they begin before the module's other tests, and the last of these looks how they ended.
    """
    with SeaweedFS() as service, FaultyShare(service, None, "/dead/", *FRESH, factor=1) as share:
        made = Dead(service, share)
        yield made
        service.resume()
        made.wait()


def submit_reads(share: FaultyShare, name: str, count: int, size: int = 4096) -> list[Pending]:
    """Sends reads of a large object, none of them near the one before."""
    nodeid, fh = share.open(name, os.O_RDONLY)
    length = share.fs.getattr(nodeid).attr.size
    offsets = [number * length // count // 65536 * 65536 for number in range(count)]
    random.Random(1).shuffle(offsets)
    return [share.fs.submit_read(nodeid, fh, at, size, timeout=PATIENCE) for at in offsets]


def submit_flush(share: FaultyShare, nodeid: int, fh: int) -> Pending:
    args = wire.FlushIn(fh).pack()
    return share.fs.submit(Opcode.FLUSH, nodeid, args, 0, timeout=PATIENCE)


def error_of(share: FaultyShare, pending: Pending) -> int:
    return -share.fs.wait_reply(pending)[0].error


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is inside takes no longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


# A stop, an end, another VMM.


def test_a_stop_gives_up_what_is_stuck(
    seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str
) -> None:
    with FaultyShare(seaweed, proxy, bucket_root, *FRESH, factor=1) as share:
        every = Every(share)
        with proxy.fault(Hang()) as rule:
            every.send()
            rule.wait_hit(3)
            with within(1.0):
                bases = share.vmm.stop()
            assert share.vmm.queues[1].ring.used_idx == bases[1]
            errors, _ = every.wait()
            assert set(errors.values()) == {EINTR, EIO}
            asking = {"lookup", "getattr", "readlink", "open", "read", "readdir"}
            assert {name for name, number in errors.items() if number == EINTR} == asking
            share.vmm.start(bases)
            with within(1.0):
                share.vmm.stop()
            share.vmm.start(bases)
        # The guest goes on as if nothing had been.
        share.fs.flush(*every.new)
        share.fs.fsync(*every.old)
        assert share.bucket.get("new") == b"new data"
        assert share.load("read") == every.content["read"]
        share.fs.unlink(ROOT_ID, b"looked")
        assert "looked" not in share.names()


def test_the_next_vmm_does_not_wait(patient: FaultyShare, proxy: FaultProxy) -> None:
    patient.bucket.put("stuck", DATA)
    patient.save("other", b"other")
    nodeid, fh = patient.make("new", b"data")
    with proxy.fault(Hang(), method="GET|PUT", target="/(stuck|new)$") as rule:
        submit_reads(patient, "stuck", 8)
        submit_flush(patient, nodeid, fh)
        rule.wait_hit(2)
        with within(2.0):
            patient.disconnect()
            patient.connect()
            assert patient.load("other") == b"other"
    assert patient.load("stuck") == DATA
    eventually(lambda: patient.bucket.head("new") is not None)
    assert patient.load("new") == b"data"


def test_an_end_does_not_wait_for_reads(patient: FaultyShare, proxy: FaultProxy) -> None:
    patient.bucket.put("stuck", DATA)
    with proxy.fault(Hang(), method="GET", target="/stuck$") as rule:
        submit_reads(patient, "stuck", 8)
        rule.wait_hit()
        with within(5.0):
            assert patient.daemon.stop() == 0


def test_an_end_waits_ten_seconds_for_an_upload(patient: FaultyShare, proxy: FaultProxy) -> None:
    """Then the code says that not all is stored, and the next daemon stores it."""
    nodeid, fh = patient.make("new", b"data")
    with proxy.fault(Hang(), method="PUT") as rule:
        submit_flush(patient, nodeid, fh)
        rule.wait_hit()
        began = time.monotonic()
        assert patient.daemon.stop(30.0) == 1
        assert 9.0 < time.monotonic() - began < 15.0
    assert patient.bucket.keys() == []
    patient.disconnect()
    patient.start()
    eventually(lambda: patient.owed() == 0)
    assert patient.bucket.get("new") == b"data"
    assert patient.load("new") == b"data"
    assert patient.conflicts() == []


def test_a_second_signal_ends_it_at_once(patient: FaultyShare, proxy: FaultProxy) -> None:
    nodeid, fh = patient.make("new", b"data")
    with proxy.fault(Hang(), method="PUT") as rule:
        submit_flush(patient, nodeid, fh)
        rule.wait_hit()
        patient.daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: "ending" in patient.log())
        with within(2.0):
            assert patient.daemon.stop() == 1


# Others.


def check_others(share: FaultyShare, seconds: float) -> None:
    """All kinds of work with other objects take no longer, on the queue of those that wait."""
    for work in (
        share.names,
        lambda: share.load("small") == b"small",
        lambda: share.load("large") == DATA,
        lambda: share.save("made", b"made"),
        lambda: share.fs.rename(ROOT_ID, b"made", ROOT_ID, b"moved"),
        lambda: share.fs.unlink(ROOT_ID, b"moved"),
        lambda: share.fs.mkdir(ROOT_ID, b"dir"),
        lambda: share.fs.rmdir(ROOT_ID, b"dir"),
    ):
        with within(seconds):
            work()


def put_others(share: FaultyShare) -> None:
    share.bucket.put("small", b"small")
    share.bucket.put("large", DATA)


def wait_all(share: FaultyShare, pending: list[Pending]) -> None:
    """Ends the waiting; without it the daemon could not be told from one that hangs."""
    for one in pending:
        share.fs.wait_reply(one)


@pytest.mark.parametrize("size", [4096, MIB], ids=["small", "large"])
def test_a_stuck_object_holds_up_no_other(
    patient: FaultyShare, proxy: FaultProxy, size: int
) -> None:
    """More reads of it than there may be calls."""
    put_others(patient)
    patient.bucket.put("stuck", bytes(96 * MIB))
    with proxy.fault(Hang(), method="GET", target="/stuck$") as rule:
        pending = submit_reads(patient, "stuck", 90, size)
        rule.wait_hit(6)
        check_others(patient, 1.5)
    wait_all(patient, pending)


def test_stuck_objects_hold_up_no_other_for_long(patient: FaultyShare, proxy: FaultProxy) -> None:
    """So many that all calls are theirs; those make room after a while."""
    put_others(patient)
    for number in range(60):
        patient.bucket.put(f"stuck-{number}", b"data")
    with proxy.fault(Hang(), method="GET", target=r"/stuck-\d+$") as rule:
        files = [patient.open(f"stuck-{number}", os.O_RDONLY) for number in range(60)]
        pending = [patient.fs.submit_read(*file, 0, 4096, timeout=PATIENCE) for file in files]
        rule.wait_hit(40)
        check_others(patient, 8.0)
    wait_all(patient, pending)


def test_stuck_lookups_hold_up_no_other_for_long(patient: FaultyShare, proxy: FaultProxy) -> None:
    put_others(patient)
    patient.bucket.put("stuck/name", b"")
    stuck = patient.node("stuck")
    with proxy.fault(Hang(), target="stuck/") as rule:
        names = [b"name-%d\0" % number for number in range(60)]
        pending = [
            patient.fs.submit(Opcode.LOOKUP, stuck, name, ENTRY, timeout=PATIENCE) for name in names
        ]
        rule.wait_hit(24)
        check_others(patient, 8.0)
    wait_all(patient, pending)


def test_stuck_uploads_hold_up_no_other_for_long(patient: FaultyShare, proxy: FaultProxy) -> None:
    put_others(patient)
    files = [patient.make(f"stuck-{number}", b"data") for number in range(60)]
    with proxy.fault(Hang(), method="PUT", target="/stuck-") as rule:
        pending = [submit_flush(patient, *file) for file in files]
        rule.wait_hit(40)
        check_others(patient, 8.0)
    wait_all(patient, pending)
    for number in range(60):
        assert patient.bucket.get(f"stuck-{number}") == b"data"


#: A p99 is the median of several, and this much more is no change: the machine is shared.
FACTOR: Final = 3.0
FLOOR_NS: Final = 300_000


@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes time")
def test_cached_reads_are_quick_meanwhile(
    seaweed: SeaweedFS, proxy: FaultProxy, bucket_root: str, run_dir: Path
) -> None:
    """While requests are stuck, and while no Python runs at all."""
    trigger = run_dir / "trigger"
    launcher = (sys.executable, "-m", "tests.process.launcher", str(trigger), "2.0")
    command = (*launcher, "{socket}", "{dir}")
    with FaultyShare(seaweed, proxy, bucket_root, command=command) as share:
        share.bucket.put("cached", DATA)
        share.bucket.put("stuck", bytes(96 * MIB))
        node, fh = share.open("cached", os.O_RDONLY)
        assert share.read(node, fh) == DATA

        def p99(workload: Workload) -> float:
            results = [
                run_job(
                    share.vmm,
                    workload,
                    depth=4,
                    seconds=0.15,
                    nodeid=node,
                    fh=fh,
                    nodes=[node],
                    file_size=len(DATA),
                    mode="sleep",
                    queue=2,
                )
                for _ in range(5)
            ]
            return statistics.median(result.lat_p99_ns for result in results)

        before = p99("read")
        with proxy.fault(Hang(), method="GET", target="/stuck$") as rule:
            pending = submit_reads(share, "stuck", 90)
            rule.wait_hit(6)
            stuck = p99("read")
            trigger.touch()
            eventually(lambda: not trigger.exists())
            still = p99("read")
        wait_all(share, pending)
    assert stuck < FACTOR * before + FLOOR_NS
    assert still < FACTOR * before + FLOOR_NS


def test_every_request_ends(dead: Dead) -> None:
    """Nobody has shortened anything here."""
    errors, seconds = dead.wait()
    assert errors == dict.fromkeys(errors, EIO)
    assert seconds < PATIENCE
    dead.service.resume()
    share, every = dead.share, dead.every
    share.fs.flush(*every.new)
    share.fs.fsync(*every.old)
    assert share.bucket.get("new") == b"new data"
    assert share.load("read") == every.content["read"]
