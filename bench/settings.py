# SPDX-License-Identifier: Apache-2.0
"""How long, against whom, and where the results go."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.vmm.daemon import VIRTIOFSD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report import Report

#: QEMU's daemon in C, as it comes but for one thing: O_DIRECT reaches the host, as it does in ovfs.
DEFAULT_PEERS: Final = {"virtiofsd (C)": (*VIRTIOFSD, "-o", "allow_direct_io")}


@dataclass(frozen=True)
class Settings:
    """What the command line asks for.

    Attributes:
        peers: Name and command template of each daemon that ovfs is compared with.
        rounds: Of each daemon, for each case.
        seconds: Of one round.
        is_quick: To see that all of it runs: no system calls are counted, nothing is judged.
        report: Takes the results.
    """

    peers: dict[str, tuple[str, ...]]
    rounds: int
    seconds: float
    is_quick: bool
    report: Report


def parse_peers(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Takes NAME=COMMAND apart; without any, the default ones that this machine has.

    Raises:
        ValueError: It is not of that form.
    """
    if not texts:
        return {
            name: words for name, words in DEFAULT_PEERS.items() if os.access(words[0], os.X_OK)
        }
    peers = {}
    for text in texts:
        name, _, command = text.partition("=")
        words = tuple(shlex.split(command))
        if not (name and "{socket}" in command and "{dir}" in command):
            raise ValueError(f"{text!r} is not NAME=COMMAND with {{socket}} and {{dir}} in it")
        peers[name] = words
    return peers
