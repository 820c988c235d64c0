# SPDX-License-Identifier: Apache-2.0
"""What this host has for guests: a QEMU, a kernel, and an accelerator that really runs it.

/dev/kvm says little: on machines that are virtual themselves it may exist, open and create VMs, and
still fail at the guest's first unusual instruction. So the kernel is booted once, without a root
file system; when it gets as far as missing one, the accelerator works. The answer holds until the
host boots again.
"""

import functools
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "guest"

_PROBE_SECONDS = 8.0


@dataclass(frozen=True)
class Machine:
    """How QEMU is called for an architecture."""

    program: str
    options: tuple[str, ...]
    console: str


MACHINES = {
    "x86_64": Machine("qemu-system-x86_64", ("-machine", "q35"), "ttyS0"),
    "aarch64": Machine("qemu-system-aarch64", ("-machine", "virt,gic-version=max"), "ttyAMA0"),
}


@dataclass(frozen=True)
class Kernel:
    """A guest kernel, and the modules that it needs for virtio-fs, in the order of loading."""

    path: Path
    modules: tuple[Path, ...]


def machine() -> Machine:
    """The QEMU of this architecture."""
    return MACHINES[platform.machine()]


def guest_kernel() -> Kernel:
    """The kernel to boot: $KERNEL, else the one that `make kernel` fetched.

    Raises:
        FileNotFoundError: there is neither.
    """
    named = os.environ.get("KERNEL")
    if named:
        return Kernel(Path(named), ())
    fetched = ROOT / ".cache" / "kernel"
    path = fetched / "vmlinuz"
    if not path.exists():
        raise FileNotFoundError(f"{path}: make kernel fetches it, or KERNEL=/path names another")
    return Kernel(path, tuple(sorted((fetched / "modules").glob("*.ko"))))


@functools.cache
def accelerator() -> str:
    """`kvm` where KVM runs the guest's kernel on this host, else `tcg`."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    kernel = guest_kernel().path
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    probed = CACHE / "accelerator"
    question = f"{boot} {kernel.stat().st_mtime_ns} {kernel}"
    if probed.exists():
        asked, _, answer = probed.read_text().rpartition("\n")
        if asked == question:
            return answer
    answer = "kvm" if _boots(kernel, "kvm") else "tcg"
    CACHE.mkdir(parents=True, exist_ok=True)
    probed.write_text(f"{question}\n{answer}")
    return answer


def accelerator_options(name: str) -> tuple[str, ...]:
    """The options of QEMU for an accelerator."""
    if name == "kvm":
        return ("-accel", "kvm", "-cpu", "host")
    return ("-accel", "tcg,thread=multi", "-cpu", "max")


def _boots(kernel: Path, name: str) -> bool:
    """Says whether the kernel runs until it misses a root file system, and QEMU then ends."""
    host = machine()
    command = [
        host.program,
        *host.options,
        *accelerator_options(name),
        *("-m", "256", "-nographic", "-nic", "none", "-no-reboot"),
        *("-kernel", str(kernel), "-append", f"console={host.console} panic=-1"),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return b"Unable to mount root fs" in done.stdout
