# SPDX-License-Identifier: Apache-2.0
"""The wrapper of the data plane: values arrive, errors are exceptions with an errno."""

from __future__ import annotations

import errno
import mmap
import os
import resource
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from ovfs.native._plane import ffi

from ovfs.errors import UsageError
from ovfs.native import Cache, EventKind, FileHandles, MemRegion, PlaneOptions, Stats, Vring
from ovfs.native import plane as native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = 1 << 20
USER = 0x7F0000000000


@pytest.fixture
def options(disk_dir: Path) -> Iterator[PlaneOptions]:
    root = os.open(disk_dir, os.O_PATH | os.O_DIRECTORY)
    read_end, write_end = os.pipe2(os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC)
    yield PlaneOptions(root_fd=root, event_fd=write_end, queues=2, fd_cache=64)
    for fd in (root, read_end, write_end):
        os.close(fd)


@pytest.fixture
def plane(options: PlaneOptions) -> Iterator[native.Plane]:
    with native.Plane(options) as plane:
        yield plane


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def region(fd: int, guest_addr: int = 0, user_addr: int = USER) -> MemRegion:
    return MemRegion(guest_addr, SIZE, user_addr, 0, fd)


def vring(num: int = 16, at: int = USER) -> Vring:
    return Vring(num, 0, at, at + 4096, at + 8192, -1, -1, -1, event_idx=True, indirect=True)


def expect(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r"\(.*\)") as caught:
        call()
    assert caught.value.errno == number


def test_enums_are_those_of_the_header() -> None:
    assert {f"OVFS_EVENT_{kind.name}": kind.value for kind in EventKind} == ffi.typeof(
        "enum ovfs_event_kind"
    ).relements
    assert {f"OVFS_CACHE_{kind.name}" for kind in Cache} == set(
        ffi.typeof("enum ovfs_cache").relements
    )
    assert {f"OVFS_HANDLES_{kind.name}" for kind in FileHandles} == set(
        ffi.typeof("enum ovfs_file_handles").relements
    )


@pytest.mark.parametrize(
    ("struct", "value"),
    [("ovfs_stats", Stats), ("ovfs_mem_region", MemRegion), ("ovfs_vring", Vring)],
)
def test_values_have_the_fields_of_the_header(struct: str, value: type) -> None:
    header = [name for name, _ in ffi.typeof(f"struct {struct}").fields]
    assert [entry.name for entry in fields(value)] == header


def test_options_cover_the_header() -> None:
    header = {name.removesuffix("_ns") for name, _ in ffi.typeof("struct ovfs_options").fields}
    assert {entry.name for entry in fields(PlaneOptions)} == header


def test_io_uring_works_here() -> None:
    assert native.ring_probe() == 0


def test_counters_start_at_zero(plane: native.Plane) -> None:
    stats = plane.stats()
    assert (stats.requests, stats.replies, stats.handles, stats.in_flight) == (0, 0, 0, 0)


def test_queue_starts_and_stops(plane: native.Plane, memory: int) -> None:
    plane.set_memory([region(memory)])
    plane.start_queue(1, vring())
    expect(errno.EBUSY, lambda: plane.start_queue(1, vring()))
    plane.set_call(1, -1)
    assert plane.stop_queue(1) == 0
    assert plane.stop_queue(1) is None
    plane.reset()
    plane.sync()


def test_errors_are_the_header_s(plane: native.Plane, memory: int) -> None:
    expect(errno.EFAULT, lambda: plane.start_queue(0, vring()))
    plane.add_memory(region(memory))
    expect(errno.EEXIST, lambda: plane.add_memory(region(memory)))
    expect(errno.EINVAL, lambda: plane.start_queue(0, vring(num=3)))
    expect(errno.ENOENT, lambda: plane.set_call(0, -1))
    expect(errno.ENOENT, lambda: plane.remove_memory(0, SIZE, USER + 1))
    plane.remove_memory(0, SIZE, USER)
    expect(errno.EFAULT, lambda: plane.start_queue(0, vring()))
    overlapping = [region(memory), region(memory, mmap.PAGESIZE)]
    expect(errno.EEXIST, lambda: plane.set_memory(overlapping))
    expect(errno.EINVAL, lambda: plane.set_memory([MemRegion(0, 0, USER, 0, memory)]))
    plane.set_memory(())


def test_memory_has_as_many_slots_as_it_says(plane: native.Plane, memory: int) -> None:
    for number in range(native.MEM_SLOTS):
        plane.add_memory(region(memory, number * SIZE, USER + number * SIZE))
    end = native.MEM_SLOTS * SIZE
    expect(errno.ENOSPC, lambda: plane.add_memory(region(memory, end, USER + end)))


def test_descriptors_are_given_back(
    options: PlaneOptions, memory: int, open_fds: Callable[[], set[str]]
) -> None:
    before = open_fds()
    with native.Plane(options) as plane:
        plane.set_memory([region(memory)])
        plane.start_queue(0, vring())
    assert open_fds() == before


def test_closing_twice_is_closing(options: PlaneOptions) -> None:
    plane = native.Plane(options)
    plane.close()
    plane.close()


def test_directory_that_cannot_be_served_is_one_line(options: PlaneOptions) -> None:
    """No descriptor is left to duplicate the root, for want of a better failure to cause."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(UsageError) as caught:
            native.Plane(options)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_event_decodes() -> None:
    raw = ffi.new("struct ovfs_event *", {"kind": 2, "text": b"disk full"})
    event = native.decode_event(bytes(ffi.buffer(raw)))
    assert (event.kind, event.text) == (EventKind.WARNING, "disk full")
    raw.text = b"\xff" * 252  # no NUL, no UTF-8
    assert native.decode_event(bytes(ffi.buffer(raw))).text == "\\xff" * 252


def test_opcodes_are_named() -> None:
    assert native.opcode(1) == ("LOOKUP", True)
    assert native.opcode(4096) is None
