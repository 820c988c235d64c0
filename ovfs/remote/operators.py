# SPDX-License-Identifier: Apache-2.0
"""OpenDAL's operators over one service: the same store behind different deadlines and retries.

An attempt has a deadline (TimeoutLayer), a call a number of attempts with growing pauses
(RetryLayer), and the whole of it a last deadline that the caller sets (``service.py``):

========  ===========  ==================================  =======================================
operator  per attempt  attempts                            for
========  ===========  ==================================  =======================================
start     4 s          4, within 3 s where each fails at   the checks before anybody is served:
                       once                                a mistyped endpoint is told in 10 s
control   10 s         9, within 36 s where each fails     stat, list, delete, copy, rename
                       at once
data      30 s         as control                          reads, and objects written by one call
upload    60 s         as control                          the parts of a stream: 8 of 8 MiB that
                                                           share a line of 9 Mbit/s take that long
========  ===========  ==================================  =======================================

A server that refuses connections is thus waited for about 36 s, long enough for it to restart; one
that says nothing ends with the last deadline. Between attempts the pauses double from 0.25 s to
10 s, with jitter, so that many clients do not come back in step (429 and 503 ask for that).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opendal import AsyncOperator

    from ovfs.config import RemoteBackend


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take, in seconds."""

    answer: float  # each attempt at a control call
    data: float  # each attempt at one that carries bytes
    retries: int
    pause: float  # before the first retry; doubles up to max_pause
    max_pause: float


START = Patience(answer=4.0, data=4.0, retries=3, pause=0.2, max_pause=1.0)
CONTROL = Patience(answer=10.0, data=10.0, retries=8, pause=0.25, max_pause=10.0)
DATA = Patience(answer=10.0, data=30.0, retries=8, pause=0.25, max_pause=10.0)
UPLOAD = Patience(answer=60.0, data=60.0, retries=8, pause=0.25, max_pause=10.0)


@dataclass(frozen=True, slots=True)
class Operators:
    """One service, reached in four tempers."""

    start: AsyncOperator
    control: AsyncOperator
    data: AsyncOperator
    upload: AsyncOperator


def build(backend: RemoteBackend) -> Operators:
    """Return operators over the service; nothing is sent yet.

    OpenDAL's own exceptions pass: ``ConfigInvalid`` above all.
    """
    # Where RUST_BACKTRACE is set, each unexpected failure would carry a stack of the library's,
    # resolved at a cost of 80 ms; Rust reads this once.
    os.environ.setdefault("RUST_LIB_BACKTRACE", "0")
    import opendal  # noqa: PLC0415 (not where only fs:// is served: 40 MB, and never before a fork)
    from opendal.layers import RetryLayer, TimeoutLayer  # noqa: PLC0415

    parameters = dict(backend.parameters)
    if backend.scheme == "s3":
        parameters.setdefault("region", default_region())
    base = opendal.AsyncOperator(backend.scheme, **parameters)

    def patient(patience: Patience) -> opendal.AsyncOperator:
        deadline = TimeoutLayer(timeout=patience.answer, io_timeout=patience.data)
        retry = RetryLayer(
            max_times=patience.retries,
            factor=2.0,
            jitter=True,
            min_delay=patience.pause,
            max_delay=patience.max_pause,
        )
        return base.layer(deadline).layer(retry)

    return Operators(patient(START), patient(CONTROL), patient(DATA), patient(UPLOAD))


def default_region() -> str:
    """Return the region to sign for: servers other than AWS's take any, and expect this one."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
