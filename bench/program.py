# SPDX-License-Identifier: Apache-2.0
"""The C programs of the benchmarks, compiled on first use."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
BUILT: Final = HERE.parent / ".cache" / "bench"
COMPILE: Final = ("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")


@functools.cache
def build(name: str) -> Path:
    """Compiles NAME.c of this directory unless that has been done; returns the program."""
    source = HERE / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    program = BUILT / f"{name}-{digest}"
    if not program.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(".new")
        subprocess.run([*COMPILE, source, "-o", fresh], check=True)
        fresh.rename(program)
    return program
