# SPDX-License-Identifier: Apache-2.0
"""What a daemon is told to do, checked: plain values, no I/O, secrets never in a ``repr``."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ovfs.errors import UsageError
from ovfs.native import Cache, FileHandles
from ovfs.url import parse_url

if TYPE_CHECKING:
    from ovfs.url import BackendUrl

# Seconds that the guest may keep names and attributes, by policy. "auto" bounds what a change made
# on the host can stay unseen; "metadata" and "always" mean that nobody else changes the directory,
# and a day is as good as for ever there.
TIMEOUTS = {Cache.NEVER: 0.0, Cache.AUTO: 1.0, Cache.METADATA: 86400.0, Cache.ALWAYS: 86400.0}


@dataclass(frozen=True, slots=True)
class FsBackend:
    """``fs://``: a directory of this host."""

    root: str


@dataclass(frozen=True, slots=True)
class S3Backend:
    """``s3://``: a bucket, and the keys below a prefix in it."""

    bucket: str
    root: str = "/"
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)


Backend = FsBackend | S3Backend

_BACKENDS: dict[str, type[FsBackend | S3Backend]] = {"fs": FsBackend, "s3": S3Backend}


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the command line says."""

    backend: Backend
    socket_path: str | None  # None: socket_fd is given
    socket_fd: int | None = None
    socket_mode: int = 0o600
    socket_group: str | None = None
    queues: int = 1  # request queues; the hiprio queue comes on top
    tag: bytes | None = None
    cache: Cache = Cache.AUTO
    attr_timeout: float = 1.0
    entry_timeout: float = 1.0
    writeback: bool = False
    readonly: bool = False
    xattr: bool = False
    posix_acl: bool = False
    allow_direct_io: bool = False
    posix_lock: bool = False
    flock: bool = False
    file_handles: FileHandles = FileHandles.PREFER
    rlimit_nofile: int | None = None
    log_level: str = "info"
    plain_rings: bool = False


def parse_backend(text: str) -> Backend:
    """Return the backend that a URL names.

    Raises:
        UsageError: it names none, or with wrong parameters. No text quotes a value.
    """
    url = parse_url(text)
    kind = _BACKENDS.get(url.scheme)
    if kind is None:
        raise UsageError(f"backend {url.scheme} is not built yet; there is fs://?root=DIR")
    _check_keys(url, kind)
    backend = kind(**url.parameters)
    if isinstance(backend, S3Backend):
        _check_s3(backend)
    return backend


def _check_keys(url: BackendUrl, kind: type[FsBackend | S3Backend]) -> None:
    """Check the parameters' keys against the backend's fields; none may be empty."""
    known = [entry.name for entry in fields(kind)]
    for number, key in enumerate(url.parameters, 1):
        if key not in known:
            # A directory holds no secrets; elsewhere a stray key may be the rest of one.
            what = f"key {key!r}" if kind is FsBackend else f"key of item {number}"
            raise UsageError(f"{url.scheme}:// knows no {what}; it knows {', '.join(known)}")
        if not url.parameters[key]:
            raise UsageError(
                f"{key} is empty in the {url.scheme}:// URL: give a value or leave it out"
            )
    for entry in fields(kind):
        if entry.default is MISSING and entry.name not in url.parameters:
            example = "root=/srv/share" if kind is FsBackend else f"{entry.name}=NAME"
            raise UsageError(f"{url.scheme}:// needs {entry.name}: write {url.scheme}://?{example}")


def _check_s3(backend: S3Backend) -> None:
    if (backend.access_key_id is None) != (backend.secret_access_key is None):
        raise UsageError("s3:// needs access_key_id and secret_access_key together, or neither")
    if backend.endpoint is None:
        return
    try:
        parts = urlsplit(backend.endpoint)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment:
        raise UsageError("endpoint in the s3:// URL is no http:// or https:// address of a server")
