# SPDX-License-Identifier: Apache-2.0
"""Places for calls: so many that move, and more of those that do not."""

from __future__ import annotations

import asyncio

from ovfs.remote.slots import Slots


async def _hold(slots: Slots, taken: list[int], number: int, end: asyncio.Event) -> None:
    async with slots.take():
        taken.append(number)
        await end.wait()


async def _fill(
    slots: Slots, count: int
) -> tuple[list[int], asyncio.Event, list[asyncio.Task[None]]]:
    taken: list[int] = []
    end = asyncio.Event()
    tasks = [asyncio.create_task(_hold(slots, taken, number, end)) for number in range(count)]
    await asyncio.sleep(0.01)
    return taken, end, tasks


def test_so_many_at_a_time_in_their_order() -> None:
    async def main() -> None:
        slots = Slots(2, 100, patience=60.0)
        taken, end, tasks = await _fill(slots, 5)
        assert taken == [0, 1]
        end.set()
        await asyncio.gather(*tasks)
        assert taken == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_what_does_not_end_makes_room_up_to_a_limit() -> None:
    async def main() -> None:
        slots = Slots(2, 5, patience=0.05)
        taken, end, tasks = await _fill(slots, 8)
        assert taken == [0, 1]
        await asyncio.sleep(0.07)
        assert taken == [0, 1, 2, 3]
        await asyncio.sleep(0.3)
        assert taken == [0, 1, 2, 3, 4]
        end.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_all_places_come_back() -> None:
    """Whether they were given up early, in time, by an error, or while waiting for one."""

    async def main() -> None:
        slots = Slots(2, 4, patience=0.02)
        for _ in range(20):
            _, end, tasks = await _fill(slots, 6)
            await asyncio.sleep(0.025)
            for task in tasks[::2]:
                task.cancel()
            end.set()
            await asyncio.gather(*tasks, return_exceptions=True)
        slots._patience = 60.0
        taken, end, tasks = await _fill(slots, 6)
        assert taken == [0, 1]
        end.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
