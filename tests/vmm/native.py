# SPDX-License-Identifier: Apache-2.0
"""The compiled half, built if need be: `ffi`, `lib`, and how its return codes become exceptions."""

from __future__ import annotations

import importlib
import os
from typing import Any

from tests.vmm import build_vmm

build_vmm.build()

_vmm = importlib.import_module("tests.vmm._vmm")  # it may not have existed before build()

ffi: Any = _vmm.ffi
lib: Any = _vmm.lib


def check(result: int, what: str) -> int:
    """Returns a result that is not negative.

    Raises:
        OSError: With the errno that a negative result carries.
    """
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


def check_pointer(pointer: Any, what: str) -> Any:
    """Returns a pointer that is not NULL.

    Raises:
        OSError: With the thread's errno.
    """
    if pointer == ffi.NULL:
        raise OSError(ffi.errno, f"{what}: {os.strerror(ffi.errno)}")
    return pointer
