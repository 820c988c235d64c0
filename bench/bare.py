# SPDX-License-Identifier: Apache-2.0
"""The limit: the work of a case without virtio.

The system call of a case by itself, in a loop (bare.c); for O_DIRECT, fio with io_uring.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.program import build
from tests.vmm.bench import MIB, BenchResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.cases import Case

BARE: Final = "bare host"
CALLS: Final = {"read": "pread", "write": "pwrite", "getattr": "statx", "open_release": "open"}
FILE_SIZE: Final = 64 * MIB


class Bare:
    """A file of its own beside those of the daemons.

    Args:
        root: Where it is made; whoever removes that removes it.
        prefix: A command that starts the work: taskset.
    """

    def __init__(self, root: str, prefix: Sequence[str]) -> None:
        self._file = Path(root, "bare")
        self._prefix = prefix
        with self._file.open("wb") as file:
            for _ in range(FILE_SIZE // MIB):
                file.write(os.urandom(MIB))

    def run(self, case: Case, seconds: float) -> BenchResult | None:
        """Does the case's work; there is no latency in the result. None: fio is missing."""
        if not case.direct:
            return self._loop(case, seconds)
        return self._fio(case, seconds) if shutil.which("fio") else None

    def _call(self, *words: object) -> str:
        command = [*self._prefix, *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _loop(self, case: Case, seconds: float) -> BenchResult:
        call = CALLS[case.workload]
        order = int(case.random)
        line = self._call(build("bare"), call, self._file, FILE_SIZE, case.size, order, seconds)
        calls, elapsed_ns, cpu_ns = map(int, line.split())
        return _result(case, calls, elapsed_ns, cpu_ns)

    def _fio(self, case: Case, seconds: float) -> BenchResult:
        outcome: dict[str, Any] = json.loads(
            self._call(
                "fio",
                "--name=bare",
                f"--filename={self._file}",
                f"--size={FILE_SIZE}",
                f"--rw={'rand' if case.random else ''}{case.workload}",
                f"--bs={case.size}",
                f"--iodepth={case.depth}",
                f"--runtime={seconds * 1000:.0f}ms",
                *("--time_based", "--ioengine=io_uring", "--direct=1", "--thread"),
                "--output-format=json",
            )
        )["jobs"][0]
        done = outcome[case.workload]
        elapsed_ns = done["runtime"] * 1_000_000
        cpu_ns = (outcome["usr_cpu"] + outcome["sys_cpu"]) / 100 * elapsed_ns
        return _result(case, done["total_ios"], elapsed_ns, round(cpu_ns))


def _result(case: Case, ops: int, elapsed_ns: int, cpu_ns: int) -> BenchResult:
    kept = {"workload", "depth", "size", "ops", "requests", "elapsed_ns", "daemon_cpu_ns"}
    rest = {name: 0 for name in BenchResult.__dataclass_fields__ if name not in kept}
    return BenchResult(
        workload=case.workload,
        depth=case.depth,
        size=case.size,
        ops=ops,
        requests=ops,
        elapsed_ns=elapsed_ns,
        daemon_cpu_ns=cpu_ns,
        **rest,
    )
