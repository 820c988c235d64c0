# SPDX-License-Identifier: Apache-2.0
"""Multipart uploads that came to nothing: their parts take space on S3 until somebody aborts them.

OpenDAL's binding neither aborts an upload nor tells its id. So uploads are found by what is known
of them, the key and the time at which they were begun, told by the server's clock. Another writer
who begins an upload of the same key within the same two seconds would lose theirs with ours: they
get an error and try again, no byte of an object is touched.

Where the credentials are none that can be signed with (``s3_signature.py``), and on other services,
uploads stay until the service's own rules take them away: a lifecycle rule on S3, a week on Azure.
"""

from __future__ import annotations

import html
import logging
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ovfs.remote import location
from ovfs.remote.http_calls import Answer, HttpCalls, is_direct
from ovfs.remote.operators import default_region
from ovfs.remote.s3_signature import encode_query, find_credentials, signed_headers

if TYPE_CHECKING:
    from opendal import AsyncOperator

    from ovfs.config import RemoteBackend
    from ovfs.remote.s3_signature import Credentials

log = logging.getLogger(__name__)

_SLACK = 2.0  # seconds by which clocks and their rounding may differ
_MAX_PAGES = 100
_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Begun:
    key: str
    upload_id: str
    at: float


class Leftovers:
    """Aborts uploads below one root of one bucket."""

    def __init__(
        self, operator: AsyncOperator, calls: HttpCalls, credentials: Credentials, prefix: str
    ) -> None:
        self._operator = operator
        self._calls = calls
        self._credentials = credentials
        self._prefix = prefix

    @classmethod
    def of(
        cls, backend: RemoteBackend, operator: AsyncOperator, calls: HttpCalls
    ) -> Leftovers | None:
        """Return what cleans up after a backend; None where that cannot be had."""
        if backend.scheme != "s3":
            return None
        region = backend.parameters.get("region") or default_region()
        credentials = find_credentials(backend.parameters, region)
        prefix = location.root(backend).removeprefix("/")
        return cls(operator, calls, credentials, prefix) if credentials else None

    async def abort(self, key: str, since: float, until: float) -> int:
        """Abort the uploads of a key that were begun between two moments of this host's clock.

        Returns how many there were.

        Raises:
            OSError: the service cannot be reached, or refuses.
        """
        bucket = await self._bucket_url()
        if not is_direct(bucket):
            return 0
        full = self._prefix + key
        count = 0
        for begun in await self._find(bucket, full, since, until):
            query = encode_query({"uploadId": begun.upload_id})
            answer = await self._send("DELETE", f"{bucket}/{quote(full, safe='/-_.~')}?{query}")
            if answer.status not in {200, 204, 404}:
                raise OSError(None, f"aborting an upload of {key}: HTTP {answer.status}")
            count += answer.status != 404
        if count:
            log.info("took away what %d broken uploads of %s had left", count, key)
        return count

    async def _bucket_url(self) -> str:
        # OpenDAL knows which address that is, path style or not: an object's without its key.
        parts = urlsplit((await self._operator.presign_read("x", 60)).url)
        depth = self._prefix.count("/") + 1
        path = "/".join(parts.path.split("/")[:-depth])
        return f"{parts.scheme}://{parts.netloc}{path}"

    async def _find(self, bucket: str, key: str, since: float, until: float) -> list[_Begun]:
        found: list[_Begun] = []
        marker: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            query = encode_query({"uploads": "", "prefix": key, **marker})
            answer = await self._send("GET", f"{bucket}/?{query}")
            if answer.status != 200:
                raise OSError(None, f"listing uploads of {key}: HTTP {answer.status}")
            ahead = _ahead(answer)
            text = answer.body.decode(errors="replace")
            found += [
                begun
                for begun in _parse(text)
                if begun.key == key and since - _SLACK <= begun.at - ahead <= until + _SLACK
            ]
            if _field(text, "IsTruncated") != "true":
                break
            marker = {
                "key-marker": _field(text, "NextKeyMarker"),
                "upload-id-marker": _field(text, "NextUploadIdMarker"),
            }
        return found

    async def _send(self, method: str, url: str) -> Answer:
        headers = signed_headers(self._credentials, method, url)
        return await self._calls.send(method, url, headers)


def _parse(text: str) -> list[_Begun]:
    found = []
    for body in _UPLOAD.findall(text):
        try:
            at = datetime.fromisoformat(_field(body, "Initiated")).timestamp()
        except ValueError:
            continue
        found.append(_Begun(_field(body, "Key"), _field(body, "UploadId"), at))
    return found


def _field(text: str, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def _ahead(answer: Answer) -> float:
    """Return by how many seconds the server's clock is ahead of ours."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp() - time()
    except (KeyError, ValueError):
        return 0.0
