# SPDX-License-Identifier: Apache-2.0
"""Sub-commands, told by the first word: what waits in a cache directory, and waiting for it.

A socket of that name is still to be had, as ``./status``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ovfs.config import default_cache_dir
from ovfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_TIMEOUT = 1e9


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def run_command(arguments: Sequence[str]) -> int | None:
    """Run a sub-command and return its exit code; None: the arguments are not for one.

    Raises:
        UsageError: they are, but make no sense.
    """
    if not arguments or arguments[0] not in {"status", "drain"}:
        return None
    if arguments[0] == "status":
        options = _status_parser().parse_args(arguments[1:])
        from ovfs.status import status  # noqa: PLC0415 (a daemon has no use for it)

        return status(options.cache_dir, options.json)
    options = _drain_parser().parse_args(arguments[1:])
    from ovfs.status import drain  # noqa: PLC0415

    return drain(options.cache_dir, options.timeout)


def _status_parser() -> argparse.ArgumentParser:
    parser = _command_parser("status", "Shows what a cache directory holds and what is not stored.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _drain_parser() -> argparse.ArgumentParser:
    parser = _command_parser(
        "drain", "Waits until everything in a cache directory is stored on its service."
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="how long (default: as it takes)"
    )
    return parser


def _command_parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"ovfs {name}", description=description, allow_abbrev=False)
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=default_cache_dir(),
        metavar="DIR",
        help="the cache directory (default: %(default)s)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value
