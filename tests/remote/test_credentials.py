# SPDX-License-Identifier: Apache-2.0
"""Credentials: where they may come from, and that nobody else gets to see them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

import pytest

from tests.remote.every import Every
from tests.remote.faulty import FRESH, FaultyShare
from tests.services.faults import Hang, Reset, Status
from tests.vmm.daemon import ROOT
from tests.vmm.procstat import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.fault_proxy import FaultProxy
    from tests.services.seaweed import SeaweedFS

FAULTS: Final = (Status(403), Status(404, "NoSuchBucket"), Status(500), Reset(), Hang())
OVFS: Final = (sys.executable, "-m", "tests.remote.impatient", "1")


class Given:
    """Ways to give a daemon its URL and its credentials.

    Args:
        url: With the credentials in it.
        directory: For a backend file.
    """

    def __init__(self, service: SeaweedFS, url: str, directory: Path) -> None:
        self._keys = {
            "access_key_id": service.access_key,
            "secret_access_key": service.secret_key,
        }
        self._url = url
        self._bare = url.partition("&access_key_id=")[0]
        self.file = directory / "backend"

    def write_file(self, *lines: str) -> None:
        self.file.write_text("\n".join(lines) + "\n")
        self.file.chmod(0o600)

    def how(self, way: str) -> tuple[list[str], dict[str, str]]:
        """Arguments and environment."""
        pairs = [f"{key}={value}" for key, value in self._keys.items()]
        with_file = ["--backend-file", str(self.file)]
        match way:
            case "URL":
                return [self._url], {}
            case "OVFS_BACKEND_URL":
                return [], {"OVFS_BACKEND_URL": self._url}
            case "AWS variables":
                return [self._bare], {f"AWS_{key.upper()}": v for key, v in self._keys.items()}
            case "file with keys":
                self.write_file("# who we are", *pairs)
                return [*with_file, self._bare], {}
            case "file with URL":
                self.write_file(self._url)
                return with_file, {}
        self.write_file(self._bare, *pairs)
        return with_file, {}


WAYS: Final = (
    "URL",
    "OVFS_BACKEND_URL",
    "AWS variables",
    "file with keys",
    "file with URL",
    "file with both",
)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in the environment that was not put there."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "OVFS_BACKEND"))]:
        monkeypatch.delenv(name)


@pytest.fixture(params=WAYS)
def given(
    request: pytest.FixtureRequest,
    seaweed: SeaweedFS,
    proxy: FaultProxy,
    run_dir: Path,
    clean: None,
) -> Iterator[FaultyShare]:
    """A share whose daemon got its credentials in one of the ways."""
    root = f"/{request.node.name}/".translate({ord("["): "-", ord("]"): "-", ord(" "): "-"})
    url = seaweed.url(root, endpoint=proxy.endpoint)
    arguments, env = Given(seaweed, url, run_dir).how(request.param)
    command = (*OVFS, "{socket}", *(word.replace("{", "{{") for word in arguments))
    with FaultyShare(seaweed, proxy, root, *FRESH, command=command, env=env) as share:
        yield share


def needles(service: SeaweedFS) -> list[bytes]:
    """What must be nowhere: the secret as it is and as it may be encoded, and signatures."""
    secret = service.secret_key
    texts = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), secret[-16:]}
    return [text.encode() for text in texts] + [b"Signature", b"AWS4"]


def check_bytes(data: bytes, where: object, service: SeaweedFS) -> None:
    for needle in needles(service):
        assert needle not in data, f"{needle!r} in {where}"


def check_hidden(share: FaultyShare, service: SeaweedFS) -> None:
    """Whoever may look, there is nothing to be seen. It ends the daemon."""
    for pid in tree(share.daemon.pid):
        check_bytes(Path(f"/proc/{pid}/cmdline").read_bytes(), "the process title", service)
        check_bytes(Path(f"/proc/{pid}/comm").read_bytes(), "the process's name", service)
    memory = share.vmm.memory
    for region in memory.regions.values():
        for at in range(0, region.size, 1 << 24):
            data = memory.read(region.guest_addr + at, min(1 << 24, region.size - at))
            check_bytes(data, "guest memory", service)
    status = subprocess.run(
        [sys.executable, "-m", "ovfs", "status", "--cache-dir", share.cache_dir],
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    check_bytes(status.stdout + status.stderr, "ovfs status", service)
    share.kill()
    check_bytes(share.log().encode(), "the log", service)
    for path in share.cache_dir.rglob("*"):
        check_bytes(os.fsencode(path), "a name in the cache", service)
        if path.is_file():
            check_bytes(path.read_bytes(), path, service)


def test_each_way_to_give_credentials(given: FaultyShare, seaweed: SeaweedFS) -> None:
    given.bucket.put("other", b"other")
    assert given.load("other") == b"other"
    given.save("file", b"data")
    assert given.bucket.get("file") == b"data"
    check_hidden(given, seaweed)


@pytest.mark.slow
def test_on_bad_days_nothing_is_told_either(
    share: FaultyShare, seaweed: SeaweedFS, proxy: FaultProxy
) -> None:
    every = Every(share)
    large = share.make("large", bytes(9 << 20))
    for fault in FAULTS:
        with proxy.fault(fault):
            every.send()
            with contextlib.suppress(OSError):
                share.fs.flush(*large, timeout=60.0)
            errors, _ = every.wait()
        assert all(errors.values()), (fault, errors)
    assert share.log().count("warning: ") > 50
    check_hidden(share, seaweed)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o777])
def test_a_backend_file_that_others_can_open(
    seaweed: SeaweedFS, bucket_root: str, run_dir: Path, mode: int
) -> None:
    given = Given(seaweed, seaweed.url(bucket_root), run_dir)
    arguments, _ = given.how("file with URL")
    given.file.chmod(mode)
    ended = subprocess.run(
        [sys.executable, "-m", "ovfs", run_dir / "socket", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=20.0,
    )
    assert ended.returncode == 2
    assert ended.stderr == f"ovfs: --backend-file {given.file} is open to others: chmod 600 it\n"
    assert ended.stdout == ""
