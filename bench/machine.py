# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on: without it they mean nothing to anybody else."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import ovfs
from tests.guest.host import accelerator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _field(file: str, pattern: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    found = re.search(pattern, text, re.MULTILINE)
    return "unknown" if found is None else found[1].strip()


def _version(command: str) -> str:
    """The first line that a program says of itself."""
    try:
        done = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def describe(peers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """This machine and the programs on it, by what each is called."""
    virtual = _field("/proc/cpuinfo", r"^flags\s*:.*\b(hypervisor)\b") == "hypervisor"
    processor = _field("/proc/cpuinfo", r"^model name\s*:(.*)$")
    memory = int(_field("/proc/meminfo", r"^MemTotal:\s*(\d+) kB")) >> 20
    return {
        "processor": f"{processor}, {os.cpu_count()} {'virtual ' if virtual else ''}CPUs",
        "memory": f"{memory} GiB",
        "kernel": f"{platform.release()}, {platform.machine()}",
        "guests": "under KVM" if accelerator() == "kvm" else "emulated (TCG), or User-mode Linux",
        "Python": platform.python_version(),
        "ovfs": ovfs.__version__,
        **{name: _version(command[0]) for name, command in peers.items()},
    }
