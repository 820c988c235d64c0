# SPDX-License-Identifier: Apache-2.0
"""The guest's root: an initramfs of the host's own programs with their libraries, on busybox.

Real programs are wanted (git, tar, sqlite3, fio, stress-ng and the coreutils), not busybox's idea
of them, and the very binaries that the same script runs on the bare directory for comparison. A
full distribution would take minutes to boot without KVM; what is here is read in one piece by the
loader. Images are cached by what went into them.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.guest.cpio import Archive
from tests.guest.host import CACHE

PROGRAMS = """
    base64 cat chgrp chmod chown cmp cp cut date dd df diff dirname du echo env false find grep head
    id install link ln ls mkdir mkfifo mknod mktemp mv od printf readlink realpath rm rmdir sed seq
    sha256sum sleep sort split stat sync tail tee test touch tr true truncate uname uniq unlink wc
    xargs bash dash fio flock getfacl getfattr git gzip setfacl setfattr setpriv sqlite3 stress-ng
    tar timeout
"""

_HERE = Path(__file__).parent
_KEPT = 4
_MERGED = ("bin", "sbin", "lib", "lib64")  # links into /usr, as on the host


def image(modules: Iterable[Path] = ()) -> Path:
    """The initramfs, built if there is none of this content yet.

    Args:
        modules: kernel modules that the guest's init loads, in this order.

    Raises:
        FileNotFoundError: a program is not installed on the host.
    """
    sources = dict(_host_files())
    for position, module in enumerate(modules):
        sources[f"modules/{position}-{module.name}"] = module
    sources["init"] = _HERE / "init.sh"
    sources["tests/workload.sh"] = _HERE / "workload.sh"
    sources["tests/lock"] = _HERE / "lock.c"

    path = CACHE / f"root-{_digest(sources)}.cpio"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        _build(scratch, sources)
        scratch.rename(path)
        _prune()
    return path


def _prune() -> None:
    """Removes old images, over 100 MiB each; some kinds of guest are in use at the same time."""
    images = sorted(CACHE.glob("root-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in images[_KEPT:]:
        old.unlink(missing_ok=True)


def _host_files() -> Iterator[tuple[str, Path]]:
    """Each file of the host that goes in, by its name in the image."""
    programs = [_find(name) for name in PROGRAMS.split()]
    for path in {*programs, *_libraries(programs)}:
        yield _name_in_image(path), path
    yield "busybox/busybox", _find("busybox")


def _find(program: str) -> Path:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"{program} is not installed; make packages installs it")
    return Path(found)


def _name_in_image(path: Path) -> str:
    """In the directory as it really is (/lib may be /usr/lib), under the name programs ask for."""
    return str(path.parent.resolve() / path.name).lstrip("/")


def _libraries(programs: list[Path]) -> set[Path]:
    """The shared libraries that any of the programs needs, the loader included."""
    output = subprocess.run(
        ["ldd", *programs], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    words = (word for line in output.splitlines() if line[:1] == "\t" for word in line.split())
    return {Path(word) for word in words if word.startswith("/")}


def _digest(sources: dict[str, Path]) -> str:
    """Names what the image is made from: the host's files by size and time, ours by content."""
    state = hashlib.sha256(Path(__file__).read_bytes())
    for name, path in sorted(sources.items()):
        status = path.stat()
        ours = path.is_relative_to(_HERE)
        version = path.read_bytes() if ours else f"{status.st_size} {status.st_mtime_ns}".encode()
        state.update(name.encode() + b"\0" + version + b"\0")
    return state.hexdigest()[:16]


def _build(path: Path, sources: dict[str, Path]) -> None:
    with path.open("wb") as out:
        archive = Archive(out)
        for name in ("dev", "proc", "sys", "tmp", "run", "mnt", "root", "etc", "usr"):
            archive.directory(name)
        for name in _MERGED:
            if Path("/", name).is_symlink():
                archive.directory(f"usr/{name}")
                archive.symlink(name, f"usr/{name}")
        # The kernel opens it for init's output before init can mount anything.
        archive.device("dev/console", 5, 1)
        for name, source in sorted(sources.items()):
            content = _compiled(source) if source.suffix == ".c" else source.read_bytes()
            archive.file(name, content, 0o755)
        for applet in _applets():
            archive.symlink(f"busybox/{applet}", "busybox")
        archive.symlink("usr/bin/sh", "dash")
        # git starts itself again: from its own directory, and as the other end of a clone.
        archive.symlink("usr/lib/git-core/git", "/usr/bin/git")
        archive.symlink("usr/bin/git-upload-pack", "git")
        archive.file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n")
        archive.file("etc/group", b"root:x:0:\nguest:x:1000:\n")
        archive.finish()


def _compiled(source: Path) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, source.stem)
        options = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["gcc", *options, "-o", program, source], check=True)
        return program.read_bytes()


def _applets() -> list[str]:
    output = subprocess.run(
        [_find("busybox"), "--list"], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    return [name for name in output.split() if name != "busybox"]
