# SPDX-License-Identifier: Apache-2.0
"""What a storage service's failure means to a guest: an errno, and a text without secrets.

OpenDAL tells the kind of a failure by the exception's class, and nearly all else by its text, whose
first line is ``KIND (persistent|temporary|permanent) at OPERATION => MESSAGE``, followed by the
request's address and the answer's head. Addresses may hold signatures (a SAS token does) and
messages whatever a server likes to echo, so a text of ours is put together from pieces with a known
shape: the operation, the HTTP status, the service's error code, the cause of a broken connection.

Two rules stand over the table: EAGAIN never reaches a guest (it means something else to whoever
reads a file), and what is not understood is EIO.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST_LINE = re.compile(r"\w+ \((?:persistent|temporary|permanent)\) at ?(.*?) => (.*)")
_AS_OSERROR = re.compile(r"(\w+) \((?:persistent|temporary|permanent)\) at ")
_STATUS = re.compile(r"status: (\d{3})")
_CODE = re.compile(r'code: "([A-Za-z0-9_.:-]{1,64})"')
_SOURCE = re.compile(r"\nSource:\n\s*(.+)")
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://\S+")
_SPACE = re.compile(
    r"InsufficientStorage|NotEnoughSpace|QuotaExceeded|StorageFull|DiskFull|EntityTooLargeForDisk"
    r"|[Nn]o space left|[Dd]isk full|XMinioStorageFull|OOM command not allowed"
)
_READ_ONLY = re.compile(r"[Rr]ead[- ]only file ?system")

# By the name of the class, so that this module does not import OpenDAL.
_KINDS = {
    "NotFound": errno.ENOENT,
    "PermissionDenied": errno.EACCES,
    "AlreadyExists": errno.EEXIST,
    "ConditionNotMatch": errno.ESTALE,
    "Conflict": errno.ESTALE,
    "RateLimited": errno.EIO,
    "Unsupported": errno.EOPNOTSUPP,
    "IsADirectory": errno.EISDIR,
    "NotADirectory": errno.ENOTDIR,
    "IsSameFile": errno.EINVAL,
    "RangeNotSatisfied": errno.EINVAL,
    "ConfigInvalid": errno.EIO,
    "Unexpected": errno.EIO,
}
_BY_STATUS = {
    401: errno.EACCES,
    405: errno.EOPNOTSUPP,
    409: errno.ESTALE,
    412: errno.ESTALE,
    413: errno.EFBIG,
    423: errno.EBUSY,  # WebDAV: locked by another client
    501: errno.EOPNOTSUPP,
    507: errno.ENOSPC,
}
_BY_CODE = {
    "KeyTooLongError": errno.ENAMETOOLONG,
    "EntityTooLarge": errno.EFBIG,
    # Somebody ended it: another who cleaned up, or we, in a request whose answer got lost. Which
    # of them shows in the object, and whoever meets a conflict looks there.
    "NoSuchUpload": errno.ESTALE,
    "NoSuchBucket": errno.EIO,  # whatever becomes of it: no object was removed by anybody
    "ConditionalRequestConflict": errno.ESTALE,
}
_FTP_CODE = re.compile(r"Invalid response: \[(\d{3})\]")
_BY_FTP_CODE = {
    "452": errno.ENOSPC,
    "530": errno.EACCES,
    "532": errno.EACCES,
    "550": errno.ENOENT,
    "551": errno.ENOENT,
    "552": errno.ENOSPC,
}
_WORDS = {
    errno.EROFS: "the service is read-only",
    errno.ENOENT: "there is no such object",
    errno.EACCES: "access denied",
    errno.EEXIST: "it exists already",
    errno.ESTALE: "it was changed by somebody else",
    errno.EOPNOTSUPP: "the service cannot do that",
    errno.EISDIR: "it is a directory",
    errno.ENOTDIR: "it is no directory",
    errno.ENOSPC: "the service is out of space",
    errno.EFBIG: "too large for the service",
    errno.ENAMETOOLONG: "the name is too long for the service",
}


class FsError(Exception):
    """A failed operation: the errno that the guest gets, and one line for the log."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(errno, text)
        self.errno = errno
        self.text = text

    def __str__(self) -> str:
        return self.text


class ConflictError(FsError):
    """The object is not in the version that the operation was meant for."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.ESTALE, text)


def errno_of(exc: BaseException) -> int:
    """Return the errno that any exception of a remote operation means to the guest."""
    if isinstance(exc, FsError):
        return exc.errno
    if isinstance(exc, TimeoutError):
        return errno.EIO  # an OSError, too, whose errno is ETIMEDOUT or None
    if _kind(exc) is not None:
        return _opendal_errno(exc)
    if isinstance(exc, OSError):
        return errno.EIO if exc.errno in {None, errno.EAGAIN} else exc.errno or errno.EIO
    if isinstance(exc, UnicodeEncodeError):
        return errno.EILSEQ
    return errno.EIO


def translate(exc: BaseException, doing: str) -> FsError:
    """Return an exception of a remote operation as ours; ``doing`` starts its text."""
    if isinstance(exc, FsError):
        return exc
    number = errno_of(exc)
    text = f"{doing}: {describe(exc)}"
    return ConflictError(text) if number == errno.ESTALE else FsError(number, text)


def describe(exc: BaseException) -> str:
    """Return what went wrong in one line; nothing in it can be a secret."""
    if isinstance(exc, FsError):
        return exc.text
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, UnicodeEncodeError):
        return "the name is not UTF-8"
    if _kind(exc) is None:
        return (isinstance(exc, OSError) and exc.strerror) or type(exc).__name__
    number = _opendal_errno(exc)
    return _sentence(_WORDS.get(number) or _io_words(exc), _details(exc))


def is_transient(exc: BaseException) -> bool:
    """Return whether the same call may succeed a little later."""
    if isinstance(exc, TimeoutError):
        return True
    if _kind(exc) is None or _opendal_errno(exc) != errno.EIO:
        return False
    status = status_of(exc)
    return _kind(exc) == "RateLimited" or status is None or status >= 500


def status_of(exc: BaseException) -> int | None:
    """Return the HTTP status of the answer that an OpenDAL exception tells of."""
    found = _STATUS.search(str(exc))
    return int(found[1]) if found else None


def code_of(exc: BaseException) -> str | None:
    """Return the service's own error code (S3's "NoSuchKey"), if the exception tells one."""
    found = _CODE.search(str(exc))
    return found[1] if found else None


def is_short(exc: BaseException) -> bool:
    """Return whether a read got less than it asked for, with nobody calling it an error."""
    return _kind(exc) == "RangeNotSatisfied" or "too little data" in str(exc)


def _kind(exc: BaseException) -> str | None:
    """Return OpenDAL's name for a failure; None: it is not one of OpenDAL's.

    An operator raises a class for each; a file, a plain OSError whose text begins with the name.
    """
    if type(exc).__module__.startswith("opendal"):
        return type(exc).__name__
    if type(exc) is OSError and exc.errno is None:
        found = _AS_OSERROR.match(str(exc))
        return found[1] if found else None
    return None


def _opendal_errno(exc: BaseException) -> int:
    text = str(exc)
    if _SPACE.search(text):
        return errno.ENOSPC
    if _READ_ONLY.search(text):
        return errno.EROFS
    code, status, ftp_code = code_of(exc), status_of(exc), _FTP_CODE.search(text)
    if code in _BY_CODE:
        return _BY_CODE[code]
    if ftp_code and ftp_code[1] in _BY_FTP_CODE:
        return _BY_FTP_CODE[ftp_code[1]]
    kind = _KINDS.get(_kind(exc) or "", errno.EIO)
    if kind == errno.EIO and status in _BY_STATUS:
        return _BY_STATUS[status]
    return kind


def _io_words(exc: BaseException) -> str:
    text = str(exc)
    if _kind(exc) == "RateLimited":
        return "the service asks to slow down"
    if "timeout" in text.partition("\n")[0]:
        return "no answer in time"
    if is_short(exc):
        return "the answer was cut short"
    if _SOURCE.search(text) or "send http request" in text:
        return "the service cannot be reached"
    return "the service failed"


def _details(exc: BaseException) -> Iterable[str]:
    text = str(exc)
    first = _FIRST_LINE.match(text)
    if first and re.fullmatch(r"[\w:]{1,40}", first[1]):
        yield first[1]
    code, status, source = code_of(exc), status_of(exc), _SOURCE.search(text)
    if code:
        yield code
    if status:
        yield f"HTTP {status}"
    if source:
        # "error sending request: client error (Connect): tcp connect error: Connection refused"
        yield _ADDRESS.sub("...", source[1].rpartition(": ")[2])[:100]


def _sentence(words: str, details: Iterable[str]) -> str:
    joined = ", ".join(details)
    return f"{words} ({joined})" if joined else words
