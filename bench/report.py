# SPDX-License-Identifier: Apache-2.0
"""The Markdown report: one table for each file system, and the lines that other benches add."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.contest import OVFS, spread

if TYPE_CHECKING:
    from pathlib import Path

    from bench.contest import Comparison

LEGEND = """\
Medians of {rounds} alternating rounds of {seconds} s; ± is half the distance between the quartiles.
CPU is the daemon's, all threads, in µs per operation; a ratio is ovfs' figure as a multiple of the
first peer's, median of the rounds' ratios. Interrupts are signals of the call eventfd, calls are
system calls (strace, in a run of its own), both per operation. The fake VMM's driver has the first
of this machine's {cpus} CPUs and the daemons have the last; what else ran there is in rates and
latencies, and hardly in CPU times.
"""


def _number(value: float) -> str:
    if value >= 10000:
        return f"{value / 1000:.0f}k"
    if value >= 1000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


@dataclass
class Report:
    """Gathers results until the session ends.

    Attributes:
        comparisons: Of daemons.
        lines: Other results, by heading.
    """

    rounds: int
    seconds: float
    comparisons: list[Comparison] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, heading: str, line: str) -> None:
        """Adds a line under a heading."""
        self.lines.setdefault(heading, []).append(line)

    def _table(self, place: str) -> list[str]:
        rows = [
            "| | daemon | CPU µs | ratio | op/s | ratio | p50 µs | p99 µs | interrupts | calls |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for comparison in self.comparisons:
            if comparison.place == place:
                rows.extend(_rows(comparison))
        return rows

    def markdown(self) -> str:
        """The whole report."""
        legend = LEGEND.format(rounds=self.rounds, seconds=self.seconds, cpus=os.cpu_count())
        parts = [f"# Benchmarks\n\nLinux {platform.release()}, {platform.machine()}.\n\n{legend}"]
        parts += [
            f"## A local directory on {place}\n\n" + "\n".join(self._table(place))
            for place in dict.fromkeys(comparison.place for comparison in self.comparisons)
        ]
        parts += [
            f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines)
            for heading, lines in self.lines.items()
        ]
        return "\n\n".join(part.strip() for part in parts) + "\n"

    def write(self, path: Path) -> bool:
        """Writes it; False if there is nothing to write."""
        if not (self.comparisons or self.lines):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown(), encoding="utf-8")
        return True


def _rows(comparison: Comparison) -> list[str]:
    """Ovfs first, then its peers."""
    rows = []
    peers = [name for name in comparison.runs if name != OVFS]
    for name in (OVFS, *peers):
        cells = [comparison.case.name if name == OVFS else "", name]
        for figure in ("cpu_us", "ops_per_s"):
            value = _number(comparison.median(name, figure))
            cells.append(f"{value} ±{spread(comparison.runs[name][figure]):.0%}")
            ratio = comparison.ratio(peers[0], figure) if name == OVFS and peers else None
            cells.append("" if ratio is None else f"{ratio:.2f}")
        cells += [_number(comparison.median(name, figure)) for figure in ("p50_us", "p99_us")]
        cells.append(f"{comparison.median(name, 'interrupts'):.2f}")
        cells.append(f"{comparison.calls[name]:.2f}" if name in comparison.calls else "-")
        rows.append("| " + " | ".join(cells) + " |")
    return rows
