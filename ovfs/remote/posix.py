# SPDX-License-Identifier: Apache-2.0
"""POSIX attributes as user metadata of an object, in the form that s3fs and rclone read.

    mode        st_mode as a decimal number, type bits included
    uid, gid    decimal
    mtime, atime, ctime   seconds since the epoch with a fraction of up to nine digits
    xattr       percent-encoded JSON: {"user.name": "base64 of the value", ...}
    ovfsid      which upload wrote this object: tells our own write from another's

What an object written by others lacks comes from the defaults; what cannot be read is ignored, as
an attribute is no reason to deny a file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import stat
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

UPLOAD_ID = "ovfsid"
_KEYS = frozenset({"mode", "uid", "gid", "mtime", "atime", "ctime", "xattr", UPLOAD_ID})
NS = 1_000_000_000

_TIME = re.compile(r"(-?\d{1,12})(?:\.(\d{1,9})\d*)?\Z")
_KNOWN_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK})


class Owner(NamedTuple):
    """Whose something is."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Defaults:
    """Owner and permissions of objects that carry none."""

    uid: int = 0
    gid: int = 0
    file_mode: int = 0o644
    dir_mode: int = 0o755


@dataclass(slots=True)
class Posix:
    """The attributes that user metadata holds; times in nanoseconds.

    Attributes:
        xattrs: extended attributes; None: none can be kept.
        other: what others have put into the metadata, which stays there.
    """

    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    xattrs: dict[str, bytes] | None
    other: dict[str, str] = field(default_factory=dict)


def new_upload_id() -> str:
    """Return an id for one upload."""
    return uuid.uuid4().hex


def from_meta(
    meta: Mapping[str, str], *, is_dir: bool, changed_ns: int, defaults: Defaults
) -> Posix:
    """Return the attributes of an object.

    Args:
        meta: its user metadata; keys in lower case.
        is_dir: whether its key ends with a slash.
        changed_ns: when the service says that it was written.
        defaults: for what the metadata does not say.
    """
    mtime = _time(meta.get("mtime"), changed_ns)
    return Posix(
        mode=_mode(meta.get("mode"), is_dir=is_dir, defaults=defaults),
        uid=_number(meta.get("uid"), defaults.uid),
        gid=_number(meta.get("gid"), defaults.gid),
        mtime_ns=mtime,
        atime_ns=_time(meta.get("atime"), mtime),
        ctime_ns=_time(meta.get("ctime"), changed_ns),
        xattrs=_xattrs(meta.get("xattr")),
        other={key: value for key, value in meta.items() if key not in _KEYS},
    )


def to_meta(posix: Posix) -> dict[str, str]:
    """Return the user metadata that holds these attributes."""
    meta = {
        **posix.other,
        "mode": str(posix.mode),
        "uid": str(posix.uid),
        "gid": str(posix.gid),
        "mtime": _show_time(posix.mtime_ns),
        "atime": _show_time(posix.atime_ns),
        "ctime": _show_time(posix.ctime_ns),
    }
    if posix.xattrs:
        values = {
            name: base64.b64encode(value).decode("ascii") for name, value in posix.xattrs.items()
        }
        meta["xattr"] = quote(json.dumps(values, separators=(",", ":"), sort_keys=True), safe="")
    return meta


def _mode(text: str | None, *, is_dir: bool, defaults: Defaults) -> int:
    if text is None:
        return stat.S_IFDIR | defaults.dir_mode if is_dir else stat.S_IFREG | defaults.file_mode
    value = _number(text, -1)
    if not 0 <= value <= 0o177777:
        return _mode(None, is_dir=is_dir, defaults=defaults)
    kind = stat.S_IFMT(value)
    if is_dir:
        return stat.S_IFDIR | stat.S_IMODE(value)
    # An object without a slash is no directory, whatever it says: nothing could be put into it.
    if kind == stat.S_IFDIR or kind not in _KNOWN_TYPES:
        kind = stat.S_IFREG
    return kind | stat.S_IMODE(value)


def _number(text: str | None, default: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 10:
        return default
    value = int(text)
    return value if value < 1 << 32 else default


def _time(text: str | None, default: int) -> int:
    found = _TIME.match(text) if text else None
    if found is None:
        return default
    nanoseconds = int((found[2] or "").ljust(9, "0"))
    seconds = int(found[1])
    return seconds * NS + (-nanoseconds if found[1].startswith("-") else nanoseconds)


def _show_time(ns: int) -> str:
    sign = "-" if ns < 0 else ""
    seconds, rest = divmod(abs(ns), NS)
    return f"{sign}{seconds}.{rest:09d}"


def _xattrs(text: str | None) -> dict[str, bytes]:
    if not text:
        return {}
    try:
        values = json.loads(unquote(text))
        return {str(name): base64.b64decode(value, validate=True) for name, value in values.items()}
    except (ValueError, AttributeError, TypeError, binascii.Error):
        return {}
