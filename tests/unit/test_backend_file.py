# SPDX-License-Identifier: Apache-2.0
"""The file that keeps a backend's secrets: what it may say, who may see it, what errors tell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ovfs import cli
from ovfs.backend_file import BackendFile, parse_backend_file, read_backend_file
from ovfs.config import RemoteBackend
from ovfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "wJalr/XUtn+F&M=I"  # noqa: S105 (what must not be seen)


def private(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def test_url_and_parameters() -> None:
    text = (
        f"# keys of vm1\n\n  s3://?bucket=b&root=/a%20b \naccess_key_id = KEY\nregion={SECRET}\r\n"
    )
    assert parse_backend_file(text, "f") == BackendFile(
        "s3://?bucket=b&root=/a%20b",
        {"access_key_id": "KEY", "region": SECRET},
        {"access_key_id": 4, "region": 5},
    )
    assert parse_backend_file("", "f") == BackendFile()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("key", "line 1 of f is no key=value"),
        (f"bucket=b\n{SECRET}", "line 2 of f is no key=value"),
        (f"bucket=b\ns3://?x={SECRET}", "line 2 of f is no key=value"),
        (f"s3://?x=1\ns3://?x={SECRET}", "line 2 of f is no key=value"),
        (f"Access={SECRET}", "line 1 of f is no key=value"),
        (f"a={SECRET}\nb=1\na=2", "line 3 of f repeats the key of line 1"),
        ("a=", "line 1 of f has no value"),
        (f"a={SECRET}\0", "line 1 of f has no value, or a NUL byte"),
    ],
)
def test_wrong_text_is_told_without_it(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_backend_file(text, "f")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_nothing_of_it_is_in_a_repr() -> None:
    assert SECRET not in repr(parse_backend_file(f"s3://?x={SECRET}\na={SECRET}", "f"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_others_can_open_is_refused(run_dir: Path, mode: int) -> None:
    path = private(run_dir / "f", "bucket=b")
    os.chmod(path, mode)
    with pytest.raises(UsageError, match="is open to others: chmod 600 it"):
        read_backend_file(path)
    os.chmod(path, 0o400)
    assert read_backend_file(path).parameters == {"bucket": "b"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(run_dir: Path) -> None:
    path = private(run_dir / "f", "bucket=b")
    os.chown(path, 65534, 65534)
    with pytest.raises(UsageError, match="belongs to somebody else"):
        read_backend_file(path)


def test_what_is_no_such_file(run_dir: Path) -> None:
    os.mkfifo(run_dir / "fifo", 0o600)  # nobody will ever write to it
    (run_dir / "latin").touch(mode=0o600)
    (run_dir / "latin").write_bytes(b"a=\xe4")
    for path, words in (
        (run_dir / "none", "No such file or directory"),
        (run_dir, "directory"),
        (run_dir / "fifo", "is not a file"),
        (run_dir / "latin", "is not UTF-8"),
        (private(run_dir / "big", "#" * 70_000), "is larger than"),
    ):
        with pytest.raises(UsageError, match=words):
            read_backend_file(str(path))


def test_parameters_join_those_of_the_url(run_dir: Path) -> None:
    path = private(run_dir / "f", f"access_key_id=KEY\nsecret_access_key={SECRET}\n")
    backend = cli.parse(["/s", "s3://?bucket=b", "--backend-file", path]).backend
    assert isinstance(backend, RemoteBackend)
    assert backend.parameters == {
        "bucket": "b",
        "access_key_id": "KEY",
        "secret_access_key": SECRET,
    }
    for url, words in (
        ("s3://?bucket=b&access_key_id=x", "line 1 of --backend-file repeats a key"),
        ("gcs://?bucket=b", "gcs:// knows no key of line 1 of --backend-file"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            cli.parse(["/s", url, "--backend-file", path])
        assert SECRET not in str(caught.value)


def test_the_url_may_be_in_it(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = private(run_dir / "f", "s3://?bucket=b\nregion=r\n")
    expected = RemoteBackend("s3", {"bucket": "b", "region": "r"})
    assert cli.parse(["/s", "--backend-file", path]).backend == expected
    assert cli.parse(["--fd", "3", "--backend-file", path]).backend == expected
    with pytest.raises(UsageError, match="two backend URLs"):
        cli.parse(["/s", "s3://?bucket=c", "--backend-file", path])
    monkeypatch.setenv("OVFS_BACKEND_URL", "memory://")
    assert cli.parse(["/s", "--backend-file", path]).backend == expected
