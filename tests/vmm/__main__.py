# SPDX-License-Identifier: Apache-2.0
"""Compares daemons by hand: `python -m tests.vmm DIRECTORY read getattr --against virtiofsd`.

Each round runs every daemon in turn, so that what the machine does meanwhile meets them all alike.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import get_args

from tests.vmm.bench import Bench, Workload
from tests.vmm.daemon import VIRTIOFSD, Daemon, default_command
from tests.vmm.machine import Vmm


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    names = get_args(Workload)
    parser = argparse.ArgumentParser(prog="python -m tests.vmm", description=__doc__)
    parser.add_argument("directory", help="an existing directory that the daemons serve")
    parser.add_argument("workload", nargs="*", help=", ".join(names), default=[])
    parser.add_argument("--against", metavar="COMMAND", help="a second daemon, or 'virtiofsd'")
    parser.add_argument("--only-against", action="store_true", help="leave the first daemon out")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mode", default="auto", choices=["auto", "poll", "quiet", "sleep"])
    parser.add_argument("--direct", action="store_true", help="open with O_DIRECT")
    parser.add_argument("--option", action="append", default=[], help="for every daemon")
    args = parser.parse_args(argv)
    unknown = set(args.workload) - set(names)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    args.workload = args.workload or list(names)
    if args.only_against and not args.against:
        parser.error("--only-against needs --against")
    return args


def main(argv: list[str]) -> int:
    """Runs what is asked for and prints a line for each run."""
    args = parse(argv)
    commands = [] if args.only_against else [("first", default_command())]
    if args.against == "virtiofsd":
        commands.append(("virtiofsd", VIRTIOFSD))
    elif args.against:
        commands.append(("second", tuple(shlex.split(args.against))))
    for _ in range(args.rounds):
        for label, command in commands:
            with (
                Daemon.start(args.directory, command=command, options=args.option) as daemon,
                Vmm.connect(daemon.socket) as vmm,
            ):
                vmm.fuse().init()
                with Bench(vmm, daemon.pid) as bench:
                    for workload in args.workload:
                        result = bench.run(
                            workload,
                            depth=args.depth,
                            size=args.size,
                            seconds=args.seconds,
                            mode=args.mode,
                            direct=args.direct,
                        )
                        sys.stdout.write(f"{label:10} {result}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
