# SPDX-License-Identifier: Apache-2.0
"""A share with several request queues is served on all of them."""

from pathlib import Path

import pytest

from tests.guest import Daemon, QemuGuest


@pytest.mark.parametrize("queues", [1, 2, 4])
def test_each_request_queue_serves_its_cpu(queues: int, share: Path, tmp_path: Path) -> None:
    with (
        Daemon(share, tmp_path, ["--queues", "4"]) as daemon,
        QemuGuest(daemon.socket, tmp_path, queues=queues, cpus=queues) as guest,
    ):
        # The kernel gives each CPU a queue; a process bound to each CPU uses each queue.
        output = guest.check(
            "fio --name=verify --directory=/mnt --rw=randwrite --bs=4k --size=1m --verify=crc32c"
            f" --verify_fatal=1 --do_verify=1 --numjobs={queues} --cpus_allowed=0-{queues - 1}"
            " --cpus_allowed_policy=split --fallocate=none",
            timeout=120,
        )
        assert output.count("err= 0") >= queues, output
        assert interrupted_queues(guest) == queues
        assert len(list(share.glob("verify.*"))) == queues


def interrupted_queues(guest: QemuGuest) -> int:
    """How many request queues have completed something, by the guest's count of interrupts."""
    table = guest.check("cat /proc/interrupts")
    counts = [line.split()[1:-2] for line in table.splitlines() if "-requests." in line]
    return sum(any(int(word) for word in words if word.isdigit()) for words in counts)
