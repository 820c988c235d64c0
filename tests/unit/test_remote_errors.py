# SPDX-License-Identifier: Apache-2.0
"""What OpenDAL's exceptions mean to a guest, and that their texts tell no secret."""

from __future__ import annotations

import errno

import pytest
from opendal import exceptions

from ovfs.remote.errors import (
    ConflictError,
    FsError,
    describe,
    errno_of,
    is_transient,
    status_of,
    translate,
)

# As OpenDAL 0.47.12 words them.
ANSWER = (
    '{kind} (persistent) at {op} => S3Error {{ code: "{code}", message: "words", '
    'resource: "/b/hush" }}\n\nContext:\n   uri: http://h/b/k?sig=hush\n'
    '   response: Parts {{ status: {status}, version: HTTP/1.1, headers: {{"a": "hush"}} }}\n'
    "   service: s3\n   path: k\n"
)
BROKEN = (
    "Unexpected (persistent) at read => send http request\n\nContext:\n"
    "   url: http://h/b/k?sig=hush\n   called: reqwest::send\n\nSource:\n"
    "   error sending request for url (http://h/b/k?sig=hush): client error (Connect): "
    "tcp connect error: Connection refused (os error 111)\n\nBacktrace:\n   0: <unknown>\n"
)


def ftp(response: str) -> Exception:
    return exceptions.Unexpected(
        f"Unexpected (persistent) at read => ftp error\n\nContext:\n   path: k\n\n"
        f"Source:\n   Invalid response: [{response}\n"
    )


def answered(kind: type[Exception], status: int, code: str) -> Exception:
    return kind(ANSWER.format(kind=kind.__name__, op="write", code=code, status=status))


@pytest.mark.parametrize(
    ("exc", "number"),
    [
        (answered(exceptions.NotFound, 404, "NoSuchKey"), errno.ENOENT),
        (answered(exceptions.NotFound, 404, "NoSuchBucket"), errno.EIO),
        (answered(exceptions.NotFound, 404, "NoSuchUpload"), errno.ESTALE),
        (answered(exceptions.PermissionDenied, 403, "AccessDenied"), errno.EACCES),
        (answered(exceptions.Unexpected, 401, "Unauthorized"), errno.EACCES),
        (answered(exceptions.AlreadyExists, 409, "BucketAlreadyExists"), errno.EEXIST),
        (answered(exceptions.ConditionNotMatch, 412, "PreconditionFailed"), errno.ESTALE),
        (answered(exceptions.Unexpected, 412, "PreconditionFailed"), errno.ESTALE),
        (answered(exceptions.Unexpected, 409, "ConditionalRequestConflict"), errno.ESTALE),
        (answered(exceptions.RateLimited, 429, "TooManyRequests"), errno.EIO),
        (answered(exceptions.RateLimited, 503, "SlowDown"), errno.EIO),
        (answered(exceptions.Unexpected, 500, "InternalError"), errno.EIO),
        (answered(exceptions.Unexpected, 507, "InsufficientStorage"), errno.ENOSPC),
        (answered(exceptions.Unexpected, 500, "XMinioStorageFull"), errno.ENOSPC),
        (answered(exceptions.Unexpected, 400, "KeyTooLongError"), errno.ENAMETOOLONG),
        (answered(exceptions.Unexpected, 400, "EntityTooLarge"), errno.EFBIG),
        (answered(exceptions.Unexpected, 413, "TooLarge"), errno.EFBIG),
        (answered(exceptions.Unexpected, 405, "MethodNotAllowed"), errno.EOPNOTSUPP),
        (exceptions.Unsupported("Unsupported (permanent) at rename => no"), errno.EOPNOTSUPP),
        (exceptions.IsADirectory("IsADirectory (permanent) at write => no"), errno.EISDIR),
        (exceptions.NotADirectory("NotADirectory (permanent) at list => no"), errno.ENOTDIR),
        (exceptions.IsSameFile("IsSameFile (permanent) at copy => no"), errno.EINVAL),
        (exceptions.ConfigInvalid("ConfigInvalid (permanent) at list => no"), errno.EIO),
        (exceptions.Unexpected(BROKEN), errno.EIO),
        (ftp("551] 551 File not available"), errno.ENOENT),
        (ftp("552] 552 Quota"), errno.ENOSPC),
        (ftp("530] 530 Incorrect password"), errno.EACCES),
        (ftp("450] 450 error during transfer: Read only file system"), errno.EROFS),
        (ftp("421] 421 closing"), errno.EIO),
        (TimeoutError(), errno.EIO),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), errno.EIO),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), errno.EIO),
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (OSError(None, "no answer"), errno.EIO),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), errno.EILSEQ),
        (FsError(errno.EROFS, "no"), errno.EROFS),
        (ValueError("a bug"), errno.EIO),
    ],
)
def test_errno(exc: Exception, number: int) -> None:
    assert errno_of(exc) == number
    mine = translate(exc, "write k")
    assert mine.errno == number
    assert isinstance(mine, ConflictError) == (number == errno.ESTALE)
    assert "hush" not in str(mine)
    assert "\n" not in str(mine)


def test_no_kind_of_failure_is_try_again() -> None:
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    assert len(kinds) >= 14
    for kind in kinds:
        if issubclass(kind, Exception):
            assert errno_of(kind("x")) not in {0, errno.EAGAIN, errno.EINTR}


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (
            answered(exceptions.PermissionDenied, 403, "AccessDenied"),
            "access denied (write, AccessDenied, HTTP 403)",
        ),
        (
            exceptions.Unexpected(BROKEN),
            "the service cannot be reached (read, Connection refused (os error 111))",
        ),
        (
            answered(exceptions.RateLimited, 503, "SlowDown"),
            "the service asks to slow down (write, SlowDown, HTTP 503)",
        ),
        (
            exceptions.Unexpected("Unexpected (persistent) at  => io timeout reached\n"),
            "no answer in time",
        ),
        (
            exceptions.Unexpected("Unexpected (persistent) at  => reader got too little data\n"),
            "the answer was cut short",
        ),
        (TimeoutError(), "no answer in time"),
        (FsError(5, "of its own"), "of its own"),
    ],
)
def test_description(exc: Exception, text: str) -> None:
    assert describe(exc) == text


def test_a_code_that_is_no_code_is_left_out() -> None:
    exc = answered(exceptions.Unexpected, 500, "<hush hush>")
    assert describe(exc) == "the service failed (write, HTTP 500)"
    assert status_of(exc) == 500


@pytest.mark.parametrize(
    ("exc", "transient"),
    [
        (exceptions.Unexpected(BROKEN), True),
        (answered(exceptions.RateLimited, 429, "SlowDown"), True),
        (answered(exceptions.Unexpected, 500, "InternalError"), True),
        (answered(exceptions.Unexpected, 400, "InvalidRequest"), False),
        (answered(exceptions.PermissionDenied, 403, "AccessDenied"), False),
        (answered(exceptions.Unexpected, 507, "InsufficientStorage"), False),
        (TimeoutError(), True),
        (ValueError(), False),
    ],
)
def test_what_may_pass(exc: Exception, transient: bool) -> None:
    assert is_transient(exc) == transient
