# SPDX-License-Identifier: Apache-2.0
"""--upload=background on a service that pauses, dies and comes back.

Names are known to the guest before the service stands still (`--cache always`): what is asked of it
then has to wait for it.
"""

from __future__ import annotations

import os
import random
import time
from errno import ESTALE
from typing import TYPE_CHECKING, Final

import pytest

from tests.conftest import file_system_of
from tests.remote.ovfs_tool import drain, start_drain, status, waiting
from tests.semantics.remote.share import RemoteShare, eventually
from tests.semantics.test_durability import unwritten
from tests.services.bucket import Bucket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remote.conftest import MakeShare
    from tests.semantics.remote.scene import Scene
    from tests.services.seaweed import SeaweedFS

MIB: Final = 1 << 20
BACKGROUND: Final = ("--upload", "background", "--upload-delay", "1", "--cache", "always")
AT_ONCE: Final = 1.0  # seconds: no time-out of a remote call is shorter


@pytest.fixture
def share(make_share: MakeShare) -> RemoteShare:
    """A daemon in background mode."""
    return make_share(*BACKGROUND)


@pytest.fixture
def scene(share: RemoteShare) -> Scene:
    """A directory all of whose names are known: none."""
    made = share.scene()
    assert drain(share.cache_dir) == (0, "")
    return made


def timed_save(scene: Scene, name: str, data: bytes) -> float:
    """Saves a file; returns how long its close took."""
    nodeid, fh = scene.make(name)
    scene.write(nodeid, fh, 0, data)
    began = time.monotonic()
    scene.close(nodeid, fh)
    return time.monotonic() - began


def test_a_close_returns_while_the_service_stands_still(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    data = {f"file-{number}": os.urandom(1000 << number) for number in range(10)}
    pausable.pause()
    times = [timed_save(scene, name, content) for name, content in data.items()]
    assert max(times) < AT_ONCE
    assert waiting(share.cache_dir) == sorted(f"{scene.name}/{name}" for name in data)
    with start_drain(share.cache_dir) as draining:
        time.sleep(1.0)
        assert draining.poll() is None
        pausable.resume()
        assert draining.wait(60.0) == 0
    assert {name: scene.get(name) for name in data} == data
    assert waiting(share.cache_dir) == []


def test_drain_gives_up_and_says_what_waits(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    pausable.pause()
    scene.save("file", b"data")
    code, text = drain(share.cache_dir, "--timeout", "1")
    assert code == 1
    assert f"{scene.name}/file" in text


def test_a_restart_finishes(pausable: SeaweedFS, share: RemoteShare, scene: Scene) -> None:
    large = os.urandom(20 * MIB)
    pausable.pause()
    scene.save("small", b"small")
    scene.save("large", large)
    share.kill()
    pausable.resume()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert (scene.get("small"), scene.get("large")) == (b"small", large)
    assert scene.share.objects.keys() == [
        f"{scene.prefix}",
        f"{scene.prefix}large",
        f"{scene.prefix}small",
    ]


def test_what_is_renamed_before_it_is_stored(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    pausable.pause()
    scene.save("first", b"data")
    scene.fs.rename(scene.top, b"first", scene.top, b"second")
    assert waiting(share.cache_dir) == [f"{scene.name}/second"]
    share.kill()
    pausable.resume()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert scene.stored() == ["second"]
    assert scene.get("second") == b"data"


def test_what_is_renamed_over_something_that_waits(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    """As editors save: the new file takes the old one's name. Neither is on the service."""
    pausable.pause()
    scene.save("file", b"old")
    scene.save("file.new", b"new")
    scene.fs.rename(scene.top, b"file.new", scene.top, b"file")
    share.kill()
    pausable.resume()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert scene.stored() == ["file"]
    assert scene.get("file") == b"new"
    assert status(share.cache_dir)["cache"]["conflicts"] == 0


def test_what_is_unlinked_before_it_is_stored(share: RemoteShare, scene: Scene) -> None:
    nodeid = scene.save("file", b"data")
    scene.fs.unlink(scene.top, b"file")
    assert waiting(share.cache_dir) == []
    time.sleep(0.6)
    assert scene.stored() == []
    assert scene.fs.getattr(nodeid).attr.nlink == 0
    assert not list((share.cache_dir / "v1/writes").iterdir())


def test_what_is_unlinked_while_it_is_being_stored(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    pausable.pause()
    scene.save("file", bytes(4 * MIB))
    time.sleep(0.6)
    pending = scene.fs.submit(10, scene.top, b"file\0", 0)
    pausable.resume()
    scene.fs.wait(pending)
    assert drain(share.cache_dir) == (0, "")
    assert scene.stored() == []


def test_what_is_written_while_it_is_being_stored(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    old = random.Random(1).randbytes(20 * MIB)
    new = bytearray(old)
    new[7 * MIB : 7 * MIB + 5] = b"12345"
    scene.save("file", old)
    eventually(lambda: pausable_has_parts(share, scene), 20.0)
    nodeid, fh = scene.open("file")
    scene.write(nodeid, fh, 7 * MIB, b"12345")
    assert scene.read(nodeid, fh, 7 * MIB, 5) == b"12345"
    scene.close(nodeid, fh)
    seen = {old, bytes(new)}
    while waiting(share.cache_dir):
        assert not scene.stored() or scene.get("file") in seen
    assert scene.get("file") == new


def pausable_has_parts(share: RemoteShare, scene: Scene) -> bool:
    """Whether an upload has begun, or is over already."""
    assert isinstance(share.objects, Bucket)
    return bool(share.objects.uploads()) or bool(scene.stored())


def test_a_version_that_is_owed_survives_what_is_written_over_it(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    """The guest has begun to write the file anew and not closed it, when the daemon dies."""
    data = os.urandom(100_000)
    pausable.pause()
    scene.save("file", data)
    nodeid, fh = scene.make("file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    scene.write(nodeid, fh, 0, b"half of the ne")
    share.kill()
    pausable.resume()
    share.start_again()
    scene.again()
    assert scene.load("file") == data
    assert drain(share.cache_dir) == (0, "")
    assert scene.get("file") == data


def test_a_file_that_is_being_changed_is_not_stored(share: RemoteShare, scene: Scene) -> None:
    scene.save("file", b"old content")
    nodeid, fh = scene.make("file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    scene.write(nodeid, fh, 0, b"new")
    time.sleep(1.0)
    assert scene.stored() == []
    scene.write(nodeid, fh, 3, b" and whole")
    scene.close(nodeid, fh)
    eventually(lambda: scene.stored() == ["file"])
    assert scene.get("file") == b"new and whole"


def test_a_file_that_is_synced_again_and_again_is_stored(share: RemoteShare, scene: Scene) -> None:
    nodeid, fh = scene.make("log")
    deadline = time.monotonic() + 20.0
    for number in range(10_000):
        scene.write(nodeid, fh, 10 * number, b"%9d\n" % number)
        scene.fs.fsync(nodeid, fh)
        if scene.stored() or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert scene.stored() == ["log"]
    assert len(scene.get("log")) % 10 == 0


def test_fsync_after_a_flush_is_on_the_disk(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    if file_system_of(share.cache_dir) == "tmpfs":
        pytest.skip("the cache directory is on a tmpfs: there is nothing to write to")
    pausable.pause()
    nodeid, fh = scene.make("file")
    scene.write(nodeid, fh, 0, os.urandom(4 * MIB))
    scene.fs.flush(nodeid, fh)
    files = [path for path in (share.cache_dir / "v1/writes").iterdir() if path.is_file()]
    assert len(files) == 2  # the bytes and the entry
    assert sum(unwritten(os.fsencode(path)) for path in files) > 0
    scene.fs.fsync(nodeid, fh)
    assert sum(unwritten(os.fsencode(path)) for path in files) == 0


def test_a_change_of_mode_that_is_owed_leaves_the_bytes_alone(
    share: RemoteShare, scene: Scene
) -> None:
    data = os.urandom(50_000)
    nodeid = scene.save("file", data)
    eventually(lambda: scene.stored() == ["file"])
    assert drain(share.cache_dir) == (0, "")
    scene.fs.setattr(nodeid, mode=0o600)
    share.kill()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert scene.get("file") == data
    assert scene.meta("file")["mode"] == str(0o100600)


def test_the_end_while_the_service_is_down(
    pausable: SeaweedFS, share: RemoteShare, scene: Scene
) -> None:
    pausable.kill()
    scene.save("file", b"data")
    began = time.monotonic()
    assert share.stop() == 1
    assert time.monotonic() - began < 16.0
    assert waiting(share.cache_dir) == [f"{scene.name}/file"]
    code, text = drain(share.cache_dir)
    assert code == 1
    assert "nobody stores" in text
    pausable.start()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert scene.get("file") == b"data"


def test_another_daemon_takes_over(make_share: MakeShare, pausable: SeaweedFS) -> None:
    first, second = make_share(*BACKGROUND), make_share(*BACKGROUND)
    scene = first.scene()
    assert drain(first.cache_dir) == (0, "")
    pausable.pause()
    scene.save("file", b"data")
    found = status(first.cache_dir)
    assert len(found["daemons"]) == 2
    first.kill()
    pausable.resume()
    time.sleep(0.5)
    assert waiting(second.cache_dir) == [f"{scene.name}/file"]
    assert drain(second.cache_dir) == (0, "")
    assert scene.get("file") == b"data"
    top = second.fs.lookup(1, scene.name.encode()).nodeid
    assert second.fs.lookup(top, b"file").attr.size == 4


def test_a_daemon_of_another_place_does_not(
    make_share: MakeShare, pausable: SeaweedFS, bucket_root: str, cache_dir: Path
) -> None:
    first = make_share(*BACKGROUND)
    scene = first.scene()
    assert drain(cache_dir) == (0, "")
    pausable.pause()
    scene.save("file", b"data")
    first.kill()
    pausable.resume()
    elsewhere = Bucket(pausable, f"{bucket_root}elsewhere/")
    url = pausable.url(root=f"{bucket_root}elsewhere/")
    with RemoteShare(url, elsewhere, BACKGROUND, cache_dir=cache_dir):
        code, text = drain(cache_dir)
        assert code == 1
        assert f"{scene.name}/file" in text
        assert elsewhere.keys() == []
    first.start_again()
    assert drain(cache_dir) == (0, "")
    assert scene.get("file") == b"data"


def test_both_daemons_write_the_same_file(make_share: MakeShare, pausable: SeaweedFS) -> None:
    """One wins, and what the other had promised is kept."""
    first, second = make_share(*BACKGROUND), make_share(*BACKGROUND)
    scene = first.scene()
    assert drain(first.cache_dir) == (0, "")
    top = second.fs.lookup(1, scene.name.encode()).nodeid
    assert second.fs.list_names(top) == []
    pausable.pause()
    scene.save("file", b"first's")
    entry, opened = second.fs.create(top, b"file")
    second.fs.write(entry.nodeid, opened.fh, 0, b"second's")
    second.fs.flush(entry.nodeid, opened.fh)
    pausable.resume()
    assert drain(first.cache_dir) == (0, "")
    kept = [path.read_bytes() for path in (first.cache_dir / "v1/conflicts").iterdir()]
    assert sorted([*kept, scene.get("file")]) == [b"first's", b"second's"]


def test_a_dead_daemons_file_that_is_open_here(make_share: MakeShare, pausable: SeaweedFS) -> None:
    """What the dead one owed and what is being written here are two versions; neither is lost."""
    first, second = make_share(*BACKGROUND), make_share(*BACKGROUND)
    scene = first.scene()
    assert drain(first.cache_dir) == (0, "")
    top = second.fs.lookup(1, scene.name.encode()).nodeid
    assert second.fs.list_names(top) == []
    pausable.pause()
    scene.save("file", b"first's")
    first.kill()
    entry, opened = second.fs.create(top, b"file")
    second.fs.write(entry.nodeid, opened.fh, 0, b"second's")
    pausable.resume()
    assert drain(second.cache_dir) == (0, "")
    assert scene.get("file") == b"first's"
    second.fs.flush(entry.nodeid, opened.fh)  # in background mode it is told afterwards
    assert drain(second.cache_dir) == (0, "")
    with pytest.raises(OSError, match="Stale") as caught:
        second.fs.write(entry.nodeid, opened.fh, 0, b"more")
    assert caught.value.errno == ESTALE
    kept = [path.read_bytes() for path in (first.cache_dir / "v1/conflicts").iterdir()]
    assert kept == [b"second's"]
