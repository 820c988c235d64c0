# SPDX-License-Identifier: Apache-2.0
"""--upload=background: a close is answered before the service has it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.conftest import file_system_of
from tests.semantics.remote.fake_s3 import Fault, failing
from tests.semantics.remote.share import eventually
from tests.semantics.test_durability import unwritten
from tests.vmm.daemon import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.semantics.remote.conftest import MakeShare
    from tests.semantics.remote.fake_s3 import FakeS3
    from tests.semantics.remote.share import RemoteShare

BACKGROUND = ("--upload=background", "--upload-delay=1")
WRITES = ("PUT", "START", "PART", "COMPLETE", "COPY", "DELETE")
MIB = 1 << 20


@pytest.fixture
def share(make_fake_share: MakeShare) -> RemoteShare:
    """A daemon in background mode."""
    return make_fake_share(*BACKGROUND)


@pytest.fixture
def held(fake: FakeS3) -> Iterator[threading.Event]:
    """Once `hold` is called, nothing is stored until the event is set."""
    event = threading.Event()
    yield event
    event.set()


def hold(fake: FakeS3, event: threading.Event) -> None:
    """Holds up all that would change the service."""
    fake.fault = lambda call: Fault(hold=event) if call.kind in WRITES else None


def tool(*words: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Runs `ovfs` with a sub-command."""
    command = [sys.executable, "-m", "ovfs", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.promise("r-back-1")
def test_a_close_does_not_wait(fake: FakeS3, share: RemoteShare, held: threading.Event) -> None:
    scene = share.scene()
    hold(fake, held)
    for number in range(20):
        scene.save(f"file-{number}", b"%d" % number)
    assert scene.stored() == []
    held.set()
    eventually(lambda: len(scene.stored()) == 20)
    for number in range(20):
        assert scene.get(f"file-{number}") == b"%d" % number


@pytest.mark.promise("r-back-1")
@pytest.mark.promise("r-back-4")
def test_a_kill_loses_nothing_that_was_closed(
    fake: FakeS3, share: RemoteShare, held: threading.Event
) -> None:
    scene = share.scene()
    scene.save("changed", b"old")
    eventually(lambda: scene.stored() == ["changed"])
    hold(fake, held)
    data = os.urandom(9 * MIB)
    scene.save("large", data)
    scene.save("small", b"small")
    nodeid, fh = scene.open("changed")
    scene.write(nodeid, fh, 1, b"EW")
    scene.close(nodeid, fh)
    share.kill()
    fake.fault = lambda _call: None
    held.set()
    assert scene.get("changed") == b"old"
    share.start_again()
    scene.again()
    assert scene.load("small") == b"small"
    assert scene.load("large") == data
    assert scene.load("changed") == b"oEW"
    eventually(lambda: scene.stored() == ["changed", "large", "small"])
    eventually(lambda: scene.get("changed") == b"oEW")
    assert (scene.get("large"), scene.get("small")) == (data, b"small")


@pytest.mark.promise("r-back-2")
def test_fsync_has_written_to_the_hosts_disk(
    fake: FakeS3, share: RemoteShare, held: threading.Event
) -> None:
    if file_system_of(share.work) == "tmpfs":
        pytest.skip("the cache directory is on a tmpfs: there is nothing to write to")
    scene = share.scene()
    journal = share.cache_dir / "v1/writes"
    eventually(lambda: fake.head(scene.prefix) and not list(journal.glob("*.json")))
    hold(fake, held)
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, os.urandom(4 * MIB))
    scene.fs.fsync(nodeid, fh)
    files = [path for path in journal.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert unwritten(os.fsencode(path)) == 0, path


@pytest.mark.promise("r-back-3")
def test_it_is_tried_until_it_succeeds(fake: FakeS3, share: RemoteShare) -> None:
    scene = share.scene()
    fake.fault = failing("PUT", status=403, times=2)
    nodeid = scene.save("file", b"data")
    assert scene.load("file") == b"data"
    assert scene.names() == ["file"]
    assert scene.fs.getattr(nodeid).attr.size == 4
    eventually(lambda: scene.stored() == ["file"], 15.0)
    assert scene.get("file") == b"data"


@pytest.mark.promise("r-back-3")
def test_what_is_removed_or_renamed_by_then_costs_nothing(
    fake: FakeS3, make_fake_share: MakeShare
) -> None:
    share = make_fake_share("--upload=background", "--upload-delay=2")
    scene = share.scene()
    eventually(lambda: fake.head(scene.prefix))
    scene.save("gone", b"data")
    scene.fs.unlink(scene.top, b"gone")
    scene.save("temporary", b"data")
    scene.fs.rename(scene.top, b"temporary", scene.top, b"kept")
    scene.save("kept", b"again")
    assert scene.stored() == []
    eventually(lambda: scene.stored() == ["kept"])
    assert scene.get("kept") == b"again"
    names = {call.key for call in fake.calls if call.kind in WRITES}
    assert {scene.prefix + "gone", scene.prefix + "temporary"}.isdisjoint(names)
    assert sum(call.key == scene.prefix + "kept" for call in fake.calls if call.kind == "PUT") == 1


@pytest.mark.promise("r-back-3")
def test_elsewhere_it_is_seen_when_it_is_stored(
    fake: FakeS3, make_fake_share: MakeShare, held: threading.Event
) -> None:
    first, second = make_fake_share(*BACKGROUND), make_fake_share("--cache", "never")
    scene = first.scene()
    scene.save("file", b"old")
    eventually(lambda: scene.stored() == ["file"])
    hold(fake, held)
    scene.save("file", b"newer")
    top = second.fs.lookup(1, scene.name.encode()).nodeid
    assert second.fs.lookup(top, b"file").attr.size == 3
    held.set()
    eventually(lambda: second.fs.lookup(top, b"file").attr.size == 5)


@pytest.mark.promise("r-back-4")
def test_names_that_wait_survive_too(
    fake: FakeS3, share: RemoteShare, held: threading.Event
) -> None:
    scene = share.scene()
    nodeid = scene.save("file", b"data")
    eventually(lambda: scene.stored() == ["file"])
    hold(fake, held)
    scene.fs.setattr(nodeid, mode=0o600)
    scene.fs.mkdir(scene.top, b"dir")
    scene.fs.symlink(scene.node("dir"), b"link", b"target")
    scene.save("dir/new", b"new")
    share.kill()
    fake.fault = lambda _call: None
    held.set()
    share.start_again()
    scene.again()
    assert scene.names("dir") == ["link", "new"]
    assert scene.fs.readlink(scene.node("dir/link")) == b"target"
    assert scene.fs.getattr(scene.node("file")).attr.mode == 0o100600
    eventually(lambda: scene.stored() == ["dir/", "dir/link", "dir/new", "file"])
    eventually(lambda: scene.meta("file").get("mode") == str(0o100600))


@pytest.mark.promise("r-back-5")
def test_status_and_drain(fake: FakeS3, share: RemoteShare, held: threading.Event) -> None:
    scene = share.scene()
    hold(fake, held)
    scene.save("waiting", b"data")
    where = ("--cache-dir", str(share.cache_dir))
    status = tool("status", *where)
    assert status.returncode == 0
    assert "waiting" in status.stdout
    assert "fake-secret" not in status.stdout
    with pytest.raises(subprocess.TimeoutExpired):
        tool("drain", *where, timeout=2.0)
    held.set()
    assert tool("drain", *where).returncode == 0
    assert scene.get("waiting") == b"data"
    assert "waiting" not in tool("status", *where).stdout
