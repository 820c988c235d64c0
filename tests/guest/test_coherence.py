# SPDX-License-Identifier: Apache-2.0
"""When a guest sees what the host changes, for each cache policy.

In each test the guest has looked at everything before the host changes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.guest import Guest, boot

OLD = "old content\n"
NEW = "new content, and longer\n"


@contextmanager
def changed_by_host(share: Path, scratch: Path, policy: str) -> Iterator[Guest]:
    """A guest that knew the old state, after the host has made the new one."""
    (share / "file").write_text(OLD)
    (share / "gone").write_text(OLD)
    with boot(share, scratch, ["--cache", policy]) as guest:
        assert guest.check("cd /mnt && cat file gone && ls") == OLD + OLD + "file\ngone\n"
        assert guest.run("cat /mnt/made").status == 1
        (share / "file").write_text(NEW)
        (share / "made").write_text(NEW)
        (share / "gone").unlink()
        yield guest


def test_never_shows_the_hosts_changes_at_once(share: Path, tmp_path: Path) -> None:
    with changed_by_host(share, tmp_path, "never") as guest:
        seen = guest.check("cd /mnt && stat -c %s file && cat file made && ls")
        assert seen == f"{len(NEW)}\n{NEW}{NEW}file\nmade\n"
        assert guest.run("stat /mnt/gone").status == 1


def test_auto_shows_the_hosts_changes_after_a_second(share: Path, tmp_path: Path) -> None:
    with changed_by_host(share, tmp_path, "auto") as guest:
        seen = guest.check("sleep 1.2; cd /mnt && stat -c %s file && cat file made && ls")
        assert seen == f"{len(NEW)}\n{NEW}{NEW}file\nmade\n"
        assert guest.run("stat /mnt/gone").status == 1


def test_metadata_keeps_attributes_and_reads_data_anew(share: Path, tmp_path: Path) -> None:
    with changed_by_host(share, tmp_path, "metadata") as guest:
        assert guest.check("sleep 1.2; stat -c %s /mnt/file") == f"{len(OLD)}\n"
        assert guest.check("cat /mnt/file") == NEW


def test_always_keeps_attributes_and_data(share: Path, tmp_path: Path) -> None:
    with changed_by_host(share, tmp_path, "always") as guest:
        seen = guest.check(
            "sleep 1.2; stat -c %s /mnt/file && cat /mnt/file && stat -c %n /mnt/gone"
        )
        assert seen == f"{len(OLD)}\n{OLD}/mnt/gone\n"


def test_host_sees_what_the_guest_has_closed_though_it_gathers_writes(
    share: Path, tmp_path: Path
) -> None:
    with boot(share, tmp_path, ["--writeback"]) as guest:
        guest.check(f"mkdir /mnt/dir && printf '{OLD}' >/mnt/dir/file && mv /mnt/dir /mnt/moved")
        assert (share / "moved" / "file").read_text() == OLD
