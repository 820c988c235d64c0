# SPDX-License-Identifier: Apache-2.0
"""Shows ovfs at work: a real guest on a scratch directory, watched from both sides.

The steps are the same for any share (demo_share.py); demo_s3.py runs them on a bucket.

Every step prints what is done and what came of it. The exit status is 0 if all steps held, else 1.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from demo_share import MIB, Directory, Share

from tests.guest import Guest, GuestError, QemuGuest, host


class StepError(Exception):
    """What a step promised did not hold."""


def say(text: str, indent: int = 0) -> None:
    """Prints lines at once, indented."""
    for line in text.splitlines():
        print(" " * indent + line, flush=True)


def require(held: bool, otherwise: str) -> None:
    """Ends the step unless something held."""
    if not held:
        raise StepError(otherwise)


class Demo:
    """The steps, each on one share seen from the guest and from the other side."""

    def __init__(self, share: Share, guest: Guest) -> None:
        self.share = share
        self.guest = guest

    def in_guest(self, command: str, show: int = 6) -> str:
        """Runs a command in the guest, and shows it and the end of its output."""
        say(f"guest$ {command}", 4)
        output = self.guest.check(command, timeout=90)
        lines = output.splitlines()
        if len(lines) > show:
            say(f"... ({len(lines) - show} lines)", 6)
        say("\n".join(lines[-show:]), 6)
        return output

    def same_checksums(self, seen: str, *names: str) -> None:
        """Compares what sha256sum printed in the guest with the other side's files."""
        for name in names:
            held = self.share.sha256(name) in seen
            require(held, f"{name} has another checksum in the guest than for {self.share.side}")
        say(f"{self.share.side} has the same checksums", 4)

    def list_files(self) -> None:
        """The guest lists what {side} put there."""
        self.in_guest("mount | grep /mnt")
        listing = self.in_guest("ls -l /mnt", show=10)
        for name in self.share.names():
            require(name in listing, f"{name} is missing in the guest's listing")

    def read_files(self) -> None:
        """The guest reads what {side} wrote."""
        seen = self.in_guest("cd /mnt && sha256sum greeting.txt random.bin")
        self.same_checksums(seen, "greeting.txt", "random.bin")

    def write_files(self) -> None:
        """The guest writes, and {side} reads it."""
        seen = self.in_guest(
            "mkdir /mnt/from-guest && cd /mnt/from-guest && head -c 16M /dev/urandom >data.bin"
            " && sync && echo 'hello, you' >note.txt && sha256sum data.bin note.txt"
        )
        self.same_checksums(seen, "from-guest/data.bin", "from-guest/note.txt")

    def use_git(self) -> None:
        """A git repository lives in the share."""
        self.in_guest(
            "git init -q /mnt/repository && cd /mnt/repository && cp ../greeting.txt . &&"
            " seq 20000 >numbers.txt && git add . && git commit -q -m 'first' && git fsck --full"
            " && git log --oneline --stat"
        )
        wrong = self.share.check_repository("repository")
        require(not wrong, f"git fsck by {self.share.side}: {wrong}")
        say(f"git fsck by {self.share.side} agrees", 4)

    def extract_archive(self) -> None:
        """A tar archive is unpacked into the share and compared."""
        self.in_guest(
            "mkdir /mnt/unpacked /tmp/unpacked && tar -xf /mnt/tree.tar -C /mnt/unpacked &&"
            " tar -xf /mnt/tree.tar -C /tmp/unpacked && diff -r /tmp/unpacked /mnt/unpacked &&"
            ' echo "$(find /mnt/unpacked -type f | wc -l) files, no difference"'
        )

    def measure(self) -> None:
        """A short fio run; the guest, not the share, sets the pace where its CPU is emulated."""
        for name, pattern in (("read", "randread"), ("write", "randwrite")):
            command = (
                f"fio --name={name} --directory=/mnt --size=32M --rw={pattern} --bs=4k"
                " --ioengine=psync --runtime=3 --time_based --output-format=json"
            )
            say(f"guest$ {command}", 4)
            report = self.guest.check(command, timeout=60)
            job = json.loads(report[report.index("{") :])["jobs"][0]
            result = job[name]
            require(job["error"] == 0 and result["total_ios"] > 0, f"fio failed: {report}")
            rates = f"{result['iops']:,.0f} operations/s, {result['bw_bytes'] / MIB:,.1f} MiB/s"
            say(f"{name}: {rates}, mean latency {result['clat_ns']['mean'] / 1000:,.0f} µs", 6)


def run_step(number: int, title: str, step: Callable[[], None]) -> bool:
    """Runs one step; says how it went."""
    print(f"\n{number}. {title.rstrip('.')}", flush=True)
    began = time.monotonic()
    try:
        step()
    except (StepError, GuestError) as error:
        say(f"FAILED: {error}", 4)
        return False
    say(f"ok ({time.monotonic() - began:.1f} s)", 4)
    return True


def play(share: Share, scratch: Path) -> bool:
    """Starts daemon and guest and runs all steps; says whether all held."""
    share.fill()
    daemon = share.daemon()
    say(f"host$ {' '.join(daemon.command_line())}")
    with daemon:
        guest = QemuGuest(daemon.socket, scratch)
        how = "KVM" if host.accelerator() == "kvm" else "TCG (KVM does not run a kernel here)"
        say(f"\nhost$ {' '.join(guest.command_line())}\n\nbooting the guest with {how} ...")
        with guest:
            say(f"mounted after {guest.boot_seconds:.1f} s; {guest.check('uname -srm')}")
            demo = Demo(share, guest)
            steps = (
                demo.list_files,
                demo.read_files,
                demo.write_files,
                demo.use_git,
                demo.extract_archive,
                demo.measure,
            )
            titles = [(step.__doc__ or "").format(side=share.side) for step in steps]
            held = [
                run_step(number, title, step)
                for number, (title, step) in enumerate(zip(titles, steps, strict=True), 1)
            ]
            guest.check("umount /mnt")
    return all(held)


def main(make_share: Callable[[Path], Share]) -> int:
    """Runs the demonstration on a share made in a scratch directory; returns the exit status."""
    began = time.monotonic()
    place = "the share"
    with tempfile.TemporaryDirectory(prefix="ovfs-demo-") as scratch:
        try:
            share = make_share(Path(scratch))
            place = share.place
            held = play(share, Path(scratch))
        except Exception as error:  # noqa: BLE001  (whatever went wrong, the verdict says so)
            say(f"\nFAILED: {type(error).__name__}: {error}")
            held = False
    verdict = f"PASSED: the guest works in {place}" if held else "FAILED"
    print(f"\n{verdict} ({time.monotonic() - began:.0f} s)")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(Directory))
