# SPDX-License-Identifier: Apache-2.0
"""What crosses the boundary to the data plane, as values: no C is loaded by this file.

Names and meanings are those of ``c/ovfs_api.h``; descriptors are borrowed for the call that they
are passed to, and the plane duplicates what it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

ATTR_NO_XATTRS = 1  # the node has no extended attributes, so nobody need be asked


class Cache(Enum):
    """What the guest's kernel may keep (``enum ovfs_cache``)."""

    NEVER = "never"
    METADATA = "metadata"
    AUTO = "auto"
    ALWAYS = "always"


class FileHandles(Enum):
    """How a node that the guest knows is found again (``enum ovfs_file_handles``)."""

    NEVER = "never"
    PREFER = "prefer"
    MANDATORY = "mandatory"


class EventKind(IntEnum):
    """What a packet of the event pipe says (``enum ovfs_event_kind``)."""

    ERROR = 1
    WARNING = 2
    INFO = 3
    DEBUG = 4
    DEVICE_FAILED = 5


@dataclass(frozen=True, slots=True)
class Event:
    """One line for the log, or the end of the device (``struct ovfs_event``)."""

    kind: EventKind
    text: str


@dataclass(frozen=True, slots=True)
class PlaneOptions:
    """Settings of one plane, fixed for its life (``struct ovfs_options``)."""

    root_fd: int
    event_fd: int
    queues: int
    fd_cache: int
    cache: Cache = Cache.AUTO
    attr_timeout: float = 1.0
    entry_timeout: float = 1.0
    file_handles: FileHandles = FileHandles.PREFER
    writeback: bool = False
    readonly: bool = False
    xattr: bool = False
    posix_acl: bool = False
    allow_direct_io: bool = False
    posix_lock: bool = False
    flock: bool = False
    poll: float = 0.0  # seconds that a request queue looks for work before it sleeps
    plain_rings: bool = False
    remote: bool = False
    mail_fd: int = -1
    posix_metadata: bool = True


@dataclass(frozen=True, slots=True)
class MemRegion:
    """A piece of guest memory (``struct ovfs_mem_region``)."""

    guest_addr: int
    size: int
    user_addr: int
    mmap_offset: int
    fd: int


@dataclass(frozen=True, slots=True)
class Vring:
    """A vring that is ready to run (``struct ovfs_vring``); a descriptor of -1 is none."""

    num: int
    base: int
    desc_addr: int
    avail_addr: int
    used_addr: int
    kick_fd: int
    call_fd: int
    err_fd: int
    event_idx: bool
    indirect: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the plane was made (``struct ovfs_stats``)."""

    requests: int
    replies: int
    batches: int
    interrupts: int
    enters: int
    bad_chains: int
    sqes: int
    pooled: int
    events_dropped: int
    in_flight: int
    inodes: int
    handles: int
    cached_fds: int
    mounts: int


@dataclass(frozen=True, slots=True)
class Attr:
    """Attributes of a remote node (``struct ovfs_attr``)."""

    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name stands for (``struct ovfs_entry``); an ino of 0: there is no such name.

    Validities are seconds from now on.
    """

    ino: int
    attr: Attr
    attr_valid: float
    entry_valid: float
