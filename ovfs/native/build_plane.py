# SPDX-License-Identifier: Apache-2.0
"""Compiles the data plane (c/) into ``ovfs.native._plane``.

Read by setuptools through ``cffi_modules`` in setup.py, and a script of its own: run as one, it
builds in place, so that a checkout works without being installed. cffi reads the declarations
from the very header that gcc reads, so the two cannot drift apart.

``OVFS_SANITIZE=address,undefined`` or ``OVFS_SANITIZE=thread`` builds with these sanitizers; the
interpreter that loads the result needs the matching runtime preloaded. ``CC`` chooses the compiler.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cffi import FFI

MODULE = "ovfs.native._plane"
ROOT = Path(__file__).resolve().parents[2]

STRICT = [
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    # Python's own flags may carry -DNDEBUG. Assertions stay: they guard against our own bugs, next
    # to a hostile guest, and cost a predicted branch each.
    "-UNDEBUG",
    # Nothing but the module's init function leaves the shared object, so calls between our files
    # need no PLT and a function of the same name elsewhere in the process cannot take their place.
    "-fvisibility=hidden",
    # A row of a table names what it has, the rest is zero: clang warns of that where gcc does not.
    "-Wno-missing-field-initializers",
    # Wire structs are read where they lie, in buffers that were filled as bytes.
    "-fno-strict-aliasing",
    # The flags this interpreter was built with need not suit our files' frames in a profile.
    "-fno-omit-frame-pointer",
]
# What a release adds: -O2, since -O3 (Python's own choice on some systems) grows the queue's loop
# beyond what it gains; and the usual guards of a program that parses what an enemy wrote. No LTO:
# hot helpers are inline functions in headers, and a compiler whose linker lacks its plugin breaks
# the build with it.
RELEASE = [
    "-O2",
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",  # some distributions predefine another level, which -Werror refuses
    "-D_FORTIFY_SOURCE=2",
]
# cffi's wrappers leave `self` unused by design; our own files get no such leave.
PREAMBLE = """
#include "api.h"
#pragma GCC diagnostic ignored "-Wunused-parameter"
"""


def sanitizers() -> list[str]:
    """Return the sanitizers asked for in the environment, none by default."""
    return [name for name in os.environ.get("OVFS_SANITIZE", "").split(",") if name]


def compile_flags() -> list[str]:
    """Return the compiler's arguments for our files and for cffi's."""
    names = sanitizers()
    if not names:
        return STRICT + RELEASE
    # -O1 keeps stack traces true; fortified calls would hide overflows from the sanitizer.
    debug = ["-O1", "-g", "-U_FORTIFY_SOURCE", f"-fsanitize={','.join(names)}"]
    if "undefined" in names:
        debug.append("-fno-sanitize-recover=undefined")  # a report nobody fails on is no test
    return STRICT + debug


def link_flags() -> list[str]:
    """Return the linker's arguments.

    liburing goes in statically: nothing but libc is needed at run time, and its inline half and
    its library half are then of one version. Its names are kept to ourselves.
    """
    names = sanitizers()
    flags = ["-pthread", "-Wl,--exclude-libs,ALL", "-Wl,-z,relro,-z,now"]
    return flags + ([f"-fsanitize={','.join(names)}"] if names else [])


def make_builder() -> FFI:
    """Return the builder, with sources relative to the project's root as setuptools wants them."""
    c = ROOT / "c"
    sources = sorted(path.relative_to(ROOT).as_posix() for path in c.rglob("*.c"))
    headers = sorted(path.relative_to(ROOT).as_posix() for path in c.rglob("*.h"))
    builder = FFI()
    builder.cdef((c / "ovfs_api.h").read_text(encoding="utf-8"))
    builder.set_source(
        MODULE,
        PREAMBLE,
        sources=sources,
        depends=headers,
        include_dirs=["c"],
        define_macros=[("_GNU_SOURCE", "1")],
        extra_compile_args=compile_flags(),
        extra_link_args=link_flags(),
        libraries=[":liburing.a"],
    )
    return builder


def build_in_place() -> None:
    """Build into this directory what setuptools would install, under the same file name.

    Always from scratch: changed flags alone do not make setuptools compile again, and an ordinary
    build after a sanitized one would keep a module that no plain interpreter can load.
    """
    import setuptools  # noqa: PLC0415 (an install reads this file inside setuptools already)

    os.chdir(ROOT)
    setuptools.setup(
        script_args=["--quiet", "build_ext", "--inplace", "--force"],
        cffi_modules=["ovfs/native/build_plane.py:ffibuilder"],
    )


ffibuilder = make_builder()

if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("usage: build_plane.py (no arguments; OVFS_SANITIZE and CC are read)")
    build_in_place()
