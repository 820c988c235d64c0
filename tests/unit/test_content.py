# SPDX-License-Identifier: Apache-2.0
"""The bytes of a remote file: a content against a twin that is one bytearray."""

from __future__ import annotations

import errno
import gc
import os
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ovfs.native._plane import ffi, lib

from ovfs.native.content import BLOCK, NEVER, PAGE, SEGMENT, Content, Extent, Layer, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where things happen: at the beginning, and around the end of the first segment.
OFFSETS = st.one_of(
    st.integers(0, 3 * BLOCK),
    st.integers(0, 3 * BLOCK // PAGE).map(lambda page: page * PAGE),
    st.integers(SEGMENT - 2 * BLOCK, SEGMENT + 2 * BLOCK),
    st.integers(SEGMENT // PAGE - 8, SEGMENT // PAGE + 8).map(lambda page: page * PAGE),
)
LENGTHS = st.one_of(st.integers(0, 3 * PAGE), st.integers(0, 2 * BLOCK))


def _file(size: int) -> int:
    """Return an empty cache file without a name."""
    fd = os.memfd_create("segment")
    os.truncate(fd, size)
    return fd


def _object(pages: int) -> bytes:
    """Return bytes without a zero, neighbouring pages never alike."""
    row = bytes(range(1, 256)) * (PAGE // 255 + 2)
    return b"".join(row[page % 255 : page % 255 + PAGE] for page in range(pages))


STORED = memoryview(_object((SEGMENT + 3 * BLOCK) // PAGE))


@cache
def _stored_file(index: int) -> int:
    """Return the file of a base segment, which no content ever changes."""
    fd = _file(0)
    os.pwrite(fd, STORED[index * SEGMENT : (index + 1) * SEGMENT], 0)
    return fd


def _pages(offset: int, length: int, end: int) -> tuple[int, int]:
    """Return the whole pages that hold a range, cut off at `end`."""
    first = offset // PAGE * PAGE
    return first, min(-(-(offset + length) // PAGE) * PAGE, end)


class ContentMachine(RuleBasedStateMachine):
    """Any order of calls: what is read is what the twin has, and sources are what was made so."""

    @initialize(size=st.one_of(st.just(0), OFFSETS), more=st.sampled_from([0, 1, PAGE, BLOCK + 1]))
    def begin(self, size: int, more: int) -> None:
        self.twin = bytearray(STORED[:size])
        self.twin += bytes(more)
        self.base_size = size
        self.content = Content(len(self.twin), size, 1)
        self.present: set[int] = set()  # blocks of the base layer
        self.written: set[int] = set()  # pages of the write layer
        self.segments: set[tuple[Layer, int]] = set()
        self.generation = 0

    def teardown(self) -> None:
        self.content.close()

    # ---- what the control plane does ----

    @rule(index=st.integers(0, 2))
    def add_write(self, index: int) -> None:
        if (Layer.WRITE, index) in self.segments:
            with pytest.raises(FileExistsError):
                self.content.add_segment(Layer.WRITE, index, _file(0))
            return
        self.content.add_segment(Layer.WRITE, index, _file(SEGMENT))
        self.segments.add((Layer.WRITE, index))

    @rule(index=st.integers(0, 1))
    def add_base(self, index: int) -> None:
        if (Layer.BASE, index) in self.segments:
            return
        self.content.add_segment(Layer.BASE, index, os.dup(_stored_file(index)))
        self.segments.add((Layer.BASE, index))

    @rule(index=st.integers(0, 1))
    def drop(self, index: int) -> None:
        assert self.content.drop_segment(index) == ((Layer.BASE, index) in self.segments)
        self.segments.discard((Layer.BASE, index))
        blocks = range(index * SEGMENT // BLOCK, (index + 1) * SEGMENT // BLOCK)
        self.present -= set(blocks)

    @rule(offset=OFFSETS, length=LENGTHS)
    def mark(self, offset: int, length: int) -> None:
        end = min(offset + length, self.base_size)
        last = -(-end // BLOCK) if end == self.base_size else end // BLOCK
        blocks = range(-(-offset // BLOCK), last)
        needed = {(Layer.BASE, block * BLOCK // SEGMENT) for block in blocks}
        if needed <= self.segments:
            assert self.content.mark_present(offset, length)
            self.present |= set(blocks)

    @rule(offset=OFFSETS, length=LENGTHS)
    def fill(self, offset: int, length: int) -> None:
        first, end = _pages(offset, length, self.base_size)
        pages = range(first // PAGE, -(-end // PAGE))
        needed = {(Layer.WRITE, page * PAGE // SEGMENT) for page in pages}
        if first < end and needed <= self.segments:
            self.content.fill(first, STORED[first:end])
            self.written |= set(pages)

    @rule(size=OFFSETS)
    def truncate(self, size: int) -> None:
        self.content.truncate(size)
        if size < len(self.twin):
            self.base_size = min(self.base_size, size)
            self.written = {page for page in self.written if page * PAGE < size}
        del self.twin[size:]
        self.twin += bytes(size - len(self.twin))
        self.generation += 1

    # ---- what the guest does ----

    def _lacks(self, page: int, offset: int, end: int) -> bool:
        """Whether a write leaves bytes of the base out that the page would need."""
        base_end = min((page + 1) * PAGE, self.base_size)
        if page in self.written or page * PAGE >= base_end:
            return False
        return offset > page * PAGE or end < base_end

    @rule(offset=OFFSETS, length=LENGTHS, byte=st.integers(0, 255))
    def write(self, offset: int, length: int, byte: int) -> None:
        data = bytes([byte]) * length
        end = offset + length
        pages = range(offset // PAGE, -(-end // PAGE)) if length else range(0)
        needed = {(Layer.WRITE, page * PAGE // SEGMENT) for page in pages}
        if not needed <= self.segments or any(self._lacks(page, offset, end) for page in pages):
            with pytest.raises(BlockingIOError):
                self.content.write(offset, data)
            return
        assert self.content.write(offset, data) == length
        if length:
            self.twin += bytes(max(0, end - len(self.twin)))
            self.twin[offset:end] = data
            self.written |= set(pages)
            self.generation += 1

    # ---- what must hold ----

    def _source(self, offset: int) -> Source:
        if offset // PAGE in self.written:
            return Source.WRITE
        if offset >= self.base_size:
            return Source.ZERO
        return Source.BASE if offset // BLOCK in self.present else Source.MISSING

    def _extents(self, offset: int, length: int) -> list[Extent]:
        found: list[Extent] = []
        end = min(offset + length, len(self.twin))
        while offset < end:
            source, start = self._source(offset), offset
            while offset < end and self._source(offset) is source:
                edge = (offset // PAGE + 1) * PAGE
                offset = min(edge, end, self.base_size if offset < self.base_size else edge)
            found.append(Extent(start, offset - start, source))
        return found

    @rule(offset=OFFSETS, length=LENGTHS)
    def look(self, offset: int, length: int) -> None:
        extents = self._extents(offset, length)
        assert self.content.extents(offset, length) == extents
        there = 0
        for extent in extents:
            if extent.kind is Source.MISSING:
                break
            there += extent.length
        assert self.content.read(offset, length) == self.twin[offset : offset + there]

    @invariant()
    def sizes_are_right(self) -> None:
        state = self.content.state()
        assert state.size == len(self.twin)
        assert state.base_size == self.base_size
        assert state.generation == self.generation
        assert self.content.extents(state.size, 10) == []


TestContentMachine = pytest.mark.slow(ContentMachine.TestCase)
TestContentMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.fixture
def content() -> Iterator[Content]:
    content = Content(0, 0, 1)
    content.add_segment(Layer.WRITE, 0, _file(SEGMENT))
    yield content
    content.close()


def test_state_says_what_was_set(content: Content) -> None:
    assert not content.state().writable
    content.set_writable(True)
    content.seal(NEVER)
    content.set_version(5)
    content.notify_at(NEVER)
    content.set_mtime(77)
    state = content.state()
    assert (state.writable, state.sealed, state.version, state.mtime_ns) == (True, NEVER, 5, 77)
    assert state.handles == 0


def test_stored_means_nothing_came_after(content: Content) -> None:
    assert content.write(0, b"one") == 3
    generation = content.state().generation
    assert content.write(3, b"two") == 3
    assert not content.set_stored(generation)
    assert content.set_stored(content.state().generation)
    assert content.state().mtime_ns > 0


def test_truncating_makes_a_new_file_one_to_be_stored() -> None:
    content = Content(0, 0, 1)
    content.truncate(0)
    assert content.state().generation > content.state().stored


def test_errors_have_their_errno(content: Content) -> None:
    with pytest.raises(FileNotFoundError):
        Content(PAGE, PAGE, 1).fill(0, bytes(PAGE))
    assert not Content(PAGE, PAGE, 1).mark_present(0, PAGE)
    with pytest.raises(OSError, match="Invalid argument"):
        content.mark_present(0, 2**63)
    with pytest.raises(OSError, match="too large") as caught:
        content.truncate(2**63)
    assert caught.value.errno == errno.EFBIG
    short = Content(BLOCK, BLOCK, 1)
    short.add_segment(Layer.BASE, 0, _file(PAGE))
    assert short.mark_present(0, BLOCK)
    with pytest.raises(OSError, match="Input/output") as caught:
        short.read(0, BLOCK)
    assert caught.value.errno == errno.EIO


def test_a_full_disk_is_the_writers_error(content: Content) -> None:
    fd = _file(SEGMENT)
    content.add_segment(Layer.WRITE, 1, os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
    os.close(fd)
    with pytest.raises(OSError, match="Bad file") as caught:  # any error of pwrite
        content.write(SEGMENT, b"x")
    assert caught.value.errno == errno.EBADF
    assert content.write(SEGMENT - 2, b"abcd") == 2  # as far as it came
    assert content.state().size == SEGMENT


def test_what_has_the_pointer_keeps_it_alive(content: Content) -> None:
    assert content.write(0, b"bytes") == 5
    pointer = content.handle
    content.close()
    content.close()
    gc.collect()
    buffer = bytearray(5)
    assert lib.ovfs_content_read(pointer, 0, ffi.from_buffer(buffer), 5) == 5
    assert buffer == b"bytes"


def test_descriptors_close_with_the_content() -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        content = Content(SEGMENT, SEGMENT, 1)
        content.add_segment(Layer.BASE, 0, _file(0))
        content.add_segment(Layer.WRITE, 0, _file(SEGMENT))
        content.drop_segment(0)
        content.close()
    assert len(os.listdir("/proc/self/fd")) == before
