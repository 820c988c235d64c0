# SPDX-License-Identifier: Apache-2.0
"""Values of options: text to a checked value, for argparse's ``type``."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = re.compile(r"([0-9]{1,12})([KMGT]?)\Z")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_MIN_SIZE = 1 << 20


def number(kind: type[int | float], low: float, high: float, unit: str) -> Callable[[str], float]:
    """Return a parser of numbers within bounds, whose error says which ones."""

    def parse_number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {unit} from {low:g} to {high:g}")
        return value

    return parse_number


def mode(text: str) -> int:
    """Return permissions, octal."""
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is no octal mode from 0 to 0777, as 0660 is")
    return value


def size(text: str) -> int:
    """Return a number of bytes: ``10G``, say."""
    found = _SIZE.match(text)
    value = int(found[1]) << _UNITS[found[2]] if found else 0
    if not _MIN_SIZE <= value < 1 << 62:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size of at least 1M, as 512M, 10G and 1T are"
        )
    return value


def directory(text: str) -> Path:
    """Return a directory's path, absolute, since a daemon may change its own."""
    if not text:
        raise argparse.ArgumentTypeError("the directory's name is empty")
    return Path(text).absolute()
