# SPDX-License-Identifier: Apache-2.0
"""The Markdown report: one table for each file system, and the lines that other benches add."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from bench.bare import BARE
from bench.contest import OVFS, spread
from bench.plot import draw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.contest import Comparison, Verdict

LATENCIES = ("p50_us", "p99_us", "p999_us")
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
        machine: What it was measured on.
        comparisons: Of daemons.
        others: Of daemons too, at other sizes and depths.
        verdicts: What became of the goals.
        lines: Other results, by heading.
    """

    rounds: int
    seconds: float
    machine: dict[str, str]
    comparisons: list[Comparison] = field(default_factory=list)
    others: list[Comparison] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, heading: str, line: str) -> None:
        """Adds a line under a heading."""
        self.lines.setdefault(heading, []).append(line)

    def _table(self, place: str) -> list[str]:
        heads = "| | daemon | CPU µs | ratio | op/s | ratio | p50 µs | p99 µs | p99.9 µs "
        rows = [heads + "| interrupts | calls |", "|---" * 11 + "|"]
        for comparison in self.comparisons:
            if comparison.place == place:
                rows.extend(_rows(comparison))
        return rows

    def _other_table(self, place: str) -> list[str]:
        """A line for each: ovfs' figures, and what they are as multiples of the first peer's."""
        heads = [
            *(f"{head} | ratio" for head in ("CPU µs", "op/s", "p50 µs", "p99 µs", "p99.9 µs"))
        ]
        rows = ["| | " + " | ".join(heads) + " |", "|---" * (1 + 2 * len(heads)) + "|"]
        for comparison in self.others:
            if comparison.place != place:
                continue
            peer = comparison.peer
            cells = [comparison.case.name]
            for figure in ("cpu_us", "ops_per_s", *LATENCIES):
                cells.append(_number(comparison.median(OVFS, figure)))
                cells.append(f"{comparison.ratio(peer, figure):.2f}" if peer else "")
            rows.append("| " + " | ".join(cells) + " |")
        return rows

    def _goals(self) -> str:
        lines = []
        for verdict in self.verdicts:
            word = "kept" if verdict.kept() else "**missed**"
            lines.append(f"- {word}: {verdict}")
        return "## Goals\n\n" + "\n".join(lines)

    def markdown(self, plots: Mapping[str, Sequence[str]] | None = None) -> str:
        """The whole report; plots: file names by file system."""
        machine = "\n".join(f"- {what}: {value}" for what, value in self.machine.items())
        legend = LEGEND.format(rounds=self.rounds, seconds=self.seconds, cpus=os.cpu_count())
        parts = [f"# Benchmarks\n\n{machine}\n\n{legend}"]
        for place in self._places():
            parts.append(f"## A local directory on {place}\n\n" + "\n".join(self._table(place)))
            parts += [f"![{name}]({name})" for name in (plots or {}).get(place, ())]
        for place in dict.fromkeys(comparison.place for comparison in self.others):
            heading = f"## Other sizes and depths, on {place}\n\n"
            parts.append(heading + "\n".join(self._other_table(place)))
        if self.verdicts:
            parts.append(self._goals())
        parts += [
            f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines)
            for heading, lines in self.lines.items()
        ]
        return "\n\n".join(part.strip() for part in parts) + "\n"

    def _places(self) -> list[str]:
        return list(dict.fromkeys(comparison.place for comparison in self.comparisons))

    def _json(self) -> str:
        """The raw samples, round for round, with all that is needed to read them."""
        record = {
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "cases": [
                {"case": asdict(one.case), **one.as_json()}
                for one in (*self.comparisons, *self.others)
            ],
            "verdicts": [
                {"text": str(one), "ratio": one.ratio, "kept": one.kept()} for one in self.verdicts
            ],
            "lines": self.lines,
        }
        return json.dumps(record, indent=1) + "\n"

    def write(self, path: Path) -> bool:
        """Writes it, with its plots and raw samples; False if there is nothing to write."""
        if not (self.comparisons or self.lines):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        plots = {place: draw(self.comparisons, place, path.parent) for place in self._places()}
        path.write_text(self.markdown(plots), encoding="utf-8")
        path.with_suffix(".json").write_text(self._json(), encoding="utf-8")
        return True


def _rows(comparison: Comparison) -> list[str]:
    """Ovfs first, then its peers, then the limit."""
    rows = []
    peers = [name for name in comparison.runs if name not in {OVFS, BARE}]
    for name in (OVFS, *peers, *comparison.runs.keys() & {BARE}):
        cells = [comparison.case.name if name == OVFS else "", name]
        for figure in ("cpu_us", "ops_per_s"):
            value = _number(comparison.median(name, figure))
            cells.append(f"{value} ±{spread(comparison.runs[name][figure]):.0%}")
            ratio = comparison.ratio(peers[0], figure) if name == OVFS and peers else None
            cells.append("" if ratio is None else f"{ratio:.2f}")
        if name == BARE:
            cells += [""] * 5
        else:
            cells += [_number(comparison.median(name, figure)) for figure in LATENCIES]
            cells.append(f"{comparison.median(name, 'interrupts'):.2f}")
            cells.append(f"{comparison.calls[name]:.2f}" if name in comparison.calls else "-")
        rows.append("| " + " | ".join(cells) + " |")
    return rows
