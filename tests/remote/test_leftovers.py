# SPDX-License-Identifier: Apache-2.0
"""Parts of multipart uploads that came to nothing do not stay on the service."""

from __future__ import annotations

import os
import time
from errno import ESTALE
from typing import TYPE_CHECKING, Final

import pytest

from tests.remote.ovfs_tool import drain
from tests.semantics.remote.share import eventually
from tests.services.bucket import Bucket

if TYPE_CHECKING:
    from tests.remote.conftest import MakeShare
    from tests.semantics.remote.scene import Scene
    from tests.semantics.remote.share import RemoteShare
    from tests.services.seaweed import SeaweedFS

MIB: Final = 1 << 20
LARGE: Final = 40 * MIB
LONG_AGO: Final = 3.0  # seconds: times are told to the second, and clocks may differ a little


@pytest.fixture
def parts(pausable: SeaweedFS, bucket_root: str) -> Bucket:
    """The prefix, to see what uploads are under way."""
    return Bucket(pausable, bucket_root)


def stream(scene: Scene, name: str, parts: Bucket) -> tuple[int, int]:
    """Begins to write a large new file, until parts of it are on the service."""
    key = scene.prefix + name
    before = parts.uploads().count(key)
    nodeid, fh = scene.make(name)
    data = os.urandom(MIB)
    for at in range(0, LARGE, MIB):
        scene.write(nodeid, fh, at, data)
    eventually(lambda: parts.uploads().count(key) > before)
    return nodeid, fh


def test_a_kill_while_a_file_is_written(make_share: MakeShare, parts: Bucket) -> None:
    share = make_share()
    scene = share.scene()
    stream(scene, "file", parts)
    share.kill()
    assert parts.uploads() == [f"{scene.prefix}file"]
    share.start_again()
    eventually(lambda: parts.uploads() == [])
    assert scene.stored() == []


def test_a_kill_while_a_closed_file_is_stored(make_share: MakeShare, parts: Bucket) -> None:
    """The next daemon uploads the same key while it cleans up; it does not take its own away."""
    share = make_share("--upload", "background", "--upload-delay", "1")
    scene = share.scene()
    data = os.urandom(LARGE)
    scene.save("file", data)
    eventually(lambda: parts.uploads() or scene.stored())
    share.kill()
    share.start_again()
    assert drain(share.cache_dir) == (0, "")
    assert scene.get("file") == data
    eventually(lambda: parts.uploads() == [])
    assert list((share.cache_dir / "v1/conflicts").iterdir()) == []


def test_an_upload_that_is_given_up(make_share: MakeShare, parts: Bucket) -> None:
    """The guest changes what was sent: all is sent anew when it closes the file."""
    share = make_share()
    scene = share.scene()
    nodeid, fh = stream(scene, "file", parts)
    scene.write(nodeid, fh, 100, b"changed")
    eventually(lambda: parts.uploads() == [])
    scene.close(nodeid, fh)
    assert scene.get("file")[100:107] == b"changed"
    assert parts.uploads() == []


def test_an_upload_that_loses_a_race(make_share: MakeShare, parts: Bucket) -> None:
    share = make_share()
    scene = share.scene()
    nodeid, fh = stream(scene, "file", parts)
    scene.put("file", b"another's")
    with pytest.raises(OSError, match="Stale") as caught:
        scene.fs.flush(nodeid, fh)
    assert caught.value.errno == ESTALE
    eventually(lambda: parts.uploads() == [])
    assert scene.get("file") == b"another's"


def test_a_removed_file(make_share: MakeShare, parts: Bucket) -> None:
    share = make_share()
    scene = share.scene()
    stream(scene, "file", parts)
    scene.fs.unlink(scene.top, b"file")
    eventually(lambda: parts.uploads() == [])
    assert scene.stored() == []


def test_what_others_upload_is_left_alone(make_share: MakeShare, parts: Bucket) -> None:
    share = make_share()
    scene = share.scene()
    before = parts.begin_upload(f"{scene.prefix}file")
    time.sleep(LONG_AGO)
    stream(scene, "file", parts)
    other = parts.begin_upload(f"{scene.prefix}other")
    share.kill()
    assert len(parts.uploads()) == 3
    share.start_again()
    eventually(lambda: len(parts.uploads()) == 2)
    time.sleep(0.5)
    assert sorted(parts.uploads()) == [f"{scene.prefix}file", f"{scene.prefix}other"]
    parts.abort_upload(f"{scene.prefix}file", before)
    parts.abort_upload(f"{scene.prefix}other", other)
    assert parts.uploads() == []


def test_a_living_daemons_upload_of_the_same_key(make_share: MakeShare, parts: Bucket) -> None:
    """Whatever is cleaned up, the other one's close stores what it has."""
    first, second = make_share(), make_share()
    scene = first.scene()
    stream(scene, "file", parts)
    top = second.fs.lookup(1, scene.name.encode()).nodeid
    entry, opened = second.fs.create(top, b"file")
    data = os.urandom(MIB)
    for at in range(0, LARGE, MIB):
        second.fs.write(entry.nodeid, opened.fh, at, data)
    eventually(lambda: len(parts.uploads()) == 2)
    first.kill()
    first.start_again()
    eventually(lambda: len(parts.uploads()) < 2)
    time.sleep(0.5)
    second.fs.flush(entry.nodeid, opened.fh)
    assert scene.get("file") == data * (LARGE // MIB)
    eventually(lambda: parts.uploads() == [])


def test_nothing_is_left_of_an_upload_that_is_an_object(
    make_share: MakeShare, parts: Bucket
) -> None:
    """Its note in the cache directory is gone as well."""
    share = make_share()
    scene = share.scene()
    nodeid, fh = stream(scene, "file", parts)
    scene.close(nodeid, fh)
    notes = share.cache_dir / "v1/uploads"
    assert list(notes.iterdir()) == []
    assert parts.uploads() == []


def test_the_rest_of_a_service_that_was_down(
    pausable: SeaweedFS, make_share: MakeShare, parts: Bucket
) -> None:
    """What could not be taken away at the end is taken away at the next start."""
    share: RemoteShare = make_share()
    scene = share.scene()
    stream(scene, "file", parts)
    pausable.kill()
    share.stop()
    pausable.start()
    assert parts.uploads() == [f"{scene.prefix}file"]
    share.start_again()
    eventually(lambda: parts.uploads() == [])
