# SPDX-License-Identifier: Apache-2.0
"""Builds `tests.vmm._vmm`, the compiled half of the fake VMM, from the C files beside this one.

It is no part of the installed package, so the package's own build knows nothing of it: the first
import of `tests.vmm` builds it, and so does the first one after a C file changed; `python
tests/vmm/build_vmm.py` does it by hand. One compiler call, no setuptools: that would read the
project's own configuration and leave object files about. `CC` and `VMM_CFLAGS` are honoured, so
that a sanitizer build is possible (remove the old module first).
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SOURCES = ("mem.c", "ring.c", "null.c", "forget.c", "workload.c", "bench.c")
HEADERS = ("vmm_api.h", "mem.h", "ring.h", "hist.h", "bench.h")
# The last two are for the code that cffi writes, which is not ours to keep free of them.
CFLAGS = (
    "-std=gnu11 -D_GNU_SOURCE -O2 -g -fPIC -pthread -Wall -Wextra -Werror"
    " -Wno-unused-parameter -Wno-sign-compare"
)


def module_path() -> Path:
    """The extension module's file, whether it exists or not."""
    return HERE / f"_vmm{sysconfig.get_config_var('EXT_SUFFIX')}"


def is_stale() -> bool:
    """Whether the module is missing or older than anything it is made of."""
    module = module_path()
    if not module.exists():
        return True
    built = module.stat().st_mtime_ns
    inputs = [HERE / name for name in (*SOURCES, *HEADERS)] + [Path(__file__)]
    return any(path.stat().st_mtime_ns > built for path in inputs)


def _compile() -> None:
    ffibuilder = FFI()
    ffibuilder.cdef((HERE / "vmm_api.h").read_text())
    ffibuilder.set_source("tests.vmm._vmm", '#include <stdint.h>\n#include "vmm_api.h"\n')
    glue = HERE / "_vmm.c"
    with contextlib.redirect_stdout(io.StringIO()):  # cffi tells everybody that it generates
        ffibuilder.emit_c_code(str(glue))
    # Built beside the old one and renamed over it, so that no process maps half a module.
    fresh = module_path().with_suffix(f".{os.getpid()}.tmp")
    command = [
        *shlex.split(os.environ.get("CC", "cc")),
        *shlex.split(CFLAGS),
        *shlex.split(os.environ.get("VMM_CFLAGS", "")),
        "-shared",
        f"-I{sysconfig.get_path('include')}",
        f"-I{HERE}",
        "-o",
        str(fresh),
        str(glue),
        *(str(HERE / name) for name in SOURCES),
    ]
    try:
        subprocess.run(command, check=True)
        fresh.replace(module_path())
    finally:
        fresh.unlink(missing_ok=True)


def build() -> None:
    """Compiles the module in place where it is stale; several processes may do so at once.

    Raises:
        subprocess.CalledProcessError: The compiler failed; its messages are on stderr.
    """
    directory = os.open(HERE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if is_stale():
            _compile()
    finally:
        os.close(directory)


if __name__ == "__main__":
    build()
    sys.stdout.write(f"{module_path()}\n")
