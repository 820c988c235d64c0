# SPDX-License-Identifier: Apache-2.0
"""What this host and our privileges allow, and the one line to say where that is too little."""

from __future__ import annotations

import errno
import os
import re
import resource
from pathlib import Path

from ovfs.errors import UsageError

# Descriptors that are not for files: sockets, rings, eventfds, guest memory, the log's pipe, one
# for each mount below the root, and what Python opens for a moment.
_OWN_DESCRIPTORS = 256
# A cached descriptor saves an open_by_handle_at, about a microsecond, and pins an inode and a
# dentry of the host, about a kilobyte: more than this gains little and takes from the page cache.
_MAX_FD_CACHE = 16384
_MIN_NOFILE = 2 * _OWN_DESCRIPTORS

_CAP_DAC_READ_SEARCH = 2


def io_uring_error(error: int, proc: Path = Path("/proc")) -> str:
    """Return why io_uring_setup met this errno here, and what to do about it."""
    if error in {errno.ENOSYS, errno.EINVAL}:
        return "io_uring is missing: the kernel is too old (needs 5.15) or built without it"
    disabled = _sysctl(proc, "io_uring_disabled")
    if error == errno.EPERM and disabled == "2":
        return (
            "io_uring is forbidden by kernel.io_uring_disabled=2: "
            "run `sysctl -w kernel.io_uring_disabled=0`"
        )
    if error == errno.EPERM and disabled == "1":
        group = _sysctl(proc, "io_uring_group")
        return (
            "io_uring is forbidden to this user by kernel.io_uring_disabled=1: run `sysctl -w "
            "kernel.io_uring_disabled=0`, or put this user's group into kernel.io_uring_group "
            f"(now {group})"
        )
    if error == errno.EPERM:
        return (
            "io_uring is forbidden by a seccomp filter, as Docker's default one does: run the "
            "container with `--security-opt seccomp=unconfined`, or with a profile that allows "
            "io_uring_setup, io_uring_enter and io_uring_register"
        )
    if error == errno.ENOMEM:
        return "io_uring got no memory: raise the locked-memory limit (`ulimit -l unlimited`)"
    return f"io_uring does not work here: {os.strerror(error)}"


def raise_nofile(wanted: int | None) -> int:
    """Set the limit of open descriptors as asked, or as high as allowed, and return it.

    Raises:
        UsageError: that many are not allowed, or too few to work with.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if wanted is None else wanted
    if limit < _MIN_NOFILE:
        raise UsageError(
            f"{limit} open files (--rlimit-nofile, ulimit -Hn) are too few: at least {_MIN_NOFILE}"
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
    except (OSError, ValueError):
        raise UsageError(
            f"--rlimit-nofile {limit} is more than this user's {hard}: ask for less, or raise "
            "`ulimit -Hn` (as root: at most the sysctl fs.nr_open)"
        ) from None
    return limit


def fd_cache_size(limit: int) -> int:
    """Return how many descriptors the data plane may keep for known nodes.

    Half of what we do not need ourselves: the other half is for files that the guest holds open,
    which cannot be closed to make room, while a cached descriptor can.
    """
    return min((limit - _OWN_DESCRIPTORS) // 2, _MAX_FD_CACHE)


def may_open_by_handle() -> bool:
    """Whether open_by_handle_at may be called: it needs CAP_DAC_READ_SEARCH."""
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_DAC_READ_SEARCH & 1)


def open_root(root: str) -> int:
    """Return an O_PATH descriptor of the directory to serve.

    Raises:
        UsageError: it is missing, no directory, or we may not list it.
    """
    try:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(_root_error(root, error)) from error
    try:
        os.close(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd))
    except OSError as error:
        os.close(fd)
        raise UsageError(_root_error(root, error)) from error
    return fd


def _root_error(root: str, error: OSError) -> str:
    shown = os.fsencode(root).decode("utf-8", "backslashreplace")
    match error.errno:
        case errno.ENOENT:
            return f"root {shown} does not exist: create it or correct the URL"
        case errno.ENOTDIR:
            return f"root {shown} is not a directory: name a directory"
        case errno.EACCES:
            return (
                f"root {shown} may not be read by uid {os.geteuid()}: "
                "change its permissions or run as a user who may"
            )
    return f"root {shown} cannot be opened: {error.strerror}"


def _sysctl(proc: Path, name: str) -> str | None:
    try:
        return (proc / "sys/kernel" / name).read_text(encoding="utf-8").strip()
    except OSError:
        return None
