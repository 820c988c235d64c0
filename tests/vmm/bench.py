# SPDX-License-Identifier: Apache-2.0
"""Workloads with many requests in flight, and their figures.

    with Bench(vmm, daemon.pid) as bench:
        print(bench.run("read", depth=32, seconds=1.0))

The files that a workload needs are made through the daemon, in a directory of their own, and
removed at the end. What is measured is the daemon with this driver in place of a guest: the driver
spins on the used ring (or sleeps on the call, see `mode`), so its own CPU time says nothing; the
daemon's is read from outside, around the run.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from tests.vmm.fuse_flags import ROOT_ID
from tests.vmm.native import check, ffi, lib
from tests.vmm.procstat import daemon_cpu_ns

if TYPE_CHECKING:
    from tests.vmm.machine import Vmm

MIB: Final = 1 << 20
ARENA: Final = 32 * MIB
SMALL_SIZE: Final = 4096
FORGOTTEN: Final = 256  # at once
COLD: Final = 5000  # names that are looked up for the first time; a descriptor for each is allowed

Workload = Literal[
    "read",
    "write",
    "mixed",
    "getattr",
    "lookup",
    "open_release",
    "create_unlink",
    "rename",
    "readdirplus",
    "small_file",
    "store_file",
]
Mode = Literal["auto", "poll", "quiet", "sleep"]


class BenchError(Exception):
    """Requests of a run failed, so its figures mean nothing."""


@dataclass(frozen=True)
class BenchResult:
    """The figures of one run. An operation is a whole sequence: open and release, say."""

    workload: str
    depth: int
    size: int
    ops: int
    requests: int
    forgets: int
    bytes: int
    elapsed_ns: int
    kicks: int
    interrupts: int
    batches: int
    lat_mean_ns: int
    lat_p50_ns: int
    lat_p90_ns: int
    lat_p99_ns: int
    lat_p999_ns: int
    lat_max_ns: int
    daemon_cpu_ns: int | None = None

    @property
    def ops_per_s(self) -> float:
        """Operations a second."""
        return self.ops * 1e9 / self.elapsed_ns

    @property
    def bytes_per_s(self) -> float:
        """Data bytes a second."""
        return self.bytes * 1e9 / self.elapsed_ns

    @property
    def cpu_us_per_op(self) -> float | None:
        """The daemon's CPU microseconds for each operation, where its pid was known."""
        return None if self.daemon_cpu_ns is None else self.daemon_cpu_ns / 1e3 / self.ops

    def __str__(self) -> str:
        cpu = self.cpu_us_per_op
        return (
            f"{self.workload:13} depth {self.depth:3}: {self.ops_per_s:9.0f} op/s"
            f"  cpu {'-' if cpu is None else f'{cpu:.2f}'} us/op"
            f"  p50 {self.lat_p50_ns / 1e3:.1f} p99 {self.lat_p99_ns / 1e3:.1f}"
            f" p99.9 {self.lat_p999_ns / 1e3:.1f} us"
            f"  kicks {self.kicks / self.ops:.3f} calls {self.interrupts / self.ops:.3f} /op"
        )


def run_job(
    vmm: Vmm,
    workload: Workload,
    *,
    depth: int = 32,
    size: int = 4096,
    seconds: float = 0.0,
    ops: int = 0,
    mode: Mode = "auto",
    queue: int = 1,
    seg_size: int = 4096,
    random: bool = True,
    flags: int = os.O_RDWR,
    nodeid: int = ROOT_ID,
    fh: int = 0,
    file_size: int = 0,
    nodes: list[int] | None = None,
    names: list[bytes] | None = None,
    seed: int = 1,
    pid: int | None = None,
    forget: bool = True,
    arena: int = ARENA,
) -> BenchResult:
    """Runs one job on things that exist; `Bench.run` is the comfortable way.

    Args:
        vmm: Whose queue; it must be idle. Runs in other threads need other queues.
        workload: What.
        depth: Sequences in flight.
        size: Bytes of a read, write or readdirplus buffer.
        seconds: End after so long (0: do not).
        ops: End after so many operations (0: do not).
        mode: "poll" spins on the used ring with the call armed as a guest that is awake has it;
            "quiet" spins with calls suppressed; "sleep" waits on the call eventfd whenever nothing
            is there; "auto" is "sleep" for depth 1, else "poll".
        queue: The request queue.
        seg_size: Bytes of a data descriptor, 4096 as Linux has them; 0: one for all.
        random: Random offsets, else in order.
        flags: Of OPEN and CREATE.
        nodeid: The file, or the directory.
        fh: Its handle.
        file_size: Bytes to read or write in.
        nodes: For getattr and open_release; for readdirplus the handles, one for each slot.
        names: For lookup, small_file, rename and store_file.
        seed: Of offsets.
        pid: The daemon, whose CPU time is wanted.
        forget: Send FORGETs on queue 0; off for all but one of several runs at once.
        arena: Guest memory for requests and data buffers; more spreads them further.

    Raises:
        BenchError: A request failed.
        OSError: EBUSY, EINVAL, ENOSPC as `vmm_bench` says; ETIMEDOUT if nothing came back.
    """
    job = ffi.new("struct vmm_bench_job *")
    kept: list[Any] = [ffi.new("char[]", name) for name in names or []]
    c_names = ffi.new("char *[]", kept)
    c_nodes = ffi.new("uint64_t[]", nodes or [])
    chosen = ("sleep" if depth == 1 else "poll") if mode == "auto" else mode
    job.workload = getattr(lib, f"VMM_{workload.upper()}")
    job.mode = getattr(lib, f"VMM_{chosen.upper()}")
    job.depth, job.size, job.seg_size = depth, size, seg_size
    job.indirect = vmm.queues[queue].ring.indirect
    job.random, job.flags = random, flags
    job.nodeid, job.fh, job.file_size = nodeid, fh, file_size
    job.nodes, job.n_nodes = c_nodes, len(nodes or [])
    job.names, job.n_names = c_names, len(names or [])
    job.max_ops, job.max_ns, job.seed = ops, int(seconds * 1e9), seed
    job.arena_size = max(arena, lib.vmm_bench_arena_size(job))
    job.arena = vmm.memory.alloc(job.arena_size, align=4096)
    hiprio = vmm.queues[0].ring.handle if forget else ffi.NULL
    result = ffi.new("struct vmm_bench_result *")
    try:
        before = daemon_cpu_ns(pid) if pid is not None else 0
        error = lib.vmm_bench(vmm.memory.handle, vmm.queues[queue].ring.handle, hiprio, job, result)
        cpu = daemon_cpu_ns(pid) - before if pid is not None else None
    finally:
        vmm.memory.free(job.arena)
    check(error, f"bench {workload}")
    if result.errors:
        raise BenchError(
            f"{workload}: {result.errors} of {result.requests} requests failed, the first of opcode"
            f" {result.first_opcode}: {os.strerror(result.first_error)}"
        )
    figures = {
        name: int(getattr(result, name))
        for name in BenchResult.__dataclass_fields__
        if name not in {"workload", "depth", "size", "daemon_cpu_ns"}
    }
    return BenchResult(workload=workload, depth=depth, size=size, daemon_cpu_ns=cpu, **figures)


class Bench:
    """A directory of files for every workload, made through the daemon.

    Args:
        vmm: A device after INIT.
        pid: The daemon, whose CPU time is wanted.
        parent: Where the directory is made.
        file_size: Bytes of the file that is read and written.
        names: Files that are looked up, opened and renamed.
    """

    def __init__(
        self,
        vmm: Vmm,
        pid: int | None = None,
        *,
        parent: int = ROOT_ID,
        file_size: int = 64 * MIB,
        names: int = 256,
    ) -> None:
        self.vmm = vmm
        self.fs = vmm.fuse()
        self.pid = pid
        self.parent = parent
        self.file_size = file_size
        self.name = f"bench-{os.getpid()}".encode()
        self.names = [b"file-%05d" % index for index in range(names)]
        self.nodes: list[int] = []
        self._handles: dict[int, int] = {}
        self.directory = self.fs.mkdir(parent, self.name).nodeid
        self._listings: list[int] = []
        self._cold: tuple[int, list[bytes]] | None = None
        self.data = self._make_file(b"data", file_size)
        self.nodes = [self._make_file(name, SMALL_SIZE) for name in self.names]

    def _make_file(self, name: bytes, size: int) -> int:
        entry, opened = self.fs.create(self.directory, name)
        step = min(self.fs.max_write, MIB)
        for at in range(0, size, step):
            self.fs.write(entry.nodeid, opened.fh, at, os.urandom(min(step, size - at)))
        self.fs.flush(entry.nodeid, opened.fh)
        self.fs.release(entry.nodeid, opened.fh)
        return entry.nodeid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases, removes and forgets all of it."""
        for fh in self._handles.values():
            self.fs.release(self.data, fh)
        self._handles.clear()
        for fh in self._listings:
            self.fs.releasedir(self.directory, fh)
        self._listings.clear()
        if self._cold is not None:
            node, names = self._cold
            # As a guest does: virtiofsd removes no name that it does not know.
            known = [self.fs.lookup(node, name).nodeid for name in names]
            for name in names:
                self.fs.unlink(node, name)
            self.fs.rmdir(self.directory, b"cold")
            self._forget([*known, node])
        for name in (b"data", *self.names):
            self.fs.unlink(self.directory, name)
        self.fs.rmdir(self.parent, self.name)
        self._forget([self.data, *self.nodes, self.directory])

    def _forget(self, nodes: list[int]) -> None:
        for at in range(0, len(nodes), FORGOTTEN):
            self.fs.batch_forget([(node, 1) for node in nodes[at : at + FORGOTTEN]])

    def handle(self, flags: int = os.O_RDWR) -> int:
        """A handle of the data file, opened with these flags and kept."""
        if flags not in self._handles:
            self._handles[flags] = self.fs.open(self.data, flags).fh
        return self._handles[flags]

    def cold(self) -> tuple[int, list[bytes]]:
        """A directory, and files in it that the daemon does not know; made once."""
        if self._cold is None:
            node = self.fs.mkdir(self.directory, b"cold").nodeid
            names = [b"cold-%05d" % index for index in range(COLD)]
            made = [self.fs.mknod(node, name, stat.S_IFREG | 0o644).nodeid for name in names]
            self._forget(made)
            self._cold = node, names
        return self._cold

    def run(
        self,
        workload: Workload,
        *,
        direct: bool = False,
        cold: bool = False,
        queue: int = 1,
        **how: Any,
    ) -> BenchResult:
        """Runs a workload on this directory's files.

        Args:
            workload: What.
            direct: Open the data file with O_DIRECT.
            cold: Look up names that the daemon does not know, each once; forget them after that.
            queue: The request queue.
            **how: depth, size, seconds, ops, mode, seg_size, random, seed, forget: see `run_job`.
        """
        given: dict[str, Any] = {"pid": self.pid, "queue": queue, **how}
        if not (given.get("seconds") or given.get("ops")):
            given["seconds"] = 1.0
        if workload in {"read", "write", "mixed"}:
            flags = os.O_RDWR | (os.O_DIRECT if direct else 0)
            given.update(nodeid=self.data, fh=self.handle(flags), file_size=self.file_size)
        elif workload == "readdirplus":
            # A handle each, as separate readers have: a shared one would seek for every request.
            while len(self._listings) < given.get("depth", 32):
                self._listings.append(self.fs.opendir(self.directory).fh)
            given.update(nodeid=self.directory, nodes=self._listings)
        else:
            given["nodeid"] = self.directory
        given.setdefault("nodes", self.nodes)
        given["names"] = self.names
        if cold:
            given["nodeid"], given["names"] = self.cold()
            given.update(seconds=0.0, ops=COLD)
        return run_job(self.vmm, workload, **given)
