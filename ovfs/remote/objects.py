# SPDX-License-Identifier: Apache-2.0
"""What a service tells about one object."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opendal.types import Metadata

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class ObjectInfo:
    """An object or a directory; a directory's key ends with "/" (the root's is empty)."""

    key: str
    is_dir: bool
    size: int = 0
    mtime_ns: int = 0  # 0: not told
    etag: str | None = None
    version: str = ""  # the etag, else size and time, else nothing: then two versions look alike
    meta: dict[str, str] | None = None  # None: not told, as in a listing


def object_info(key: str, metadata: Metadata, meta: dict[str, str] | None) -> ObjectInfo:
    """Return what OpenDAL's metadata says."""
    size, etag, modified = metadata.content_length, metadata.etag, metadata.last_modified
    mtime_ns = 0 if modified is None else (modified - _EPOCH) // _MICROSECOND * 1000
    if metadata.is_dir:
        return ObjectInfo(_as_dir(key), True, 0, mtime_ns, etag, etag or "", meta)
    version = etag or (f"{size}-{mtime_ns}" if mtime_ns else "")
    return ObjectInfo(key, False, size, mtime_ns, etag, version, meta)


def _as_dir(key: str) -> str:
    return key if not key or key.endswith("/") else key + "/"
