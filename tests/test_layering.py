# SPDX-License-Identifier: Apache-2.0
"""The structure that ARCHITECTURE.md promises: who may know whom, how large a file may grow."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part of the control plane may import of ovfs, besides itself. `errors` is for everybody.
PYTHON_LAYERS: dict[str, set[str]] = {
    "__main__": {"argv", "cli", "daemon", "log"},
    "cli": {"argv", "config", "daemon", "host", "log", "native", "uring", "url"},
    "daemon": {"config", "host", "listener", "log", "native", "url", "vhost_user"},
    "vhost_user": {"native"},
    "native": set(),
    "uring": set(),
}

# What each C module must not include: nothing below a queue knows of queues being run, nothing
# beside dispatch knows the file system, and the tables know nobody.
C_FORBIDDEN: dict[str, set[str]] = {
    "virtq": {"queue.h", "dispatch.h", "local/", "plane.h", "ring.h"},
    "chain": {"queue.h", "virtq.h", "fuse_req.h", "local/"},
    "fuse_reply": {"queue.h", "virtq.h", "local/", "ring.h"},
    "fuse_req": {"virtq.h", "local/", "ring.h", "plane.h"},
    "slab": {"inode.h", "handle.h", "local/", "queue.h"},
    "inode": {"handle.h", "local/", "queue.h"},
    "handle": {"inode.h", "local/", "queue.h"},
    "ring": {"queue.h", "virtq.h", "local/", "dispatch.h"},
    "guest_mem": {"queue.h", "virtq.h", "local/", "fuse_req.h"},
    "event_log": {"queue.h", "local/"},
}


def _tracked(*patterns: str) -> list[Path]:
    """The project's own files; where git is not at hand (a source archive), all but the built."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]
    built = {"_plane.c", "_uring.c", "_vmm.c"}
    return [
        path
        for pattern in patterns
        for path in ROOT.rglob(pattern)
        if path.name not in built and not {".venv", "build"} & set(path.parts)
    ]


def _imports(path: Path) -> set[str]:
    """The first level below `ovfs` of everything that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name.split(".")[1] for name in names if name.startswith("ovfs.")}
    return found


@pytest.mark.parametrize("part", PYTHON_LAYERS)
def test_python_imports_run_one_way(part: str) -> None:
    package = ROOT / "ovfs" / part
    files = list(package.glob("*.py")) if package.is_dir() else [package.with_suffix(".py")]
    allowed = PYTHON_LAYERS[part] | {part, "errors"}
    modules = {path.stem for path in (ROOT / "ovfs").glob("*")}
    assert files
    for path in files:
        assert (_imports(path) & modules) <= allowed, path.relative_to(ROOT)


@pytest.mark.parametrize("module", C_FORBIDDEN)
def test_c_modules_do_not_know_what_is_above_them(module: str) -> None:
    for suffix in (".c", ".h"):
        path = ROOT / "c" / (module + suffix)
        included = re.findall(r'^#include "(.+)"$', path.read_text(), re.MULTILINE)
        for name in included:
            assert not any(name.startswith(no) for no in C_FORBIDDEN[module]), f"{path}: {name}"


def test_nothing_in_local_reaches_for_the_loop() -> None:
    for path in (ROOT / "c" / "local").glob("*.[ch]"):
        text = path.read_text()
        assert "queue_finish" not in text, f"{path} replies by itself"
        assert "virtq.h" not in text, f"{path} touches the virtqueue"


def test_only_virtq_touches_ring_memory() -> None:
    for path in (ROOT / "c").rglob("*.c"):
        if path.name != "virtq.c":
            text = path.read_text()
            assert "->avail->" not in text, path
            assert "->used->" not in text, path


def test_the_boundary_has_no_preprocessor_lines() -> None:
    for name in ("c/ovfs_api.h", "ovfs/uring/uring_api.h", "tests/vmm/vmm_api.h"):
        assert not re.search(r"^\s*#", (ROOT / name).read_text(), re.MULTILINE), name


def test_files_stay_small() -> None:
    files = _tracked("*.c", "*.h", "*.py")
    assert len(files) > 100
    large = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not large
