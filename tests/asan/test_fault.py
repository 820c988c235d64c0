# SPDX-License-Identifier: Apache-2.0
"""A deliberate use after free in C, reached from Python, is caught: so are the ones nobody meant.

A suite that is green under a sanitizer says something only if the sanitizer was there, in the
extension module, behind the interpreter that is not instrumented itself.
"""

import errno
import os
import subprocess
import sys

FAULT = "from ovfs.native._plane import lib; print(lib.ovfs_selftest_fault())"


def commit_fault() -> subprocess.CompletedProcess[str]:
    """Runs the fault in a process of its own, whose report comes on stderr."""
    return subprocess.run(
        [sys.executable, "-c", FAULT],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_fault_is_caught_where_the_sanitizer_is() -> None:
    done = commit_fault()
    if "address" in os.environ.get("OVFS_SANITIZE", "").split(","):
        assert done.returncode != 0
        assert "heap-use-after-free" in done.stderr
        assert "ovfs_selftest_fault" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == -errno.ENOSYS  # an ordinary build has no fault to commit
