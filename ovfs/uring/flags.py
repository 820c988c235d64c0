# SPDX-License-Identifier: Apache-2.0
"""Flags of a ring and of a single operation, with the kernel's values."""

from enum import IntFlag


class SetupFlags(IntFlag):
    """What to ask of the kernel for a ring; what it does not know is dropped, newest first."""

    NONE = 0
    #: 5.18: an operation that fails at once does not end the submission of those behind it.
    SUBMIT_ALL = 1 << 7
    #: 5.19: completion work waits for our next system call and does not interrupt the thread.
    COOP_TASKRUN = 1 << 8
    #: 5.19: a bit in shared memory tells that such work waits, so that reaping need not guess.
    TASKRUN_FLAG = 1 << 9
    #: 6.0: one thread submits; the kernel saves its locks, and refuses other threads.
    SINGLE_ISSUER = 1 << 12
    #: 6.1: completion work runs only when we ask for completions, in one go.
    DEFER_TASKRUN = 1 << 13

    DEFAULT = SUBMIT_ALL | COOP_TASKRUN | TASKRUN_FLAG | SINGLE_ISSUER | DEFER_TASKRUN


class SqeFlags(IntFlag):
    """How one operation stands to those queued after it."""

    NONE = 0
    #: Starts only when everything before it is complete; what follows waits for it.
    DRAIN = 1 << 1
    #: The next operation starts when this one succeeded, and is cancelled if it failed.
    LINK = 1 << 2
    #: The next operation starts when this one ended, however it did.
    HARDLINK = 1 << 3
    #: Goes to a worker thread at once; no attempt is made to complete it while submitting.
    ASYNC = 1 << 4


# What to give up, in this order, when the kernel answers EINVAL. DEFER_TASKRUN needs
# SINGLE_ISSUER, and TASKRUN_FLAG needs one of the TASKRUN flags, so each step is legal by itself.
FALLBACKS = (
    SetupFlags.DEFER_TASKRUN,
    SetupFlags.SINGLE_ISSUER,
    SetupFlags.COOP_TASKRUN | SetupFlags.TASKRUN_FLAG,
    SetupFlags.SUBMIT_ALL,
)
