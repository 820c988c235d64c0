# SPDX-License-Identifier: Apache-2.0
"""The report's plots: one bar a case, ovfs as a multiple of the first peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.contest import OVFS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.contest import Comparison

PLOTS = {"cpu_us": "CPU time per operation, lower is better", "ops_per_s": "operations a second"}


def draw(comparisons: Sequence[Comparison], place: str, directory: Path) -> list[str]:
    """Writes an SVG for each figure; returns their names."""
    # Not before it is needed: it puts a hook into Python's imports that later ones warn of.
    import pygal  # noqa: PLC0415

    names = []
    shown = [(one, peer) for one in comparisons if (peer := one.peer) and one.place == place]
    for figure, title in PLOTS.items():
        if not shown:
            break
        chart = pygal.HorizontalBar(
            title=f"{place}: {title}, as a multiple of {shown[0][1]}'s",
            show_legend=False,
            print_values=True,
            value_formatter="{:.2f}".format,
            height=60 + 30 * len(shown),
            disable_xml_declaration=True,
            js=(),
        )
        chart.x_labels = [one.case.name for one, _ in reversed(shown)]
        chart.add(OVFS, [one.ratio(peer, figure) for one, peer in reversed(shown)])
        name = f"local-{place}-{figure.partition('_')[0]}.svg"
        chart.render_to_file(str(directory / name))
        names.append(name)
    return names
