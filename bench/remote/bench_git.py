# SPDX-License-Identifier: Apache-2.0
"""git init, add and commit of 300 files: a program that makes, renames and reads back small files.

ovfs serves a real guest, in User-mode Linux, whose own slowness is shown by the same commands on a
file system in its memory. The peers are mounted on this host.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from bench.remote.cases import BACKGROUND, OVFS, RCLONE, S3FS
from bench.remote.place import WAYS
from tests.guest import UmlGuest, has_uml
from tests.services.daemon import ServiceDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.remote.guest import Ovfs
    from bench.remote.mounted import Mounted
    from bench.remote.place import Place
    from bench.remote.table import RemoteReport
    from tests.guest import Guest

HEADING = "git init, add and commit of {count} files"
SECONDS = 60.0
TAG = "share"
QUIET_SECONDS = 2.0
IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "bench"), ("EMAIL", "bench@example.org"))
}
MAKE = "mkdir -p {source} && for n in $(seq {count}); do seq $n $((n + 300)) >{source}/$n.txt; done"
COMMIT = (
    "cd {target} && git init -q repository && cp -r {source}/. repository/ && cd repository"
    " && git add . && git commit -q -m first"
)
CHECK = "cd {target}/repository && git fsck --full && git status --short"


def until_quiet(place: Place) -> float:
    """Waits until nothing is stored any more; returns the seconds until then."""
    began = changed = time.perf_counter()
    known: dict[str, int] = {}
    while time.perf_counter() - changed < QUIET_SECONDS:
        found = place.sizes()
        if found != known:
            known, changed = found, time.perf_counter()
        time.sleep(0.05)
    return changed - began


@contextlib.contextmanager
def guest_on(contender: Ovfs, place: Place, scratch: Path) -> Iterator[Guest]:
    url = place.service.url(place.root, endpoint=place.endpoint)
    options = [*contender.options, "--tag", TAG]
    with (
        ServiceDaemon(url, scratch, options) as daemon,
        UmlGuest(daemon.socket, scratch, tag=TAG) as guest,
    ):
        yield guest
        guest.check("umount /mnt")


def in_guest(guest: Guest, target: str, count: int) -> float:
    """Runs the commands in the guest; returns the seconds."""
    words = {"source": "/tmp/source", "target": target, "count": count}  # noqa: S108  (the guest's)
    guest.check(MAKE.format(**words))
    began = time.perf_counter()
    guest.check(COMMIT.format(**words), timeout=SECONDS)
    seconds = time.perf_counter() - began
    checked = guest.check(CHECK.format(**words), timeout=SECONDS)
    assert not checked.strip()
    return seconds


def on_host(peer: Mounted, place: Place, scratch: Path, count: int) -> float | None:
    """Runs the commands on a mounted peer; None if they take too long."""
    environment = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null"}
    with peer.open(place) as files:
        words = {"source": scratch / "source", "target": files.root, "count": count}
        subprocess.run(["sh", "-c", MAKE.format(**words)], check=True)
        began = time.perf_counter()
        try:
            subprocess.run(
                ["sh", "-c", COMMIT.format(**words)], check=True, env=environment, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return None
        return time.perf_counter() - began


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", [way.name for way in WAYS])
def test_git(
    *,
    way: str,
    ways: dict[str, Place],
    results: RemoteReport,
    tmp_path: Path,
) -> None:
    count = 30 if results.is_quick else 300
    heading = HEADING.format(count=count)
    if not has_uml():
        pytest.skip("there is no User-mode Linux for this architecture")
    seconds: dict[str, float] = {}
    for peer in (RCLONE, S3FS):
        if peer.name not in results.missing:
            taken = on_host(peer, ways[way].fresh(), tmp_path, count)
            words = f"{taken:.2f} s" if taken is not None else f"more than {SECONDS:.0f} s"
            results.add(heading, f"{way}: {peer.name} {words}")
            seconds[peer.name] = taken if taken is not None else SECONDS
    for contender in (BACKGROUND, OVFS):
        place = ways[way].fresh()
        scratch = tmp_path / contender.name.replace(
            ", ", "-"
        )  # a kernel's command line has no quotes
        scratch.mkdir()
        with guest_on(contender, place, scratch) as guest:
            alone = in_guest(guest, "/run", count)
            seconds[contender.name] = in_guest(guest, "/mnt", count)
            stored = until_quiet(place)
        results.add(
            heading,
            f"{way}: {contender.name} {seconds[contender.name]:.2f} s, all stored {stored:.1f} s"
            f" after git's own check (in the guest's memory: {alone:.2f} s)",
        )
    if not results.is_quick and RCLONE.name in seconds and way == "10 ms":
        assert seconds[BACKGROUND.name] < seconds[RCLONE.name]
