# SPDX-License-Identifier: Apache-2.0
"""The read-ahead window: growth, randomness, readers whose requests arrive out of order."""

from __future__ import annotations

from ovfs.remote.window import FIRST, LARGEST, MIB, RANDOM_MISSES, ReadWindow


def test_a_first_read_at_the_start_fetches_ahead() -> None:
    window = ReadWindow()
    assert window.on_miss(0, 128 << 10) >= FIRST
    assert not window.is_random


def test_sequential_misses_double_up_to_the_bound() -> None:
    window = ReadWindow()
    offset, reached = 0, []
    for _ in range(12):
        end = window.on_miss(offset, MIB)
        reached.append(end - offset)
        offset = end
    assert reached == sorted(reached)
    assert window.size == LARGEST
    assert max(reached) <= LARGEST + MIB


def test_requests_out_of_order_are_one_reader() -> None:
    window = ReadWindow()
    for offset in (0, 2, 1, 3, 5, 4, 6, 7):
        window.on_miss(offset * MIB, MIB)
    assert not window.is_random
    assert window.misses == 0
    assert window.size > 8 * MIB


def test_a_random_read_fetches_nothing_ahead() -> None:
    window = ReadWindow()
    window.on_miss(0, 4096)
    assert window.on_miss(900 * MIB, 4096) == 900 * MIB + 4096
    assert window.on_miss(300 * MIB, 4096) == 300 * MIB + 4096


def test_it_is_random_after_a_few_jumps_and_no_more_after_a_run() -> None:
    window = ReadWindow()
    window.on_miss(0, 4096)
    for index in range(RANDOM_MISSES):
        assert not window.is_random
        window.on_miss((100 + 70 * (index % 3)) * MIB + index * 10 * MIB, 4096)
    assert window.is_random
    start = window.front
    for index in range(3):
        window.on_miss(start + index * MIB, MIB)
    assert not window.is_random
