# SPDX-License-Identifier: Apache-2.0
"""Whoever waits for the bytes of a node gets those that it has by then."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from ovfs.remote.file import File, held

if TYPE_CHECKING:
    from ovfs.remote.node import Node


def _file() -> File:
    return cast("File", SimpleNamespace(commit=asyncio.Lock()))


def _node(file: File | None) -> Node:
    return cast("Node", SimpleNamespace(file=file))


async def _wait_in_line(node: Node) -> asyncio.Task[File | None]:
    """A task that waits for the node's file, which somebody else holds."""

    async def hold() -> File | None:
        async with held(node) as file:
            assert file is node.file
            assert file is None or file.commit.locked()
            return file

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_it_is_held_while_in_use_and_no_longer() -> None:
    async def main() -> None:
        file = _file()
        async with held(_node(file)) as found:
            assert found is file
            assert file.commit.locked()
        assert not file.commit.locked()

    asyncio.run(main())


def test_a_node_without_one_has_none() -> None:
    async def main() -> None:
        async with held(_node(None)) as file:
            assert file is None

    asyncio.run(main())


def test_one_that_was_given_up_meanwhile_is_not_had() -> None:
    async def main() -> None:
        first = _file()
        node = _node(first)
        async with first.commit:
            task = await _wait_in_line(node)
            node.file = None
        assert await task is None

    asyncio.run(main())


def test_its_successor_is_held_in_its_place() -> None:
    async def main() -> None:
        first, second = _file(), _file()
        node = _node(first)
        async with second.commit:
            async with first.commit:
                task = await _wait_in_line(node)
                node.file = second
            await asyncio.sleep(0.01)
            assert not task.done(), "the second one is held by somebody else"
        assert await task is second
        assert not first.commit.locked()

    asyncio.run(main())
