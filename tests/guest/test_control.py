# SPDX-License-Identifier: Apache-2.0
"""What a VMM may do to a share while the guest uses it: stop it, reset it, vanish."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.guest import Daemon, QemuGuest

# Runs for some seconds, writes, reads back and compares.
VERIFYING = (
    "fio --name=verify --directory=/mnt --rw=randwrite --bs=4k --size=6m --ioengine=psync --loops=2"
    " --verify=crc32c --verify_fatal=1 --verify_backlog=64"
)
# Writes until it is ended from outside.
ENDLESS = "while :; do dd if=/dev/urandom of=/mnt/endless bs=64k count=32 conv=fsync; done"


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def write_kept_file(guest: QemuGuest) -> str:
    """Writes a file that must be there later; returns the sha256sum of it that the guest saw."""
    return guest.check(
        "head -c 1000000 /dev/urandom >/mnt/kept && sync /mnt/kept && sha256sum </mnt/kept"
    )


def assert_kept(guest: QemuGuest, share: Path, seen: str) -> None:
    assert guest.check("sha256sum </mnt/kept") == seen
    assert hashlib.sha256((share / "kept").read_bytes()).hexdigest() == seen[:64]


def open_fds(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def test_stop_and_cont_keep_io_handles_and_unlinked_files(share: Path, tmp_path: Path) -> None:
    with Daemon(share, tmp_path) as daemon, QemuGuest(daemon.socket, tmp_path) as guest:
        holder = guest.begin(
            "seq 100000 >/mnt/gone; exec 5</mnt/gone; rm /mnt/gone; echo held >/mnt/held;"
            " while [ ! -e /mnt/go ]; do sleep 0.1; done; sha256sum <&5"
        )
        wait_until((share / "held").exists)
        fio = guest.begin(VERIFYING)
        wait_until(lambda: any(share.glob("verify.*")))
        for _ in range(5):
            time.sleep(0.3)
            guest.qmp("stop")
            assert guest.qmp("query-status")["status"] == "paused"  # type: ignore[index]
            time.sleep(0.2)
            guest.qmp("cont")
        result = fio.wait(120)
        assert result.status == 0, result.output
        assert "err= 0" in result.output
        (share / "go").touch()
        expected = hashlib.sha256(b"".join(b"%d\n" % n for n in range(1, 100001))).hexdigest()
        assert holder.wait(30).output.split()[0] == expected


def test_reset_during_io_and_reboot_leave_the_share_usable(share: Path, tmp_path: Path) -> None:
    with Daemon(share, tmp_path) as daemon, QemuGuest(daemon.socket, tmp_path) as guest:
        seen = write_kept_file(guest)
        guest.begin(ENDLESS)
        wait_until((share / "endless").exists)
        guest.qmp("system_reset")
        guest.wait_boot(2)
        assert_kept(guest, share, seen)
        assert guest.check("echo again >/mnt/after-reset && cat /mnt/after-reset") == "again\n"

        # Nodes and handles of the guest that rebooted are given back.
        guest.check("for i in $(seq 300); do echo $i >/mnt/file-$i; done")
        guest.begin("for i in $(seq 40); do sleep 1000 </mnt/file-$i & done; wait")
        guest.begin("reboot -f")
        guest.wait_boot(3)
        assert_kept(guest, share, seen)
        assert open_fds(daemon) < 64 + 2 * os.cpu_count()  # type: ignore[operator]


def test_vmm_killed_during_io_is_followed_by_the_next(share: Path, tmp_path: Path) -> None:
    with Daemon(share, tmp_path) as daemon:
        idle = open_fds(daemon)
        daemon.probe()
        with QemuGuest(daemon.socket, tmp_path) as guest:
            seen = write_kept_file(guest)
            guest.begin(ENDLESS)
            guest.begin("while :; do ls -lR /mnt; done")
            wait_until((share / "endless").exists)
            guest.kill()
        assert daemon.running()
        wait_until(lambda: open_fds(daemon) <= idle + 4)
        with QemuGuest(daemon.socket, tmp_path) as guest:
            assert_kept(guest, share, seen)
            assert guest.check("echo next >/mnt/next && cat /mnt/next") == "next\n"
