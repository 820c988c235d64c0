# SPDX-License-Identifier: Apache-2.0
"""A daemon without privileges: it serves as its own user, and says what that means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.nobody import COMMAND, NOBODY
from tests.operations.scene import make_file
from tests.operations.share import PLACES, PLAIN, Share
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE = 1000


@pytest.fixture(scope="module", params=list(PLACES))
def share(request: pytest.FixtureRequest) -> Iterator[Share]:
    """A daemon that runs as nobody, on a directory of nobody's."""
    with Share(request.param, PLAIN, command=COMMAND) as made:
        os.chown(made.root, NOBODY, NOBODY)
        yield made


@pytest.mark.promise("owner-7")
def test_what_is_made_is_the_daemons(share: Share) -> None:
    fs = share.fs
    entry, opened = fs.create(ROOT_ID, b"new", uid=ALICE, gid=ALICE)
    assert (entry.attr.uid, entry.attr.gid) == (NOBODY, NOBODY)
    assert fs.write(entry.nodeid, opened.fh, 0, b"data") == 4
    assert fs.mkdir(ROOT_ID, b"dir", uid=ALICE, gid=ALICE).attr.uid == NOBODY
    assert fs.symlink(ROOT_ID, b"link", b"new", uid=0, gid=0).attr.uid == NOBODY
    assert sorted(os.listdir(share.root)) == ["dir", "link", "new"]


@pytest.mark.promise("owner-7")
def test_nothing_is_given_away(share: Share) -> None:
    entry, _ = share.fs.create(ROOT_ID, b"mine")
    with pytest.raises(PermissionError):
        share.fs.setattr(entry.nodeid, owner=ALICE)
    assert share.fs.setattr(entry.nodeid, owner=NOBODY, mode=0o600).attr.uid == NOBODY


@pytest.mark.promise("owner-7")
def test_the_hosts_permissions_bind_the_daemon(share: Share) -> None:
    make_file(os.fsencode(share.root / "foreign"), b"data", 0o600)
    entry = share.fs.lookup(ROOT_ID, b"foreign")
    assert entry.attr.size == 4
    with pytest.raises(PermissionError):
        share.fs.open(entry.nodeid)
    with pytest.raises(PermissionError):
        share.fs.setattr(entry.nodeid, mode=0o666)


def test_an_unlinked_file_lives_on(share: Share) -> None:
    fs = share.fs
    entry, opened = fs.create(ROOT_ID, b"unlinked")
    fs.unlink(ROOT_ID, b"unlinked")
    assert fs.write(entry.nodeid, opened.fh, 0, b"data") == 4
    assert fs.getattr(entry.nodeid).attr.nlink == 0
    assert fs.read(entry.nodeid, fs.open(entry.nodeid).fh, 0, 10) == b"data"


def test_a_replaced_file_is_another_node(share: Share) -> None:
    path = os.fsencode(share.root / "replaced")
    make_file(path, b"old")
    old = share.fs.lookup(ROOT_ID, b"replaced")
    os.unlink(path)
    make_file(path, b"newer")
    new = share.fs.lookup(ROOT_ID, b"replaced")
    assert (new.nodeid != old.nodeid, new.attr.size) == (True, 5)


def test_links_and_renames(share: Share) -> None:
    fs = share.fs
    entry, _ = fs.create(ROOT_ID, b"one")
    assert fs.link(entry.nodeid, ROOT_ID, b"two").attr.nlink == 2
    fs.rename(ROOT_ID, b"one", ROOT_ID, b"two")
    assert fs.lookup(ROOT_ID, b"two").nodeid == entry.nodeid
    temporary, opened = fs.tmpfile(ROOT_ID)
    assert fs.link(temporary.nodeid, ROOT_ID, b"three").nodeid == temporary.nodeid
    fs.release(temporary.nodeid, opened.fh)
    assert (share.root / "three").exists()


@pytest.mark.promise("owner-7")
def test_it_says_so_at_start(share: Share) -> None:
    assert "not running as root" in share.daemon.log()
    assert "file handles" in share.daemon.log()
