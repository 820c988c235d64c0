# SPDX-License-Identifier: Apache-2.0
"""What a process costs, seen from outside: CPU time, memory, descriptors.

All of it is summed over the process and its living descendants, since a daemon may do its work in a
child (QEMU's virtiofsd does, for its namespaces).
"""

from __future__ import annotations

import os
import time
from pathlib import Path


def _tasks(pid: int) -> list[Path]:
    """The directories of a process's threads; none if it is gone by now."""
    try:
        return [Path(f"/proc/{pid}/task", task) for task in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    pids = [pid]
    for parent in pids:  # grows while it is walked
        for task in _tasks(parent):
            try:
                pids.extend(int(child) for child in (task / "children").read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return pids


def schedstat_ns(pid: int) -> int:
    """CPU time of the threads that one process has now, from /proc/PID/task/*/schedstat."""
    total = 0
    for task in _tasks(pid):
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def process_cpu_ns(pid: int) -> int:
    """CPU time of one process, threads that have ended included.

    The process's CPU clock is the sum of what schedstat shows for each thread, plus what threads
    that ended had used, in nanoseconds; /proc/PID/stat has the latter only in ticks of 10 ms. The
    clock's number is made from the pid as clock_getcpuclockid(3) makes it.

    Raises:
        ProcessLookupError: There is no such process.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error


def daemon_cpu_ns(pid: int) -> int:
    """CPU time used so far, in nanoseconds, io_uring's worker threads included.

    Raises:
        ProcessLookupError: There is no such process.
    """
    total = process_cpu_ns(pid)
    for child in tree(pid)[1:]:
        try:
            total += process_cpu_ns(child)
        except ProcessLookupError:
            continue
    return total


def daemon_rss(pid: int) -> int:
    """Resident bytes without guest memory, i.e. without mappings of memfds."""
    total = 0
    for member in tree(pid):
        counted = True
        for line in Path(f"/proc/{member}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):  # a mapping's first line: addresses ... name
                counted = not (len(words) > 5 and words[5].startswith("/memfd:"))
            elif words[0] == "Rss:" and counted:
                total += int(words[1]) * 1024
    return total


def daemon_fds(pid: int) -> int:
    """Open file descriptors."""
    return sum(len(os.listdir(f"/proc/{member}/fd")) for member in tree(pid))


def daemon_threads(pid: int) -> list[str]:
    """The names of all threads."""
    return sorted(
        (task / "comm").read_text().strip() for member in tree(pid) for task in _tasks(member)
    )
