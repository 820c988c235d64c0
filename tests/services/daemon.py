# SPDX-License-Identifier: Apache-2.0
"""The daemon for real guests (tests/guest), on a storage service in place of a directory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.guest.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ServiceDaemon(Daemon):
    """A daemon on a backend URL, which it reads from a file: nobody sees it in `ps`.

    Args:
        url: The backend, credentials included.
        scratch: A directory for its socket, its cache, its log and that file.
        options: More options of `ovfs`.
    """

    def __init__(self, url: str, scratch: Path, options: Sequence[str] = ()) -> None:
        super().__init__(scratch, scratch, options)
        self.cache = scratch / "cache"
        self._file = scratch / "backend"
        self._file.touch(mode=0o600)
        self._file.write_text(url)

    def command_line(self) -> list[str]:
        """The command that starts it."""
        backend = ["--backend-file", str(self._file), "--cache-dir", str(self.cache)]
        return [sys.executable, "-m", "ovfs", *backend, *self._options, str(self.socket)]
