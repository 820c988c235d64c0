# SPDX-License-Identifier: Apache-2.0
"""The structure that ARCHITECTURE.md promises: who may know whom, how large a file may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part of the control plane may import of ovfs, besides itself. `errors` is for everybody.
PYTHON_LAYERS: dict[str, set[str]] = {
    "__main__": {"argv", "cli", "commands", "daemon", "log"},
    "cli": {"backend_file", "cli_remote", "cli_values", "config", "log", "native", "url"},
    "cli_remote": {"cli_values", "config", "remote"},
    "cli_values": set(),
    "commands": {"config", "status"},
    "status": {"config", "native", "remote", "uring"},
    "config": {"native", "schemes", "url"},
    "schemes": set(),
    "daemon": {"config", "remote", "host", "listener", "log", "native", "url", "vhost_user"},
    "remote": {"config", "fuse", "native", "schemes", "uring"},
    "fuse": {"native"},
    "vhost_user": {"native"},
    "native": set(),
    "uring": set(),
}

# What each C module must not include: nothing below a queue knows of queues being run, nothing
# beside dispatch knows the file system, and the tables know nobody.
C_FORBIDDEN: dict[str, set[str]] = {
    "virtq": {"queue.h", "dispatch.h", "local/", "remote/", "plane.h", "ring.h"},
    "chain": {"queue.h", "virtq.h", "fuse_req.h", "local/", "remote/"},
    "fuse_reply": {"queue.h", "virtq.h", "local/", "remote/", "ring.h"},
    "fuse_req": {"virtq.h", "local/", "remote/", "ring.h", "plane.h"},
    "slab": {"inode.h", "handle.h", "local/", "remote/", "queue.h"},
    "inode": {"handle.h", "local/", "remote/", "queue.h"},
    "handle": {"inode.h", "local/", "remote/", "queue.h"},
    "ring": {"queue.h", "virtq.h", "local/", "remote/", "dispatch.h"},
    "guest_mem": {"queue.h", "virtq.h", "local/", "remote/", "fuse_req.h"},
    "event_log": {"queue.h", "local/", "remote/"},
    "fs": {"queue.h", "plane.h", "local/", "remote/", "dispatch.h"},
    "notes": {"mailbox.h", "queue.h", "local/", "remote/"},
    "mailbox": {"virtq.h", "ring.h", "plane.h", "local/", "remote/"},
    "remote/dentry": {"node.h", "remote.h", "../"},
    "remote/listing": {"node.h", "remote.h", "../mailbox.h", "../queue.h", "../plane.h"},
    "remote/node": {"names.h", "dentry.h", "../mailbox.h", "../queue.h", "../plane.h"},
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
    return _imported(ast.parse(path.read_text()))


def _imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
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


# What must not be loaded where a local directory is served: OpenDAL is 40 MB.
LAZY = {"remote", "status"}


@pytest.mark.parametrize("part", ["__main__", "cli", "cli_remote", "commands", "daemon"])
def test_what_is_for_remote_backends_is_loaded_late(part: str) -> None:
    tree = ast.parse((ROOT / "ovfs" / f"{part}.py").read_text())
    at_once = ast.Module([node for node in tree.body if not _is_type_checking(node)], [])
    for node in ast.walk(at_once):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = []
    assert not (_imported(at_once) & LAZY)


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_serving_a_directory_does_not_load_opendal() -> None:
    code = (
        "import sys, ovfs.cli, ovfs.daemon; ovfs.cli.parse(['/s', 'fs://?root=/']); "
        "print([name for name in sys.modules if 'opendal' in name or 'ovfs.remote' in name])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("module", C_FORBIDDEN)
def test_c_modules_do_not_know_what_is_above_them(module: str) -> None:
    for suffix in (".c", ".h"):
        path = ROOT / "c" / (module + suffix)
        included = re.findall(r'^#include "(.+)"$', path.read_text(), re.MULTILINE)
        for name in included:
            assert not any(name.startswith(no) for no in C_FORBIDDEN[module]), f"{path}: {name}"


@pytest.mark.parametrize(("backend", "other"), [("local", "remote"), ("remote", "local")])
def test_no_backend_reaches_for_the_loop_or_the_other_one(backend: str, other: str) -> None:
    for path in (ROOT / "c" / backend).glob("*.[ch]"):
        text = path.read_text()
        assert f"{other}/" not in re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL), path
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
