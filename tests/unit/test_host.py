# SPDX-License-Identifier: Apache-2.0
"""What the host allows, and the words for what it does not."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ovfs import host
from ovfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


def with_sysctl(directory: Path, disabled: str | None, group: str = "-1") -> Path:
    kernel = directory / "sys" / "kernel"
    kernel.mkdir(parents=True)
    if disabled is not None:
        (kernel / "io_uring_disabled").write_text(f"{disabled}\n")
        (kernel / "io_uring_group").write_text(f"{group}\n")
    return directory


@pytest.mark.parametrize(
    ("error", "disabled", "words"),
    [
        (errno.ENOSYS, "0", "kernel is too old (needs 5.15)"),
        (
            errno.EPERM,
            "2",
            "kernel.io_uring_disabled=2: run `sysctl -w kernel.io_uring_disabled=0`",
        ),
        (errno.EPERM, "1", "or put this user's group into kernel.io_uring_group (now 7)"),
        (errno.EPERM, "0", "`--security-opt seccomp=unconfined`"),
        (errno.EPERM, None, "`--security-opt seccomp=unconfined`"),
        (errno.ENOMEM, "0", "`ulimit -l unlimited`"),
        (errno.EIO, "0", "does not work here: Input/output error"),
    ],
)
def test_missing_io_uring_names_its_cause(
    error: int, disabled: str | None, words: str, tmp_path: Path
) -> None:
    assert words in host.io_uring_error(error, with_sysctl(tmp_path, disabled, "7"))


def in_child(code: str) -> str:
    """Limits are changed in a process of their own: a hard one never comes back up."""
    script = f"import resource\nfrom ovfs import host\nfrom ovfs.errors import UsageError\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


def test_limit_is_raised_to_the_hard_one() -> None:
    code = (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (700, 1500))\n"
        "print(host.raise_nofile(None), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert in_child(code) == "1500 (1500, 1500)"


def test_limit_is_set_as_asked() -> None:
    code = (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 5000))\n"
        "print(host.raise_nofile(4096), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert in_child(code) == "4096 (4096, 5000)"


@pytest.mark.parametrize("wanted", ["511", "1 << 30"])
def test_limit_out_of_reach_is_an_error(wanted: str) -> None:
    code = (
        f"try:\n    host.raise_nofile({wanted})\n"
        "except UsageError as error:\n    print('refused:', error)"
    )
    assert in_child(code).startswith("refused: ")


@pytest.mark.parametrize(
    ("limit", "size"), [(512, 128), (1024, 384), (4096, 1920), (20000, 9872), (1 << 20, 16384)]
)
def test_half_of_the_descriptors_are_left_for_open_files(limit: int, size: int) -> None:
    assert host.fd_cache_size(limit) == size


def test_capability_is_the_kernel_s() -> None:
    assert host.may_open_by_handle() == (os.geteuid() == 0)


def test_root_is_opened_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link"):
        fd = host.open_root(str(path))
        assert os.fstat(fd).st_ino == tmp_path.stat().st_ino
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.listdir(fd)
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_root_may_be_relative_and_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    monkeypatch.chdir(tmp_path)
    os.close(host.open_root("\udcff"))
    with pytest.raises(UsageError, match=r"root \\xfe does not exist"):
        host.open_root("\udcfe")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_root_that_may_not_be_read_is_an_error(
    run_dir: Path, open_fds: Callable[[], set[str]]
) -> None:
    closed = run_dir / "closed"
    closed.mkdir(mode=0o711)
    run_dir.chmod(0o755)
    before = open_fds()
    os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="may not be read by uid 65534: change its perm"):
            host.open_root(str(closed))
    finally:
        os.seteuid(0)
    assert open_fds() == before


def test_limits_here_allow_the_tests() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 1024
