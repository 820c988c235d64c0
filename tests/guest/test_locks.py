# SPDX-License-Identifier: Apache-2.0
"""Two guests on one directory, each with a daemon of its own, exclude each other by locks."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.guest import Daemon, GuestTimeoutError, Job, QemuGuest

# What one guest changes the other sees at once only if neither keeps anything.
OPTIONS = ["--posix-lock", "--flock", "--cache", "never"]


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[QemuGuest]]:
    """Two guests that were booted side by side on the same directory."""
    share = tmp_path_factory.mktemp("share")
    with ExitStack() as stack:
        booted = []
        for name in ("one", "two"):
            scratch = tmp_path_factory.mktemp(name)
            daemon = stack.enter_context(Daemon(share, scratch, OPTIONS))
            booted.append(stack.enter_context(QemuGuest(daemon.socket, scratch, memory="512M")))
        yield booted


def hold(guest: QemuGuest, kind: str) -> Job:
    """Takes the lock and keeps it until /tmp/release exists in that guest."""
    guest.check("rm -f /tmp/release /tmp/state")
    job = guest.begin(f"/tests/lock {kind} try /mnt/{kind} /tmp/release >/tmp/state")
    guest.check(
        "for i in $(seq 100); do grep -q locked /tmp/state && exit 0; sleep 0.1; done; exit 1"
    )
    return job


@pytest.mark.parametrize("kind", ["fcntl", "flock"])
def test_lock_of_one_guest_refuses_the_other(kind: str, guests: list[QemuGuest]) -> None:
    one, two = guests
    holder = hold(one, kind)
    assert two.run(f"/tests/lock {kind} try /mnt/{kind}").status == 1
    one.check("touch /tmp/release")
    assert holder.wait().status == 0
    assert two.run(f"/tests/lock {kind} try /mnt/{kind}").status == 0


@pytest.mark.parametrize("kind", ["fcntl", "flock"])
def test_waiting_for_a_lock_holds_up_nothing_else(kind: str, guests: list[QemuGuest]) -> None:
    one, two = guests
    holder = hold(one, kind)
    waiter = two.begin(f"/tests/lock {kind} wait /mnt/{kind}")
    with pytest.raises(GuestTimeoutError):
        waiter.wait(1.0)
    # The share has one request queue, on which the waiting lock sits.
    assert (
        two.check(f"echo busy >/mnt/other-{kind} && cat /mnt/other-{kind}", timeout=20) == "busy\n"
    )
    one.check("touch /tmp/release")
    assert holder.wait().status == 0
    result = waiter.wait(20)
    assert (result.status, result.output) == (0, "locked\n")


def test_database_written_by_two_guests_stays_whole(guests: list[QemuGuest]) -> None:
    one, two = guests
    one.check("sqlite3 /mnt/t.db 'create table t(v)'")
    insert = (
        "for i in $(seq 15); do"
        " sqlite3 -cmd '.timeout 60000' /mnt/t.db 'insert into t values(1)' || exit 1; done"
    )
    jobs = [guest.begin(insert) for guest in (one, two)]
    for job in jobs:
        result = job.wait(120)
        assert result.status == 0, result.output
    assert (
        one.check("sqlite3 /mnt/t.db 'select count(*) from t; pragma integrity_check'")
        == "30\nok\n"
    )
