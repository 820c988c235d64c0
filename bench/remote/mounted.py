# SPDX-License-Identifier: Apache-2.0
"""File systems mounted on this host: s3fs and rclone, used through system calls.

They are FUSE file systems of this kernel, which caches for them and reads ahead, as a guest's does
for ovfs. A fresh mount is a cold one: the kernel's cache goes with the old.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.remote.files import BLOCK, MIB, Contender, Files, check
from bench.remote.place import noise
from tests.services.process import ServiceError, program
from tests.vmm.procstat import daemon_cpu_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.remote.place import Place

MOUNT_SECONDS: Final = 20.0


class MountedFiles(Files):
    """Files below a mount point.

    Args:
        root: The mount point.
        pid: The file system's process.
    """

    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self._pid = pid

    def cpu_ns(self) -> int:
        """CPU time of the file system's process; the kernel's part is not in it."""
        return daemon_cpu_ns(self._pid)

    def read(self, name: str, size: int) -> None:
        """Reads a file from start to end."""
        room = bytearray(MIB)
        with open(self.root / name, "rb", buffering=0) as file:
            total = 0
            while got := file.readinto(room):
                total += got
        check(total == size, f"{total} bytes of {size} read")

    def write(self, name: str, size: int) -> None:
        """Makes a file, writes, fsyncs and closes it."""
        data = noise(size)
        with open(self.root / name, "wb", buffering=0) as file:
            for at in range(0, size, MIB):
                file.write(data[at : at + MIB])
            os.fsync(file.fileno())

    def read_at(self, name: str, offsets: Sequence[int], depth: int) -> None:
        """Reads 4 KiB at each offset."""
        fd = os.open(self.root / name, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            with ThreadPoolExecutor(depth) as pool:
                for data in pool.map(lambda offset: os.pread(fd, BLOCK, offset), offsets):
                    check(len(data) == BLOCK, f"{len(data)} bytes read")
        finally:
            os.close(fd)

    def create(self, names: Sequence[str], data: bytes, writers: int) -> None:
        """Makes files, closing each."""

        def make(name: str) -> None:
            with open(self.root / name, "wb", buffering=0) as file:
                file.write(data)

        for directory in {os.path.dirname(name) for name in names} - {""}:
            os.makedirs(self.root / directory, exist_ok=True)
        if writers == 1:
            for name in names:
                make(name)
        else:
            with ThreadPoolExecutor(writers) as pool:
                list(pool.map(make, names))

    def read_each(self, names: Sequence[str]) -> None:
        """Opens, reads and closes small files."""
        for name in names:
            check(len((self.root / name).read_bytes()) == BLOCK, f"{name} is short")

    def list_long(self, directory: str) -> int:
        """Lists a directory as `ls -l` does."""
        path = self.root / directory
        return len([os.lstat(path / name) for name in os.listdir(path)])


@dataclass(frozen=True)
class Mounted(Contender):
    """A file system that a command in the foreground mounts."""

    @abstractmethod
    def command(self, place: Place, scratch: Path) -> tuple[list[str], dict[str, str]]:
        """The command, and what it needs in its environment; the mount point is scratch/mnt."""

    @contextlib.contextmanager
    def open(self, place: Place) -> Iterator[MountedFiles]:
        """A new mount with empty caches."""
        scratch = Path(tempfile.mkdtemp(prefix="ovfs-bench-"))
        mount = scratch / "mnt"
        mount.mkdir()
        command, environment = self.command(place, scratch)
        with open(scratch / "log", "wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        try:
            _wait_mounted(mount, process, scratch / "log")
            yield MountedFiles(mount, process.pid)
        finally:
            _unmount(mount, process)
            shutil.rmtree(scratch, ignore_errors=True)


def _wait_mounted(mount: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + MOUNT_SECONDS
    while not mount.is_mount():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"not mounted: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.01)


def _unmount(mount: Path, process: subprocess.Popen[bytes]) -> None:
    command = ["fusermount3" if shutil.which("fusermount3") else "fusermount", "-u", "-z"]
    subprocess.run([*command, mount], check=False, stderr=subprocess.DEVNULL)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _missing(tool: str) -> str | None:
    try:
        program(tool)
    except ServiceError:
        return f"{tool} is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened here"
    return None


@dataclass(frozen=True)
class S3fs(Mounted):
    """s3fs with its defaults: whole objects in temporary files, close uploads."""

    name: str = "s3fs"
    durable: bool = True

    def missing(self) -> str | None:
        """What this machine lacks for it."""
        return _missing("s3fs")

    def command(self, place: Place, scratch: Path) -> tuple[list[str], dict[str, str]]:
        """The command."""
        secret = scratch / "password"
        secret.touch(mode=0o600)
        secret.write_text(f"{place.service.access_key}:{place.service.secret_key}")
        # It refuses a prefix that is not there.
        prefix = place.prefix.rstrip("/")
        place.bucket.put("", b"", content_type="application/x-directory")
        options = f"passwd_file={secret},url={place.endpoint},endpoint={place.service.region}"
        return [
            *("s3fs", f"{place.service.bucket}:/{prefix}", f"{scratch}/mnt", "-f"),
            *("-o", f"{options},use_path_request_style,sigv4"),
        ], {}


@dataclass(frozen=True)
class Rclone(Mounted):
    """`rclone mount --vfs-cache-mode writes`: close returns at once, uploads begin 5 s later."""

    name: str = "rclone writes"
    durable: bool = False

    def missing(self) -> str | None:
        """What this machine lacks for it."""
        return _missing("rclone")

    def command(self, place: Place, scratch: Path) -> tuple[list[str], dict[str, str]]:
        """The command."""
        target = f"BENCH:{place.service.bucket}/{place.prefix.rstrip('/')}"
        words = [program("rclone"), "mount", target, f"{scratch}/mnt", "--config", ""]
        words += ["--vfs-cache-mode", "writes", "--cache-dir", f"{scratch}/cache"]
        return words, {
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_BENCH_ENDPOINT": place.endpoint,
            "RCLONE_CONFIG_BENCH_REGION": place.service.region,
            "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": place.service.access_key,
            "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": place.service.secret_key,
        }
