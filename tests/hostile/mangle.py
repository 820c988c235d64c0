# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil what was right: bytes of a request, rows of a descriptor table. Seeded dice."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

#: Numbers at which something ends, wraps or changes its sign.
EDGES: Final = (0, 1, 2, 7, 39, 40, 41, 0x7F, 0xFF, 0xFFF, 0x1000, 0xFFFF, 0x10000)
WIDE_EDGES: Final = (0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, (1 << 63) - 1, 1 << 63)


def _flip_bits(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)


def _set_number(dice: random.Random, data: bytearray) -> None:
    width, layout = dice.choice(((2, "<H"), (4, "<I"), (8, "<Q")))
    if len(data) < width:
        return
    at = dice.randrange(0, len(data) - width + 1, 1 if dice.random() < 0.2 else width)
    value = dice.choice((*EDGES, *WIDE_EDGES, dice.getrandbits(64)))
    struct.pack_into(layout, data, at, value & ((1 << 8 * width) - 1))


def _scatter(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(len(data))
    end = min(len(data), at + dice.randint(1, 16))
    data[at:end] = dice.randbytes(end - at)


def _cut(dice: random.Random, data: bytearray) -> None:
    del data[dice.randrange(len(data)) :]


def _extend(dice: random.Random, data: bytearray) -> None:
    data += dice.randbytes(dice.randint(1, 300))


def _repeat(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(len(data))
    data[at:at] = data[at : at + dice.randint(1, 40)]


WAYS: Final[tuple[Callable[[random.Random, bytearray], None], ...]] = (
    _flip_bits,
    _set_number,
    _set_number,
    _scatter,
    _cut,
    _extend,
    _repeat,
)


def mangled(dice: random.Random, data: bytes, *, times: int = 2) -> bytes:
    """The bytes, spoilt in up to so many ways."""
    out = bytearray(data)
    for _ in range(dice.randint(1, times)):
        if out:
            dice.choice(WAYS)(dice, out)
    return bytes(out)


Desc = tuple[int, int, int, int]


def mangled_table(dice: random.Random, rows: list[Desc], addresses: list[int]) -> list[Desc]:
    """A descriptor table, spoilt in one to three places.

    Args:
        dice: Decides.
        rows: Address, length, flags, next.
        addresses: Where guest memory begins and ends.
    """
    out = [list(row) for row in rows]
    for _ in range(dice.randint(1, 3)):
        row = dice.choice(out)
        match dice.randrange(5):
            case 0:
                row[0] = dice.choice((*addresses, dice.getrandbits(64), (1 << 64) - 1))
                row[0] = (row[0] + dice.randint(-64, 64)) % (1 << 64)
            case 1:
                row[1] = dice.choice((*EDGES, 0xFFFF_FFFF, dice.getrandbits(32)))
            case 2:
                row[2] = dice.choice((0, 1, 2, 3, 4, 5, 6, 7, dice.getrandbits(16)))
            case 3:
                row[3] = dice.choice((0, 1, len(out) - 1, len(out), dice.getrandbits(16)))
            case _:
                dice.shuffle(out)
    return [(row[0], row[1], row[2], row[3]) for row in out]
