# SPDX-License-Identifier: Apache-2.0
"""Which keys mean to OpenDAL what they say.

OpenDAL tidies paths: blanks at both ends go, ``a//b`` becomes ``a/b``, and HTTP clients resolve
``.`` and ``..``. A key that would come out changed names another object, which a write would
replace: it is refused before it gets there.
"""

from __future__ import annotations

import errno

from ovfs.remote.errors import FsError

# Unicode's White_Space, which is what Rust's str::trim takes off; Python's strip() takes more.
_BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_ODD_SEGMENTS = {"", ".", ".."}


def is_reachable(key: str) -> bool:
    """Return whether OpenDAL addresses the object of this very key ("" is the root)."""
    if not key:
        return True
    if key.strip(_BLANKS) != key or not _ODD_SEGMENTS.isdisjoint(key.removesuffix("/").split("/")):
        return False
    return key.isascii() or _is_unicode(key)


def check_key(key: str) -> str:
    """Return the key.

    Raises:
        FsError: EILSEQ, it is not UTF-8; EINVAL, OpenDAL would make another one of it.
    """
    if is_reachable(key):
        return key
    if not _is_unicode(key):
        raise FsError(errno.EILSEQ, "names that are not UTF-8 cannot be keys")
    raise FsError(errno.EINVAL, "the service cannot address this name unchanged")


def _is_unicode(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
