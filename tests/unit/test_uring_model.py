# SPDX-License-Identifier: Apache-2.0
"""Random batches of reads and writes behave as the same on a bytearray."""

import asyncio
import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovfs.uring import AsyncRing, Ring, SqeFlags

SIZE = 20_000

offsets = st.integers(0, SIZE)
reads = st.tuples(st.just("read"), offsets, st.integers(0, 9000))
writes = st.tuples(st.just("write"), offsets, st.binary(max_size=300))
vectors = st.tuples(st.just("writev"), offsets, st.lists(st.binary(max_size=50), max_size=5))
batches = st.lists(st.lists(st.one_of(reads, writes, vectors), max_size=12), max_size=6)


@pytest.fixture(scope="module", params=["/tmp", "/dev/shm"])
def fd(request: pytest.FixtureRequest) -> Iterator[int]:
    with tempfile.TemporaryFile(dir=request.param) as file:
        yield file.fileno()


class Model:
    """What the file holds, and what each call must answer."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, offset: int, data: bytes) -> int:
        if data and len(self.content) < offset:
            self.content.extend(bytes(offset - len(self.content)))
        if data:
            self.content[offset : offset + len(data)] = data
        return len(data)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.content[offset : offset + size])


@given(batches=batches)
@settings(max_examples=60, deadline=None)
def test_batches(fd: int, batches: list[list[tuple[str, int, object]]]) -> None:
    """Linked, so that each batch runs in its order; a queue of 16, as linking needs."""
    os.ftruncate(fd, 0)
    model = Model()
    with Ring(16) as ring:
        for steps in batches:
            expected: list[int] = []
            seen: list[tuple[bytearray, bytes]] = []
            with ring.batch() as batch:
                for index, (name, offset, what) in enumerate(steps):
                    # Hard links: a short read would end a soft chain.
                    flags = SqeFlags.HARDLINK if index + 1 < len(steps) else SqeFlags.NONE
                    if name == "read":
                        assert isinstance(what, int)
                        buffer, bytes_ = bytearray(b"\xee" * what), model.read(offset, what)
                        batch.read(fd, buffer, offset, flags=flags)
                        seen.append((buffer, bytes_ + b"\xee" * (what - len(bytes_))))
                        expected.append(len(bytes_))
                    elif name == "write":
                        assert isinstance(what, bytes)
                        batch.write(fd, what, offset, flags=flags)
                        expected.append(model.write(offset, what))
                    else:
                        assert isinstance(what, list)
                        batch.writev(fd, what, offset, flags=flags)
                        expected.append(model.write(offset, b"".join(what)))
            assert batch.results() == expected
            for buffer, bytes_ in seen:
                assert buffer == bytes_
    assert os.pread(fd, 2 * SIZE, 0) == model.content


@given(
    blocks=st.lists(st.integers(0, 63), unique=True, max_size=64),
    entries=st.sampled_from([1, 4, 64]),
    cancelled=st.sets(st.integers(0, 63)),
)
@settings(max_examples=40, deadline=None)
def test_concurrent_blocks(fd: int, blocks: list[int], entries: int, cancelled: set[int]) -> None:
    """A block holds what was written to it, or nothing where the write was cancelled."""
    os.ftruncate(fd, 0)
    os.ftruncate(fd, 64 * 64)

    async def main() -> None:
        async with AsyncRing(entries) as ring:
            tasks = {b: ring.write(fd, bytes([b + 1]) * 64, b * 64) for b in blocks}
            for block in cancelled & set(blocks):
                tasks[block].cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            buffers = [bytearray(64) for _ in range(64)]
            counts = await asyncio.gather(
                *(ring.read(fd, buffer, b * 64) for b, buffer in enumerate(buffers))
            )
            assert counts == [64] * 64
        for block, buffer in enumerate(buffers):
            full, empty = bytes([block + 1]) * 64, bytes(64)
            if block not in blocks:
                assert buffer == empty
            elif block in cancelled:
                assert bytes(buffer) in {full, empty}
            else:
                assert buffer == full

    asyncio.run(main())
