# SPDX-License-Identifier: Apache-2.0
"""One case at one distance: everybody in turns, so that what the machine does meets them alike.

A figure is the median over the rounds; a ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.memory import populate
from bench.remote.files import check

if TYPE_CHECKING:
    from bench.remote.cases import Case, Limit, Scale
    from bench.remote.files import Contender
    from bench.remote.place import Place


@dataclass(frozen=True)
class Run:
    """What one run took.

    Attributes:
        seconds: Until a program would go on.
        stored: Until the service has it, where that is later; else the same.
        cpu: CPU seconds of the contender until then.
        fetched: Bytes from the service, where they are counted.
    """

    seconds: float
    stored: float
    cpu: float
    fetched: int | None


def run(case: Case, contender: Contender, place: Place, scale: Scale) -> Run:
    """Runs a case once, with everything fresh."""
    expected = case.stored(scale) if case.stored else None
    where = place if expected is None else place.fresh()
    with contender.open(where) as files:
        populate()
        fetched, cpu = where.fetched(), files.cpu_ns()
        began = time.perf_counter()
        case.run(files, scale)
        seconds = stored = time.perf_counter() - began
        if expected is not None and not where.is_stored(expected):
            check(not contender.durable, f"{contender.name}: closed, and not in the bucket")
            where.wait_stored(expected)
            stored = time.perf_counter() - began
        used = (files.cpu_ns() - cpu) / 1e9
        passed = where.fetched()
    if expected is not None:
        where.bucket.clear()
    got = passed - fetched if passed is not None and fetched is not None else None
    return Run(seconds, stored, used, got)


@dataclass
class Trial:
    """The runs of one case at one distance, by contender, round for round."""

    case: Case
    way: str
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def add(self, name: str, result: Run) -> None:
        """Notes a run."""
        self.runs.setdefault(name, []).append(result)

    def median(self, name: str, figure: str) -> float | None:
        """The median of a contender's figure, where there is one."""
        values = [getattr(run, figure) for run in self.runs.get(name, [])]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    def ratio(self, us: str, peer: str, figure: str = "seconds") -> float | None:
        """Our figure as a multiple of the peer's, round against round."""
        pairs = zip(self.runs.get(us, []), self.runs.get(peer, []), strict=False)
        ratios = [getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in pairs]
        return statistics.median(ratios) if ratios else None

    def judge(self, limit: Limit, tolerance: float = 1.0) -> tuple[str, bool] | None:
        """A promise in words, and whether it was kept; None where it says nothing of this."""
        if limit.way != self.way:
            return None
        us = limit.us.name
        if limit.peer is None:
            value, than = self.median(us, "seconds"), "s"
        else:
            value, than = self.ratio(us, limit.peer.name), f"times {limit.peer.name}"
        if value is None:
            return None
        words = f"{self.case.name}, {self.way}: {us} takes {value:.2f} {than}"
        return f"{words}, promised at most {limit.most:.2f}", value <= limit.most * tolerance

    def as_json(self) -> dict[str, Any]:
        """All of it, for the record."""
        runs = {name: [asdict(run) for run in runs] for name, runs in self.runs.items()}
        return {"way": self.way, "runs": runs}
