# SPDX-License-Identifier: Apache-2.0
"""Shows ovfs at work: a real guest on a scratch directory, watched from both sides.

Every step prints what is done and what came of it. The exit status is 0 if all steps held, else 1.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.guest import Daemon, Guest, GuestError, QemuGuest, host  # noqa: E402  (path first)

MIB = 1 << 20


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


def sha256(path: Path) -> str:
    """The checksum of a file, as sha256sum prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Demo:
    """The steps, each on one directory seen from the host and from the guest."""

    def __init__(self, share: Path, guest: Guest) -> None:
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

    def list_files(self) -> None:
        """The guest lists what the host put there."""
        self.in_guest("mount | grep /mnt")
        listing = self.in_guest("ls -l /mnt", show=10)
        for entry in self.share.iterdir():
            require(entry.name in listing, f"{entry.name} is missing in the guest's listing")

    def read_files(self) -> None:
        """The guest reads what the host wrote."""
        seen = self.in_guest("cd /mnt && sha256sum greeting.txt random.bin")
        for name in ("greeting.txt", "random.bin"):
            require(sha256(self.share / name) in seen, f"{name} has another checksum in the guest")
        say("the host has the same checksums", 4)

    def write_files(self) -> None:
        """The host reads what the guest writes."""
        seen = self.in_guest(
            "mkdir /mnt/from-guest && cd /mnt/from-guest && head -c 16M /dev/urandom >data.bin"
            " && sync && echo 'hello, host' >note.txt && sha256sum data.bin note.txt"
        )
        for name in ("data.bin", "note.txt"):
            require(
                sha256(self.share / "from-guest" / name) in seen,
                f"{name} has another checksum on the host",
            )
        say("the host has the same checksums", 4)

    def use_git(self) -> None:
        """A git repository lives in the share."""
        self.in_guest(
            "git init -q /mnt/repository && cd /mnt/repository && cp ../greeting.txt . &&"
            " seq 20000 >numbers.txt && git add . && git commit -q -m 'first' && git fsck --full"
            " && git log --oneline --stat"
        )
        checked = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", self.share / "repository", "fsck", "--full"],
            capture_output=True,
            check=False,
        )
        require(checked.returncode == 0, f"git fsck on the host: {checked.stderr.decode()}")
        say("git fsck on the host agrees", 4)

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


def fill(share: Path) -> None:
    """Puts the files into the directory that the guest is to find."""
    (share / "greeting.txt").write_text("hello, guest\n")
    (share / "random.bin").write_bytes(os.urandom(8 * MIB))
    (share / "directory").mkdir()
    (share / "link").symlink_to("greeting.txt")
    parts = [part for part in ("ovfs", "c", "tests", "scripts") if (ROOT / part).is_dir()]
    archive = ("-cf", share / "tree.tar")
    subprocess.run(["tar", "-C", ROOT, "--exclude=*.so", *archive, *parts], check=True)


def run_step(number: int, step: Callable[[], None]) -> bool:
    """Runs one step; says how it went."""
    print(f"\n{number}. {(step.__doc__ or '').rstrip('.')}", flush=True)
    began = time.monotonic()
    try:
        step()
    except (StepError, GuestError) as error:
        say(f"FAILED: {error}", 4)
        return False
    say(f"ok ({time.monotonic() - began:.1f} s)", 4)
    return True


def play(scratch: Path) -> bool:
    """Starts daemon and guest and runs all steps; says whether all held."""
    share = scratch / "share"
    share.mkdir()
    fill(share)
    daemon = Daemon(share, scratch)
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
            held = [run_step(number, step) for number, step in enumerate(steps, 1)]
            guest.check("umount /mnt")
    return all(held)


def main() -> int:
    """Runs the demonstration; returns the exit status."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ovfs-demo-") as scratch:
        try:
            held = play(Path(scratch))
        except Exception as error:  # noqa: BLE001  (whatever went wrong, the verdict says so)
            say(f"\nFAILED: {type(error).__name__}: {error}")
            held = False
    verdict = "PASSED: the guest works in the directory" if held else "FAILED"
    print(f"\n{verdict} ({time.monotonic() - began:.0f} s)")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
