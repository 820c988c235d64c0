# SPDX-License-Identifier: Apache-2.0
"""Builds ``ovfs.uring._uring``: liburing's C behind ``uring_api.h``, linked statically.

``setup.py`` takes ``ffibuilder`` from here. Run as a program, by its path (the package cannot be
imported before it is built), it compiles in place, for development.

``OVFS_SANITIZE`` (for instance ``address,undefined``) builds with those sanitizers.
"""

import os
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent.parent

# Types of the system that the header names; cffi fills in sizes and offsets from the C compiler.
_SYSTEM_TYPES = """
struct iovec { void *iov_base; size_t iov_len; };
struct statx_timestamp { int64_t tv_sec; uint32_t tv_nsec; ...; };
struct statx {
    uint32_t stx_mask, stx_blksize;
    uint64_t stx_attributes;
    uint32_t stx_nlink, stx_uid, stx_gid;
    uint16_t stx_mode;
    uint64_t stx_ino, stx_size, stx_blocks, stx_attributes_mask;
    struct statx_timestamp stx_atime, stx_btime, stx_ctime, stx_mtime;
    uint32_t stx_rdev_major, stx_rdev_minor, stx_dev_major, stx_dev_minor;
    ...;
};
"""

_PREAMBLE = """
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include "uring_api.h"
"""


def _builder() -> FFI:
    sanitize = os.environ.get("OVFS_SANITIZE", "")
    flags = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g", "-O1"] if sanitize else []
    builder = FFI()
    builder.cdef(_SYSTEM_TYPES + (_HERE / "uring_api.h").read_text(encoding="utf-8"))
    builder.set_source(
        "ovfs.uring._uring",
        _PREAMBLE,
        # setuptools wants paths relative to setup.py, which is also the working directory.
        sources=["ovfs/uring/uring.c", "ovfs/uring/prep.c"],
        depends=["ovfs/uring/uring_api.h", "ovfs/uring/uring_impl.h"],
        include_dirs=["ovfs/uring"],
        define_macros=[("_GNU_SOURCE", "1")],
        extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", *flags],
        extra_link_args=["-l:liburing.a", *flags],
    )
    return builder


ffibuilder = _builder()

if __name__ == "__main__":
    os.chdir(_ROOT)
    ffibuilder.compile(tmpdir=".", verbose=False)
