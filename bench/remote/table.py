# SPDX-License-Identifier: Apache-2.0
"""The Markdown report: everybody's figures beside each other, and what became of each promise."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from bench.remote.cases import BACKGROUND, FULL, OVFS, Scale
from bench.remote.files import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from bench.remote.trial import Trial

LEGEND: Final = """\
SeaweedFS on loopback is the service, direct and through a proxy that adds a round trip of 10 ms
(opening a connection costs none). Medians of {rounds} rounds in turns, everything fresh for each:
mounts, caches, connections. Seconds until a program would go on; until the service has it, where
that is later; CPU seconds of the contender's process; MiB that came from the service. A ratio is
ovfs' time as a multiple of the peer's, the median of the rounds' ratios; who stores later is
compared with ovfs in the background, or else by when it is stored. s3fs and rclone are
mounted on this host and used through its kernel, ovfs by the fake VMM that sends what a guest's
kernel would, OpenDAL by its Python binding, without a file system. The machine has {cpus} CPUs, on
which the service, the proxy and the contenders all run.
"""
QUICK_LEGEND: Final = """\
A quick run: {large} MiB in place of the 256, {reads} random reads, {small} small files, {listed}
objects listed. Promises are not judged.
"""
WAYS: Final = ("direct", "10 ms")
OURS: Final = (OVFS.name, BACKGROUND.name)


@dataclass
class RemoteReport:
    """Gathers results until the session ends.

    Attributes:
        rounds: Of each.
        scale: How much of everything there is.
        trials: Of cases.
        lines: Other results, by heading.
        missing: Peers that this machine does not have, and what they lack.
    """

    rounds: int
    scale: Scale
    trials: list[Trial] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def is_quick(self) -> bool:
        """Whether the run was too small for promises to mean anything."""
        return self.scale != FULL

    def add(self, heading: str, line: str) -> None:
        """Adds a line under a heading."""
        self.lines.setdefault(heading, []).append(line)

    def markdown(self) -> str:
        """The whole report."""
        legend = LEGEND.format(rounds=self.rounds, cpus=os.cpu_count())
        kernel = f"Linux {platform.release()}, {platform.machine()}."
        parts = [f"# Benchmarks of the remote backend\n\n{kernel}\n\n{legend}"]
        if self.is_quick:
            quick = asdict(self.scale) | {"large": self.scale.large // MIB}
            parts.append(QUICK_LEGEND.format(**quick))
        parts += [f"Missing here: {name} ({why})." for name, why in self.missing.items()]
        if self.trials:
            parts.append("\n".join(self._table()))
        promises = self._promises()
        if promises and not self.is_quick:
            parts.append("## Promises\n\n" + "\n".join(promises))
        parts += [
            f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines)
            for heading, lines in self.lines.items()
        ]
        return "\n\n".join(part.strip() for part in parts) + "\n"

    def write(self, path: Path) -> bool:
        """Writes it; False if there is nothing to write."""
        if not (self.trials or self.lines):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown(), encoding="utf-8")
        return True

    def _table(self) -> list[str]:
        columns = [f"{way}: {what}" for way in WAYS for what in ("s", "ratio", "CPU s")]
        titles = ["", "", *columns, "MiB fetched"]
        rows = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        for name in dict.fromkeys(trial.case.name for trial in self.trials):
            trials = {trial.way: trial for trial in self.trials if trial.case.name == name}
            rows.extend(_rows(name, trials))
        return rows

    def _promises(self) -> list[str]:
        judged = [
            verdict
            for trial in self.trials
            for limit in trial.case.limits
            if (verdict := trial.judge(limit)) is not None
        ]
        return [f"- {'kept' if kept else '**missed**'}: {words}" for words, kept in judged]


def _rows(case: str, trials: dict[str, Trial]) -> list[str]:
    """Ours first, then the peers."""
    contenders = next(iter(trials.values())).case.contenders
    names = [one.name for one in contenders if any(one.name in t.runs for t in trials.values())]
    ours = [name for name in OURS if name in names]
    rows: list[str] = []
    for name in (*ours, *(name for name in names if name not in ours)):
        cells = [case if not rows else "", name]
        for way in WAYS:
            cells += _cells(trials.get(way), name)
        fetched = trials["10 ms"].median(name, "fetched") if "10 ms" in trials else None
        cells.append("" if fetched is None else _number(fetched / MIB))
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _cells(trial: Trial | None, name: str) -> list[str]:
    """Seconds, ratio, CPU seconds."""
    if trial is None or name not in trial.runs:
        return ["", "", ""]
    seconds, stored = trial.median(name, "seconds"), trial.median(name, "stored")
    assert seconds is not None
    assert stored is not None
    text = _number(seconds)
    if stored > seconds:
        text += f" (stored {_number(stored)})"
    # Who stores later is compared with ours that does so too; without one, once it is stored.
    later = stored > seconds
    us = BACKGROUND.name if later and BACKGROUND.name in trial.runs else OVFS.name
    figure = "stored" if later and us == OVFS.name else "seconds"
    ratio = trial.ratio(us, name, figure) if name not in OURS else None
    cpu = trial.median(name, "cpu")
    return [text, "" if ratio is None else f"{ratio:.2f}", _number(cpu or 0.0)]


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
