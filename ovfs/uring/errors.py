# SPDX-License-Identifier: Apache-2.0
"""Errors of the ring: what the kernel answered, and what to do where it refuses io_uring."""

import errno
import os
from pathlib import Path
from typing import Any

_DISABLED = Path("/proc/sys/kernel/io_uring_disabled")
_GROUP = Path("/proc/sys/kernel/io_uring_group")
_STATUS = Path("/proc/self/status")

# Completions that are errors to the kernel and the expected end to the caller.
_EXPECTED = {
    "timeout": frozenset({-errno.ETIME}),
    "link_timeout": frozenset({-errno.ETIME, -errno.ECANCELED}),
}


class UringUnavailableError(OSError):
    """This process may not use io_uring, or the kernel has none; the text says what to do."""


def failure(name: str, target: Any, result: int) -> OSError | None:
    """The error that a completion with ``result`` stands for, if it stands for one.

    Args:
        name: The operation, for the message.
        target: The path it named, a pair of paths, or its file descriptor.
        result: The completion's result: a negative errno, or a success.
    """
    if result >= 0 or result in _EXPECTED.get(name, ()):
        return None
    text = os.strerror(-result)
    if isinstance(target, int):
        return OSError(-result, f"{name}(fd={target}): {text}")
    if isinstance(target, tuple):
        return OSError(-result, f"{name}: {text}", target[0], None, target[1])
    return OSError(-result, f"{name}: {text}", target)


def refusal(code: int) -> OSError:
    """Why opening a ring failed with ``code``, told to whoever runs the process."""
    if code == errno.ENOSYS:
        hint = (
            "this kernel has no io_uring (Linux 5.15 or later with CONFIG_IO_URING is needed), or a"
            " container's seccomp profile hides it: allow io_uring_setup, io_uring_enter and"
            " io_uring_register there (Docker, Podman: --security-opt seccomp=PROFILE.json, or"
            " seccomp=unconfined)"
        )
    elif code in {errno.EPERM, errno.EACCES}:
        hint = _forbidden()
    elif code == errno.ENOMEM:
        hint = "not enough memory, or the limit of locked memory is too low: raise `ulimit -l`"
    else:
        return OSError(code, f"io_uring_setup: {os.strerror(code)}")
    return UringUnavailableError(code, f"io_uring is not available: {hint}")


def _forbidden() -> str:
    disabled = _read(_DISABLED)
    if disabled == "2":
        return (
            "kernel.io_uring_disabled=2 forbids it to every process:"
            " run `sysctl -w kernel.io_uring_disabled=0`"
        )
    if disabled == "1":
        return (
            "kernel.io_uring_disabled=1 leaves it to CAP_SYS_ADMIN and to the group of"
            f" kernel.io_uring_group (now {_read(_GROUP) or 'unset'}): join that group, or run"
            " `sysctl -w kernel.io_uring_disabled=0`"
        )
    filtered = "Seccomp:\t2" in _read(_STATUS)
    return (
        f"{'a seccomp filter' if filtered else 'a security policy'} forbids io_uring_setup;"
        " in a container allow io_uring_setup, io_uring_enter and io_uring_register (Docker,"
        " Podman: --security-opt seccomp=PROFILE.json, or seccomp=unconfined)"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
