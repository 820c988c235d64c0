# SPDX-License-Identifier: Apache-2.0
"""Where io_uring is refused, the error says by whom and what to do; unknown flags are dropped."""

import errno
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ovfs.uring import Ring, SetupFlags, UringUnavailableError, _uring
from ovfs.uring import core as uring_core
from ovfs.uring import errors as uring_errors

# A seccomp filter for this process alone: io_uring_setup (425 everywhere) fails with argv[1].
FILTERED = """
    import ctypes, struct, sys
    code = int(sys.argv[1])
    program = struct.pack("HBBI" * 4,
        0x20, 0, 0, 0,                   # load the system call's number
        0x15, 0, 1, 425,                 # is it io_uring_setup?
        0x06, 0, 0, 0x00050000 | code,   # then fail with the code
        0x06, 0, 0, 0x7FFF0000)          # else allow
    filters = ctypes.create_string_buffer(program)
    prog = struct.pack("HxxxxxxP", 4, ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0        # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, prog, 0, 0) == 0     # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    from ovfs.uring import Ring, UringUnavailableError
    try:
        Ring()
    except UringUnavailableError as error:
        print(error.errno, error)
"""


def filtered(code: int) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FILTERED), str(code)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    ).stdout


def test_a_seccomp_filter_is_named() -> None:
    said = filtered(errno.EPERM)
    assert said.startswith(f"{errno.EPERM} ")
    assert "a seccomp filter forbids io_uring_setup" in said
    assert "--security-opt seccomp=" in said


def test_a_kernel_without_io_uring_is_named() -> None:
    said = filtered(errno.ENOSYS)
    assert said.startswith(f"{errno.ENOSYS} ")
    assert "this kernel has no io_uring" in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("2", "kernel.io_uring_disabled=2 forbids it to every process"),
        ("1", r"kernel.io_uring_disabled=1 leaves it .* kernel.io_uring_group \(now 100\)"),
        ("0", "forbids io_uring_setup"),
        (None, "forbids io_uring_setup"),
    ],
)
def test_the_sysctl_is_named(
    setting: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_DISABLED", setting), ("_GROUP", "100")):
        path = tmp_path / name
        if value is not None:
            path.write_text(value + "\n")
        monkeypatch.setattr(uring_errors, name, path)
    error = uring_errors.refusal(errno.EPERM)
    with pytest.raises(UringUnavailableError, match=said):
        raise error


def test_other_failures_stay_what_they_are() -> None:
    error = uring_errors.refusal(errno.EMFILE)
    assert type(error) is OSError
    assert error.errno == errno.EMFILE
    assert "ulimit -l" in str(uring_errors.refusal(errno.ENOMEM))


@pytest.mark.parametrize(
    ("known", "granted"),
    [
        (SetupFlags.DEFAULT, SetupFlags.DEFAULT),
        (
            SetupFlags.DEFAULT & ~SetupFlags.DEFER_TASKRUN,
            SetupFlags.DEFAULT & ~SetupFlags.DEFER_TASKRUN,
        ),
        (SetupFlags.SUBMIT_ALL, SetupFlags.SUBMIT_ALL),
        (SetupFlags.NONE, SetupFlags.NONE),
    ],
    ids=["6.1", "6.0", "5.18", "5.15"],
)
def test_flags_of_newer_kernels_are_dropped(
    known: SetupFlags, granted: SetupFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldKernel:
        """The real calls, but for an open that answers EINVAL to what it does not know."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def uring_open(self, out: object, entries: int, cq_entries: int, flags: int) -> int:
            if flags & ~known:
                return -errno.EINVAL
            return int(real.uring_open(out, entries, cq_entries, flags))

    real = _uring.lib
    monkeypatch.setattr(uring_core, "lib", OldKernel())
    with Ring(8) as ring:
        assert ring.flags == granted
        assert ring.nop() in ring.wait()
