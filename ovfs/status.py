# SPDX-License-Identifier: Apache-2.0
"""``ovfs status`` and ``ovfs drain``: what the daemons on a cache directory have still to store.

The journal tells it whoever lives; the daemons' sockets add what is under way without being in the
journal. Nothing is changed here, so that looking is always safe.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ovfs.errors import UsageError
from ovfs.remote.control import QueueItem, ask
from ovfs.remote.journal import all_entries
from ovfs.remote.layout import Layout, parse_segment
from ovfs.remote.presence import living

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ovfs.remote.presence import DaemonInfo

_POLL = 0.2  # seconds between looks while draining
_HURRY = 5.0  # seconds between urgings, so that what failed since is tried again soon
_MAX_NAMED = 20  # entries that an error names


@dataclass(frozen=True, slots=True)
class _Upload:
    """Something not stored yet, and who is to store it."""

    item: QueueItem
    identity: str
    daemon: DaemonInfo | None  # None: no living daemon has it or would take it over

    def text(self) -> str:
        """Return a line for the user."""
        age = max(0.0, time.time() - self.item.created_ns / 1e9)
        parts = [f"{_printable(self.item.key)}: {_amount(self.item.size)}", f"waits {_span(age)}"]
        if self.item.attempts:
            parts.append(f"{self.item.attempts} attempts")
        if self.item.last_error:
            parts.append(f"last: {_printable(self.item.last_error)}")
        if self.daemon is None:
            parts.append(f"no daemon serves {_printable(self.identity)}")
        return ", ".join(parts)


def status(cache_dir: Path, as_json: bool = False) -> int:
    """Print the daemons on a cache directory, what the cache takes, and the uploads that wait.

    Raises:
        UsageError: there is no such cache directory.
    """
    layout = _layout(cache_dir)
    daemons = living(layout)
    uploads, silent = _uploads(layout, daemons, "status")
    use = _use(layout)
    if as_json:
        print(json.dumps(_as_json(daemons, uploads, use)))
        return 0
    print(f"{len(daemons)} daemons on {cache_dir}")
    for daemon in daemons:
        age = time.time() - daemon.started_ns / 1e9
        size = _amount(daemon.cache_size)
        identity = _printable(daemon.identity)
        note = ", does not answer" if daemon in silent else ""
        print(f"  process {daemon.pid}: {identity}, for {_span(age)}, cache size {size}{note}")
    print(f"cache: {_amount(use['segments_bytes'])} in {use['segments']} segments,")
    print(f"  {_amount(use['writes_bytes'])} being written, {use['conflicts']} files in conflicts")
    print(f"uploads: {len(uploads)}, {_amount(sum(one.item.size for one in uploads))}")
    for upload in uploads:
        print(f"  {upload.text()}")
    return 0


def drain(cache_dir: Path, timeout: float | None) -> int:
    """Wait until all is stored, with no time-out as long as it takes; ask the daemons to hurry.

    Returns:
        0 when all is stored; 1 when the time is over, or nobody is there who would store the rest:
        what it is has been printed then.

    Raises:
        UsageError: there is no such cache directory.
    """
    layout = _layout(cache_dir)
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    hurried = float("-inf")
    while True:
        hurry = time.monotonic() - hurried >= _HURRY
        if hurry:
            hurried = time.monotonic()
        uploads, silent = _uploads(layout, living(layout), "drain" if hurry else "status")
        if not silent and not uploads:
            return 0
        if not silent and all(upload.daemon is None for upload in uploads):
            return _left(uploads, "nobody stores")
        if time.monotonic() >= deadline:
            for daemon in silent:
                print(f"process {daemon.pid} does not answer")
            return _left(uploads, "not stored in time")
        time.sleep(min(_POLL, max(0.0, deadline - time.monotonic())))


def _left(uploads: Sequence[_Upload], why: str) -> int:
    print(f"{why}: {len(uploads)} uploads, {_amount(sum(one.item.size for one in uploads))}")
    for upload in uploads[:_MAX_NAMED]:
        print(f"  {upload.text()}")
    if len(uploads) > _MAX_NAMED:
        print(f"  and {len(uploads) - _MAX_NAMED} more: see ovfs status")
    return 1


def _layout(cache_dir: Path) -> Layout:
    layout = Layout(cache_dir)
    if not layout.writes.is_dir() or not layout.daemons.is_dir():
        raise UsageError(f"{cache_dir} is no cache directory of ovfs: name the one of --cache-dir")
    return layout


def _uploads(
    layout: Layout, daemons: Sequence[DaemonInfo], operation: str
) -> tuple[list[_Upload], list[DaemonInfo]]:
    """Return what is not stored yet, the oldest first, and the daemons that do not answer."""
    # The daemons first: what one stores meanwhile is then missing from the journal, and what it
    # enters there is found.
    found: dict[str, _Upload] = {}
    silent: list[DaemonInfo] = []
    for daemon in daemons:
        queue = ask(layout, daemon.token, operation)
        if queue is None:
            silent.append(daemon)
        for item in queue or ():
            found[item.file_id] = _Upload(item, daemon.identity, daemon)
    tokens = {daemon.token: daemon for daemon in daemons}
    services = {daemon.identity: daemon for daemon in daemons}
    for entry in all_entries(layout):
        item = QueueItem(
            entry.file_id,
            entry.key,
            entry.size,
            entry.created_ns,
            entry.attempts,
            entry.last_error,
        )
        keeper = tokens.get(entry.owner) or services.get(entry.identity)
        found.setdefault(entry.file_id, _Upload(item, entry.identity, keeper))
    return sorted(found.values(), key=lambda upload: upload.item.created_ns), silent


def _use(layout: Layout) -> dict[str, int]:
    """Count what the cache directory holds, by allocated blocks."""
    use = {"segments": 0, "segments_bytes": 0, "writes_bytes": 0, "conflicts": 0}
    for path in layout.segments.glob("*/*"):
        if parse_segment(path.name):
            use["segments"] += 1
            use["segments_bytes"] += _blocks(path)
    use["writes_bytes"] = sum(_blocks(path) for path in layout.writes.iterdir())
    use["conflicts"] = sum(1 for path in layout.conflicts.iterdir() if path.name[0] != ".")
    return use


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _as_json(
    daemons: Sequence[DaemonInfo], uploads: Sequence[_Upload], use: dict[str, int]
) -> dict[str, Any]:
    return {
        "daemons": [asdict(daemon) for daemon in daemons],
        "cache": use,
        "uploads": [
            {
                **asdict(upload.item),
                "identity": upload.identity,
                "daemon": upload.daemon.token if upload.daemon else None,
            }
            for upload in uploads
        ],
    }


def _printable(text: str) -> str:
    """Return a text with what could break or repaint a terminal's line escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _amount(size: int) -> str:
    """Return a number of bytes as people read it."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _span(seconds: float) -> str:
    """Return a time as people read it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
