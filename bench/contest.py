# SPDX-License-Identifier: Apache-2.0
"""Daemons that take turns: what the machine does meanwhile meets them all alike.

    for each round:   peer, peer, ..., ovfs     a fraction of a second each

A figure is the median over the rounds; a ratio is the median of the ratios of each round, so that a
round that the machine disturbed spoils one ratio and not the result. Rates and latencies still
depend on what else runs; the daemon's CPU time per operation hardly does.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.bare import BARE, Bare
from tests.conftest import file_system_of
from tests.vmm.bench import Bench
from tests.vmm.daemon import Daemon
from tests.vmm.fuse_flags import ROOT_ID
from tests.vmm.machine import Vmm
from tests.vmm.procstat import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.cases import Case, Goal
    from tests.vmm.bench import BenchResult

OVFS: Final = "ovfs"
CPUS: Final = sorted(os.sched_getaffinity(0))
#: Driver and daemon each keep to a CPU, as a guest's busy vCPU and a daemon do. Left to themselves,
#: they share one now and then, at depth 1 above all, which makes two kinds of rounds.
PIN: Final = ("taskset", "-c", str(CPUS[-1]))
WARM_UP: Final = 0.05  # seconds
ATTACHING: Final = 0.3  # seconds from strace's word that it has attached until it has

#: The figures of a run that are kept, in the report's units.
FIGURES: Final[Mapping[str, Callable[[BenchResult], float]]] = {
    "cpu_us": lambda result: result.cpu_us_per_op or 0.0,
    "ops_per_s": lambda result: result.ops_per_s,
    "p50_us": lambda result: result.lat_p50_ns / 1e3,
    "p99_us": lambda result: result.lat_p99_ns / 1e3,
    "p999_us": lambda result: result.lat_p999_ns / 1e3,
    "interrupts": lambda result: result.interrupts / result.ops,
    "kicks": lambda result: result.kicks / result.ops,
}
FIGURE_NAMES: Final[Mapping[str, str]] = {
    "cpu_us": "CPU",
    "ops_per_s": "rate",
    "p50_us": "p50",
    "p99_us": "p99",
}


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a part of the median."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle if middle else 0.0


@dataclass(frozen=True)
class Verdict:
    """What became of a goal."""

    case: Case
    place: str
    goal: Goal
    other: str
    ratio: float

    def kept(self, tolerance: float = 1.0) -> bool:
        """Whether it is reached, or missed by no more than the tolerance."""
        if self.goal.at_least:
            return self.ratio * tolerance >= self.goal.limit
        return self.ratio <= self.goal.limit * tolerance

    def __str__(self) -> str:
        asked = "at least" if self.goal.at_least else "at most"
        return (
            f"{self.case.name}, {self.place}: {FIGURE_NAMES[self.goal.figure]} {self.ratio:.2f} "
            f"times the {self.other}'s, {asked} {self.goal.limit:.2f}"
        )


@dataclass
class Comparison:
    """The runs of one case on one file system, by daemon and figure, round for round."""

    case: Case
    place: str
    runs: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, result: BenchResult) -> None:
        """Notes a run."""
        kept = self.runs.setdefault(name, {figure: [] for figure in FIGURES})
        for figure, get in FIGURES.items():
            kept[figure].append(get(result))

    @property
    def peer(self) -> str | None:
        """The first of the other daemons, which ratios are of."""
        return next((name for name in self.runs if name not in {OVFS, BARE}), None)

    def median(self, name: str, figure: str) -> float:
        """The median of a daemon's figure."""
        return statistics.median(self.runs[name][figure])

    def ratio(self, name: str, figure: str) -> float:
        """The ovfs figure as a multiple of another daemon's, round against round."""
        pairs = zip(self.runs[OVFS][figure], self.runs[name][figure], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def best_ratio(self, name: str, figure: str) -> float:
        """The same of each one's best round: for rates, which others' load only ever lowers."""
        return max(self.runs[OVFS][figure]) / max(self.runs[name][figure])

    def verdict(self, goal: Goal, peer: str | None) -> Verdict | None:
        """What became of a goal; None where it is not for this file system, or nobody is there."""
        other = BARE if goal.bare else peer
        if other is None or other not in self.runs or goal.place not in {None, self.place}:
            return None
        ratio = self.best_ratio if goal.at_least else self.ratio
        return Verdict(self.case, self.place, goal, other, ratio(other, goal.figure))

    def as_json(self) -> dict[str, Any]:
        """All of it, for the record."""
        return {"place": self.place, "runs": self.runs, "calls_per_op": self.calls}


class Contestant:
    """A running daemon with a fake VMM on it and files to work on.

    Args:
        name: What the report calls it.
        command: Its template, as `Daemon.start` takes it; None: ovfs as it is checked out.
        options: Arguments behind it.
        root: The directory that it serves.
    """

    def __init__(
        self, name: str, command: Sequence[str] | None, options: Sequence[str], root: str
    ) -> None:
        self.name = name
        with contextlib.ExitStack() as stack:
            self.place = file_system_of(Path(root))
            self.daemon = stack.enter_context(
                Daemon.start(root, command=command, options=options, prefix=PIN)
            )
            vmm = stack.enter_context(Vmm.connect(self.daemon.socket))
            fs = vmm.fuse()
            fs.init()
            own = fs.mkdir(ROOT_ID, re.sub(r"\W", "-", name).encode())
            self.bench = stack.enter_context(Bench(vmm, self.daemon.pid, parent=own.nodeid))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Removes the files and ends the daemon."""
        self._stack.close()

    def run(self, case: Case, **how: Any) -> BenchResult:
        """Runs a case; how: `seconds` or `ops`."""
        return self.bench.run(
            case.workload,
            depth=case.depth,
            size=case.size,
            random=case.random,
            flags=case.flags,
            direct=case.direct,
            cold=case.cold,
            **how,
        )

    def calls_per_op(self, case: Case) -> float | None:
        """System calls of the daemon's threads, counted by strace in a run of their own.

        None where there is no strace, or the case wants none. Being slowed down by it, a daemon
        batches better than it does otherwise.
        """
        if not (case.traced and shutil.which("strace")):
            return None
        pids = tree(self.daemon.pid)
        command = ["strace", "-f", "-c", "-U", "calls,name"]
        command += [word for pid in pids for word in ("-p", str(pid))]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            for _ in pids:
                strace.stderr.readline()  # "strace: Process N attached with M threads"
            time.sleep(ATTACHING)
            self.run(case, ops=case.traced)
            strace.terminate()
            _, table = strace.communicate()
        total = re.search(r"^ *(\d+) total$", table, re.MULTILINE)
        return int(total[1]) / case.traced if total else None


class Field:
    """Those who compete on one file system; ovfs comes last in each round.

    They serve one directory and work in subdirectories of it, which a disk's file system puts close
    together: what it costs to make a file depends on the block group more than on the daemon.

    Args:
        peers: Name and command of the others; the first is the one that limits speak of.
        parent: Where the directory that they serve is made.
    """

    def __init__(self, peers: Mapping[str, Sequence[str]], parent: str) -> None:
        with contextlib.ExitStack() as stack:
            os.sched_setaffinity(0, CPUS[:1])
            stack.callback(os.sched_setaffinity, 0, CPUS)
            root = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=parent))
            self.bare = Bare(root, PIN)
            self.peers: list[Contestant] = []
            for name, command in peers.items():
                self.peers.append(Contestant(name, command, (), root))
                stack.callback(self.peers[-1].close)
            self.ovfs = Contestant(OVFS, None, ("--allow-direct-io",), root)
            stack.callback(self.ovfs.close)
            self._stack = stack.pop_all()

    @property
    def place(self) -> str:
        """The file system's type."""
        return self.ovfs.place

    @property
    def all(self) -> list[Contestant]:
        """Every daemon."""
        return [*self.peers, self.ovfs]

    def warm_up(self, case: Case) -> None:
        """A short run of each, whose figures do not count."""
        for contestant in self.all:
            contestant.run(case, seconds=WARM_UP)

    def close(self) -> None:
        """Ends all of them."""
        self._stack.close()
