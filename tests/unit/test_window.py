# SPDX-License-Identifier: Apache-2.0
"""The read-ahead window: growth, randomness, readers whose requests arrive out of order."""

from __future__ import annotations

from ovfs.remote.window import FIRST, LARGEST, MIB, RANDOM_MISSES, STRIDE, ReadWindow


def test_a_first_read_at_the_start_fetches_ahead() -> None:
    window = ReadWindow()
    ahead = window.on_miss(0, 128 << 10)
    assert ahead.start == 128 << 10
    assert len(ahead) >= FIRST
    assert not window.is_random


def test_sequential_misses_double_up_to_the_bound() -> None:
    window = ReadWindow()
    offset, reached = 0, []
    for _ in range(12):
        end = window.on_miss(offset, MIB).stop
        reached.append(end - offset)
        offset = end
    assert reached == sorted(reached)
    assert window.size == LARGEST
    assert max(reached) <= LARGEST + MIB


def test_what_is_fetched_ahead_is_told_once_and_leaves_no_gap() -> None:
    window = ReadWindow()
    fetched = 0
    for turn in range(40):
        ahead = window.on_miss(turn * MIB, MIB)
        if ahead:
            assert ahead.start == max(fetched, (turn + 1) * MIB)
            fetched = ahead.stop
    assert fetched > LARGEST


def test_a_large_window_ends_where_a_request_does() -> None:
    window = ReadWindow()
    ends = [window.on_miss(turn * MIB + 4096, MIB).stop for turn in range(12)]
    assert not any(end % STRIDE for end in ends[4:] if end)


def test_a_reader_that_passes_the_mark_always_has_half_a_window_before_it() -> None:
    window = ReadWindow()
    for turn in range(8):
        window.on_miss(turn * MIB, MIB)
    for _ in range(8):
        mark, before = window.mark, window.fetched
        ahead = window.on_mark()
        assert before - mark == LARGEST // 2
        assert ahead.start == before
        assert mark + LARGEST - STRIDE < ahead.stop <= mark + LARGEST


def test_requests_out_of_order_are_one_reader() -> None:
    window = ReadWindow()
    for offset in (0, 2, 1, 3, 5, 4, 6, 7):
        window.on_miss(offset * MIB, MIB)
    assert not window.is_random
    assert window.misses == 0
    assert window.size > 8 * MIB


def test_a_late_request_of_the_same_reader_fetches_nothing_ahead() -> None:
    window = ReadWindow()
    for offset in (0, 1, 2, 3):
        window.on_miss(offset * MIB, MIB)
    before = window.fetched
    assert not window.on_miss(2 * MIB, MIB)
    assert window.fetched == before


def test_a_random_read_fetches_nothing_ahead() -> None:
    window = ReadWindow()
    window.on_miss(0, 4096)
    assert not window.on_miss(900 * MIB, 4096)
    assert not window.on_miss(300 * MIB, 4096)


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
