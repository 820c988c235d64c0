# SPDX-License-Identifier: Apache-2.0
"""Directory markers with metadata: empty objects whose key ends with "/", as s3fs makes them.

OpenDAL makes markers, but gives them no metadata and reads none of theirs; it does sign requests
for both. So these are sent here (``http_calls.py``), where the service is one whose signatures go
into an address: S3 and its kin. Whether that works is tried out at start.
"""

from __future__ import annotations

import errno
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ovfs.remote.errors import FsError
from ovfs.remote.objects import ObjectInfo

if TYPE_CHECKING:
    from opendal import AsyncOperator
    from opendal.types import PresignedRequest

    from ovfs.remote.http_calls import Answer, HttpCalls

_VALID = 300  # seconds that a signature holds: longer than all attempts together
_TYPE = "application/x-directory"  # s3fs's
_PREFIXES = ("x-amz-meta-", "x-goog-meta-", "x-ms-meta-", "x-oss-meta-", "x-cos-meta-",
             "x-obs-meta-", "x-tos-meta-")  # fmt: skip
_ERRNOS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 507: errno.ENOSPC}


class Markers:
    """The markers of one service."""

    def __init__(self, operator: AsyncOperator, calls: HttpCalls) -> None:
        self._operator = operator
        self._calls = calls

    async def put(self, key: str, meta: dict[str, str]) -> None:
        """Write a marker, over one that is there.

        Raises:
            FsError: it is not written.
        """
        request = await self._operator.presign_write(
            key, _VALID, content_type=_TYPE, user_metadata=meta
        )
        answer = await self._send(request)
        if not 200 <= answer.status < 300:
            raise _error(f"make directory {key}", answer)

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return the marker with its metadata; None: there is none.

        Raises:
            FsError: the service does not say.
        """
        answer = await self._send(await self._operator.presign_stat(key, _VALID))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise _error(f"stat {key}", answer)
        meta = {
            name[len(prefix) :]: value
            for name, value in answer.headers.items()
            for prefix in _PREFIXES
            if name.startswith(prefix)
        }
        etag = answer.headers.get("etag")
        mtime_ns = _time_ns(answer.headers.get("last-modified"))
        return ObjectInfo(key, True, 0, mtime_ns, etag, etag or "", meta)

    async def _send(self, request: PresignedRequest) -> Answer:
        return await self._calls.send(request.method, request.url, request.headers)


def _error(doing: str, answer: Answer) -> FsError:
    number = _ERRNOS.get(answer.status, errno.EIO)
    return FsError(number, f"{doing}: the service refused (HTTP {answer.status})")


def _time_ns(text: str | None) -> int:
    if text is None:
        return 0
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0
    return int(when.replace(tzinfo=when.tzinfo or UTC).timestamp()) * 10**9
