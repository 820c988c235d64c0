# SPDX-License-Identifier: Apache-2.0
"""What a daemon is told to do, checked: plain values, no I/O, secrets never in a ``repr``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ovfs.errors import UsageError
from ovfs.native import Cache, FileHandles
from ovfs.schemes import known_schemes, parameters_of
from ovfs.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ovfs.schemes import Parameter
    from ovfs.url import BackendUrl

# Seconds that the guest may keep names and attributes, by policy. "auto" bounds what a change made
# on the host can stay unseen; "metadata" and "always" mean that nobody else changes the directory,
# and a day is as good as for ever there.
TIMEOUTS = {Cache.NEVER: 0.0, Cache.AUTO: 1.0, Cache.METADATA: 86400.0, Cache.ALWAYS: 86400.0}


def default_cache_dir() -> Path:
    """Return where the cache of remote backends is unless the user says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/cache/ovfs")
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "ovfs"


@dataclass(frozen=True, slots=True)
class FsBackend:
    """``fs://``: a directory of this host."""

    root: str


@dataclass(frozen=True, slots=True)
class RemoteBackend:
    """Any other scheme: a storage service, reached through OpenDAL, with OpenDAL's parameters."""

    scheme: str
    parameters: dict[str, str] = field(repr=False)  # any of them may be a secret


Backend = FsBackend | RemoteBackend


class Upload(Enum):
    """When a close returns: once the object is stored, or at once."""

    DURABLE = "durable"
    BACKGROUND = "background"


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
    poll: float = 100e-6  # seconds that a request queue looks for work before it sleeps
    plain_rings: bool = False
    # From here on for remote backends alone.
    cache_dir: Path = field(default_factory=default_cache_dir)
    cache_size: int = 10 << 30  # bytes
    upload: Upload = Upload.DURABLE
    upload_delay: float = 5.0  # seconds from a close to its upload in the background
    posix_metadata: bool = True
    default_uid: int = 0
    default_gid: int = 0
    default_file_mode: int = 0o644
    default_dir_mode: int = 0o755


def parse_backend(text: str) -> Backend:
    """Return the backend that a URL names.

    Raises:
        UsageError: it names none, or with wrong parameters. No text quotes a value.
    """
    return make_backend(parse_url(text))


def make_backend(url: BackendUrl, *, lines: Mapping[str, int] | None = None) -> Backend:
    """Return the backend of a URL that was taken apart; as ``parse_backend``.

    ``lines`` says which line of a file a parameter is from, where it is from one.
    """
    if url.scheme == "fs":
        _check_keys(url, ["root"], {"root": "/srv/share"}, lines or {})
        return FsBackend(**url.parameters)
    _check_scheme(url.scheme)
    known = parameters_of(url.scheme)
    required = {key: "NAME" for key, found in known.items() if found.required}
    _check_keys(url, list(known), required, lines or {})
    for key, value in url.parameters.items():
        _check_value(url.scheme, known[key], value)
    if url.scheme == "s3":
        _check_s3(url.parameters)
    return RemoteBackend(url.scheme, url.parameters)


def _check_scheme(scheme: str) -> None:
    if scheme not in known_schemes():
        raise UsageError(
            f"there is no backend {scheme}: fs is a directory of this host, and "
            f"ovfs --list-services shows the services that the installed OpenDAL knows"
        )


def _check_keys(
    url: BackendUrl, known: list[str], required: dict[str, str], lines: Mapping[str, int]
) -> None:
    """Check the parameters' keys against those of the backend; none may be empty."""
    for number, key in enumerate(url.parameters, 1):
        if key not in known:
            # A directory holds no secrets; elsewhere a stray key may be the rest of one.
            where = f"line {lines[key]} of --backend-file" if key in lines else f"item {number}"
            what = f"key {key!r}" if url.scheme == "fs" else f"key of {where}"
            raise UsageError(f"{url.scheme}:// knows no {what}; it knows {', '.join(known)}")
        if not url.parameters[key]:
            raise UsageError(
                f"{key} is empty in the {url.scheme}:// URL: give a value or leave it out"
            )
    for key, example in required.items():
        if key not in url.parameters:
            raise UsageError(f"{url.scheme}:// needs {key}: write {url.scheme}://?{key}={example}")


def _check_value(scheme: str, parameter: Parameter, value: str) -> None:
    """Check what OpenDAL would refuse in words that quote the value."""
    what = f"{parameter.name} in the {scheme}:// URL"
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not UTF-8") from None
    if parameter.kind == "switch" and value not in {"true", "false"}:
        raise UsageError(f"{what} is neither true nor false")
    if parameter.kind == "number" and not (value.isascii() and value.isdigit()):
        raise UsageError(f"{what} is no number")


def _check_s3(parameters: dict[str, str]) -> None:
    if ("access_key_id" in parameters) != ("secret_access_key" in parameters):
        raise UsageError("s3:// needs access_key_id and secret_access_key together, or neither")
    if "endpoint" not in parameters:
        return
    try:
        parts = urlsplit(parameters["endpoint"])
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment:
        raise UsageError("endpoint in the s3:// URL is no http:// or https:// address of a server")
