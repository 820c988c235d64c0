# SPDX-License-Identifier: Apache-2.0
"""`ovfs status` and `ovfs drain`, as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.vmm.daemon import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def start_drain(cache_dir: Path, *options: str) -> subprocess.Popen[str]:
    """Begins to wait until everything is stored."""
    command = [sys.executable, "-m", "ovfs", "drain", "--cache-dir", str(cache_dir), *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def drain(cache_dir: Path, *options: str, timeout: float = 60.0) -> tuple[int, str]:
    """Waits until everything is stored; returns the exit code and what was printed."""
    with start_drain(cache_dir, *options) as process:
        text, _ = process.communicate(timeout=timeout)
    return process.returncode, text


def status(cache_dir: Path) -> dict[str, Any]:
    """What the daemons on a cache directory have still to store."""
    command = [sys.executable, "-m", "ovfs", "status", "--json", "--cache-dir", str(cache_dir)]
    told = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30.0, check=True
    )
    found = json.loads(told.stdout)
    assert isinstance(found, dict)
    return found


def waiting(cache_dir: Path) -> list[str]:
    """The keys of what is not stored yet, sorted."""
    return sorted(upload["key"] for upload in status(cache_dir)["uploads"])
