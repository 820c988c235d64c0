# SPDX-License-Identifier: Apache-2.0
"""The command line: what it means, and one line with exit code 2 for every mistake in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ovfs
from ovfs import cli, cli_remote
from ovfs.config import Config, FsBackend, RemoteBackend, Upload, default_cache_dir
from ovfs.errors import UsageError
from ovfs.native import Cache, FileHandles
from ovfs.vhost_user import session

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
URL = "fs://?root=/srv"
S3 = "s3://?bucket=b"


def run(*arguments: str | bytes | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ovfs", *arguments],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        cwd=ROOT,
        check=False,
        timeout=20,
    )


def assert_refused(arguments: Sequence[str | bytes | Path], words: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("ovfs: ")
    assert words in result.stderr
    assert result.stdout == ""


def parse(*arguments: str) -> Config:
    return cli.parse([*arguments, "/run/s", URL])


def test_defaults() -> None:
    config = parse()
    assert config == Config(
        backend=FsBackend("/srv"),
        socket_path="/run/s",
        queues=min(len(os.sched_getaffinity(0)), 255),
    )


@pytest.mark.parametrize(
    ("policy", "seconds"), [("never", 0), ("auto", 1), ("metadata", 86400), ("always", 86400)]
)
def test_cache_policy_decides_the_timeouts(policy: str, seconds: float) -> None:
    config = parse("--cache", policy)
    assert config.cache is Cache(policy)
    assert (config.attr_timeout, config.entry_timeout) == (seconds, seconds)
    config = parse("--cache", policy, "--attr-timeout", "0.25", "--entry-timeout=0")
    assert (config.attr_timeout, config.entry_timeout) == (0.25, 0)


def test_everything_at_once() -> None:
    config = parse(
        *("--writeback", "--readonly", "--xattr", "--posix-acl", "--allow-direct-io"),
        *("--posix-lock", "--flock", "--queues", "255", "--tag", "ä" * 18),
        *("--socket-mode", "660", "--socket-group", "kvm", "--log-level", "debug"),
        *("--rlimit-nofile", "4096", "--inode-file-handles", "mandatory", "--poll-us", "250"),
    )
    assert config == Config(
        backend=FsBackend("/srv"),
        socket_path="/run/s",
        socket_mode=0o660,
        socket_group="kvm",
        queues=255,
        tag="ä".encode() * 18,
        writeback=True,
        readonly=True,
        xattr=True,
        posix_acl=True,
        allow_direct_io=True,
        posix_lock=True,
        flock=True,
        file_handles=FileHandles.MANDATORY,
        rlimit_nofile=4096,
        log_level="debug",
        poll=250e-6,
    )


def test_remote_options() -> None:
    config = cli.parse(["/run/s", S3])
    assert config.backend == RemoteBackend("s3", {"bucket": "b"})
    assert (config.upload, config.posix_metadata) == (Upload.DURABLE, True)
    assert (config.cache_dir, config.cache_size) == (default_cache_dir(), 10 << 30)
    config = cli.parse(
        [
            *("/run/s", S3, "--upload=background", "--posix-metadata", "off"),
            "--upload-delay=0.5",
            *("--cache-dir", "some/where", "--cache-size", "512M", "--readonly"),
            *("--default-uid=1000", "--default-gid=1001"),
            *("--default-file-mode=0600", "--default-dir-mode=700", "--cache=always"),
        ]
    )
    assert config == Config(
        backend=RemoteBackend("s3", {"bucket": "b"}),
        socket_path="/run/s",
        queues=config.queues,
        readonly=True,
        cache=Cache.ALWAYS,
        attr_timeout=86400,
        entry_timeout=86400,
        cache_dir=Path.cwd() / "some" / "where",
        cache_size=512 << 20,
        upload=Upload.BACKGROUND,
        upload_delay=0.5,
        posix_metadata=False,
        default_uid=1000,
        default_gid=1001,
        default_file_mode=0o600,
        default_dir_mode=0o700,
    )
    assert cli.parse(["/run/s", S3, "--xattr"]).xattr


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1M", 1 << 20),
        ("2097152", 2 << 20),
        ("3000K", 3000 << 10),
        ("10G", 10 << 30),
        ("4T", 4 << 40),
    ],
)
def test_cache_size_takes_units(text: str, size: int) -> None:
    assert cli.parse(["/s", S3, "--cache-size", text]).cache_size == size


@pytest.mark.parametrize("option", cli.LOCAL_OPTIONS)
def test_what_reaches_for_the_host_s_files_is_for_fs_alone(option: str) -> None:
    given = ["never"] if option == "--inode-file-handles" else []
    assert cli.parse(["/s", URL, option, *given])
    with pytest.raises(UsageError, match=rf"^{option} has no meaning here: s3://"):
        cli.parse(["/s", S3, option, *given])


@pytest.mark.parametrize(
    "option",
    [
        *("--cache-dir=/c", "--cache-size=1G", "--upload=durable", "--posix-metadata=on"),
        *("--default-uid=0", "--default-gid=0", "--default-file-mode=0644"),
        *("--default-dir-mode=0755", "--upload-delay=0"),
    ],
)
def test_what_is_for_services_is_refused_with_a_directory(option: str) -> None:
    assert cli.parse(["/s", S3, option])
    with pytest.raises(
        UsageError, match=rf"^{option.partition('=')[0]} has no meaning here: fs://"
    ):
        cli.parse(["/s", URL, option])


def test_every_remote_option_is_known_to_be_one() -> None:
    help_text = run("--help").stdout.partition("\nremote:")[2].partition("\nbackend URLs")[0]
    options = re.findall(r"^  (--[a-z-]+)", help_text, re.MULTILINE)
    assert set(options) == {*cli_remote.OPTIONS, "--backend-file", "--list-services"}


def test_the_cache_directory_is_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_cache_dir() == Path("/home/u/.cache/ovfs")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_dir() == Path("/xdg/ovfs")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its specification
    assert default_cache_dir() == Path("/home/u/.cache/ovfs")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_cache_dir() == Path("/var/cache/ovfs")


def test_the_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVFS_BACKEND_URL", "s3://?bucket=env")
    assert cli.parse(["/s"]).backend == RemoteBackend("s3", {"bucket": "env"})
    assert cli.parse(["--fd=3"]).backend == RemoteBackend("s3", {"bucket": "env"})
    assert cli.parse(["/s", URL]).backend == FsBackend("/srv")
    monkeypatch.setenv("OVFS_BACKEND_URL", "s3://?bucket=b&x=hush")
    with pytest.raises(UsageError, match="no key of item 2"):
        cli.parse(["/s"])
    monkeypatch.setenv("OVFS_BACKEND_URL", "")
    with pytest.raises(UsageError, match="1 arguments are not"):
        cli.parse(["/s"])


def test_options_may_stand_anywhere() -> None:
    assert cli.parse(["/s", "--readonly", URL, "--flock"]).socket_path == "/s"


def test_longest_tag_is_what_the_device_can_tell() -> None:
    assert cli.MAX_TAG == session.MAX_TAG


def test_acl_implies_xattr() -> None:
    assert parse("--posix-acl").xattr


def test_passed_in_socket_needs_no_path() -> None:
    config = cli.parse(["--fd", "3", URL])
    assert (config.socket_path, config.socket_fd) == (None, 3)


def test_plain_rings_are_for_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVFS_PLAIN_RINGS", "1")
    assert parse().plain_rings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "0 arguments are not <socket-path> <backend-url>"),
        (["/s"], "1 arguments are not"),
        (["/s", URL, "x"], "3 arguments are not"),
        (["", URL], "the socket path is empty"),
        (["--fd", "3", "/s", URL], "there is no socket path"),
        (["--fd", "3", "--socket-mode", "600", URL], "--socket-mode"),
        (["--fd", "3", "--socket-group", "kvm", URL], "--socket-group"),
        (["--fd", "x", URL], "--fd"),
        (["/s", "/srv"], "write fs://?root=/srv"),
        (["/s", "fs://"], "needs root"),
        (["/s", "no://?bucket=b"], "there is no backend no: "),
        (["/s", "s3://?root=/"], "s3:// needs bucket"),
        (["/s", URL, "--cache", "some"], "--cache"),
        (["/s", URL, "--cach", "auto"], "there is no option --cach"),
        (["/s", URL, "--password=hush"], "there is no option --password: "),
        (["/s", URL, "--attr-timeout", "-1"], "is not seconds from 0"),
        (["/s", URL, "--attr-timeout", "nan"], "is not seconds from 0"),
        (["/s", URL, "--entry-timeout", "inf"], "is not seconds from 0"),
        (["/s", URL, "--queues", "0"], "is not queues from 1 to 255"),
        (["/s", URL, "--queues", "256"], "is not queues from 1 to 255"),
        (["/s", URL, "--queues", "1.5"], "is not queues from 1 to 255"),
        (["/s", URL, "--tag", ""], "the tag has 0 bytes, not 1 to 36"),
        (["/s", URL, "--tag", "ä" * 19], "the tag has 38 bytes, not 1 to 36"),
        (["/s", URL, "--tag"], "--tag"),
        (["/s", URL, "--socket-mode", "8"], "is no octal mode"),
        (["/s", URL, "--socket-mode", "1777"], "is no octal mode"),
        (["/s", URL, "--log-level", "all"], "--log-level"),
        (["/s", URL, "--rlimit-nofile", "0"], "is not descriptors from 1"),
        (["/s", URL, "--poll-us", "-1"], "is not microseconds from 0"),
        (["/s", URL, "--inode-file-handles", "yes"], "--inode-file-handles"),
        (["/s", S3, "--upload", "later"], "--upload"),
        (["/s", S3, "--upload-delay", "-1"], "is not seconds from 0"),
        (["/s", S3, "--posix-metadata", "maybe"], "--posix-metadata"),
        (["/s", S3, "--posix-metadata=off", "--xattr"], "--xattr needs --posix-metadata=on"),
        (["/s", S3, "--cache-dir", ""], "--cache-dir"),
        (["/s", S3, "--cache-size", "0"], "is no size of at least 1M"),
        (["/s", S3, "--cache-size", "10GB"], "is no size"),
        (["/s", S3, "--cache-size", "-1G"], "--cache-size"),
        (["/s", S3, "--cache-size", "1.5G"], "is no size"),
        (["/s", S3, "--default-uid", "4294967295"], "is not an id from 0 to"),
        (["/s", S3, "--default-gid", "-1"], "is not an id from 0 to"),
        (["/s", S3, "--default-file-mode", "1777"], "is no octal mode"),
        (["/s", S3, "--default-dir-mode", "rwx"], "is no octal mode"),
    ],
)
def test_mistake_says_what_is_wrong(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "<socket-path> <backend-url>"),
        (["/s", URL, "--cache", "some"], "--cache"),
        (["/s", "fs://?root=/a\nb&x=1"], "knows no key 'x'"),
        (["/s", URL, "--two\nlines"], "--two\\nlines"),
        (["/s", "s3://?bucket=b&access_key_id=a&secret_acess_key=hush"], "no key of item 3"),
        ([b"/s", b"\xff\xfe"], "has no ://"),
        (["/s", URL, b"--tag=\xff"], "not UTF-8"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(arguments: list[str | bytes], words: str) -> None:
    assert_refused(arguments, words)


def test_root_that_cannot_be_served_is_one_line(run_dir: Path) -> None:
    socket = run_dir / "s"
    (run_dir / "file").write_text("")
    for root, words in (
        (run_dir / "missing", "does not exist: create it"),
        (run_dir / "file", "is not a directory"),
        ("/a%0Ab", "root /a\\nb does not exist"),
    ):
        assert_refused([socket, f"fs://?root={root}"], words)
    assert not socket.exists()


def test_socket_that_cannot_be_made_is_one_line(run_dir: Path) -> None:
    url = f"fs://?root={run_dir}"
    assert_refused([run_dir, url], "exists and is not a socket")
    assert_refused([run_dir / "no" / "s", url], "No such file or directory")
    assert_refused([run_dir / "s", url, "--socket-group", "no-such-group"], "no group")
    assert_refused(["--fd", "77", url], "--fd 77: no such descriptor")


def test_version_is_the_package_s() -> None:
    result = run("--version")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert result.stdout == f"ovfs {project['version']}\n"
    assert ovfs.__version__ == project["version"]
    assert result.returncode == 0


def test_help_has_every_option_in_a_group() -> None:
    result = run("--help")
    assert result.returncode == 0
    for group in ("cache:", "access:", "device:", "socket:", "process:", "remote:", "backend URLs"):
        assert f"\n{group}" in result.stdout
    for option in (
        *("--cache", "--attr-timeout", "--entry-timeout", "--writeback", "--readonly", "--xattr"),
        *("--posix-acl", "--allow-direct-io", "--posix-lock", "--flock", "--queues", "--tag"),
        *("--fd", "--socket-mode", "--socket-group", "--log-level", "--rlimit-nofile"),
        *("--poll-us", "--inode-file-handles", "--version", "--backend-file", "--list-services"),
        *("--cache-dir", "--cache-size", "--upload", "--upload-delay"),
        *(
            "--posix-metadata",
            "--default-uid",
            "--default-gid",
            "--default-file-mode",
            "--default-dir-mode",
        ),
    ):
        assert f"\n  {option}" in result.stdout


def test_services_are_listed_with_what_they_can_do() -> None:
    result = run("--list-services")
    assert result.returncode == 0
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert rows["scheme"][1:4] == ["read", "write", "list"]
    columns = rows["scheme"]
    s3 = dict(zip(columns, rows["s3"], strict=True))
    assert s3 == {
        **dict.fromkeys(columns, "yes"),
        "scheme": "s3",
        "rename": "-",
    }
    http = dict(zip(columns, rows["http"], strict=True))
    assert (http["read"], http["write"], http["list"], http["tested"]) == ("yes", "-", "-", "no")
    assert {"webdav", "gcs", "azblob", "memory", "redis", "hf", "fs"} <= set(rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "x"], "x"),
        (["drain", "--timeout", "-1"], "--timeout"),
        (["drain", "--timeout", "nan"], "is no number of seconds"),
        (["drain", "--json"], "--json"),
        (["status", "--cache-dir"], "--cache-dir"),
    ],
)
def test_sub_commands_refuse_what_is_not_theirs(arguments: list[str], words: str) -> None:
    assert_refused(arguments, words)
