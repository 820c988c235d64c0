# SPDX-License-Identifier: Apache-2.0
"""Builds and runs every tests/c/test_*.c: plain, under ASan + UBSan, and `*_mt` under TSan.

A program exits 0 (passed), 1 (failed) or 77 (skipped, with a reason printed). It is linked with
the whole data plane, compiled once per sanitizer.
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VMM = [ROOT / "tests" / "vmm" / name for name in ("mem.c", "ring.c")]  # the driver's half
SOURCES = sorted([*(ROOT / "c").rglob("*.c"), *VMM])
PROGRAMS = sorted(Path(__file__).parent.glob("test_*.c"))
WARNINGS = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-I", "c"]
VARIANTS = {
    "plain": ["-O2"],
    "asan": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-O1", "-g", "-fsanitize=thread", "-Wno-tsan"],
}


def _variants(program: Path) -> list[str]:
    return ["plain", "asan", "tsan"] if program.stem.endswith("_mt") else ["plain", "asan"]


def _compile(source: Path, flags: list[str], output: Path) -> None:
    subprocess.run(
        [os.environ.get("CC", "gcc"), *WARNINGS, *flags, "-c", str(source), "-o", str(output)],
        cwd=ROOT,
        check=True,
    )


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The data plane as one static library per variant, built on first use."""
    return {"": tmp_path_factory.mktemp("plane")}


def _archive(archives: dict[str, Path], variant: str) -> Path:
    if variant not in archives:
        folder = archives[""] / variant
        folder.mkdir(exist_ok=True)
        objects = [folder / f"{source.parent.name}_{source.stem}.o" for source in SOURCES]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_compile, SOURCES, [VARIANTS[variant]] * len(SOURCES), objects))
        archives[variant] = folder / "libplane.a"
        subprocess.run(["ar", "rcs", archives[variant], *objects], check=True)
    return archives[variant]


@pytest.mark.parametrize(
    ("program", "variant"),
    [(program, variant) for program in PROGRAMS for variant in _variants(program)],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_program(program: Path, variant: str, archives: dict[str, Path], tmp_path: Path) -> None:
    binary = tmp_path / program.stem
    flags = [*WARNINGS, *VARIANTS[variant]]
    libraries = [str(_archive(archives, variant)), "-l:liburing.a", "-pthread"]
    subprocess.run(
        [os.environ.get("CC", "gcc"), *flags, str(program), *libraries, "-o", str(binary)],
        cwd=ROOT,
        check=True,
    )
    done = subprocess.run(
        [binary], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip() or "the program gave no reason")
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
