# SPDX-License-Identifier: Apache-2.0
"""AWS's Signature Version 4 for requests without a body, in their headers.

For the two calls that OpenDAL neither makes nor signs: listing multipart uploads and aborting one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"


def find_credentials(parameters: Mapping[str, str], region: str) -> Credentials | None:
    """Return the credentials that OpenDAL takes first: the URL's, else the environment's.

    None where it goes on looking: profiles, roles and metadata services are its own business.
    """
    if "role_arn" in parameters or "skip_signature" in parameters:
        return None
    for source, names in (
        (parameters, ("access_key_id", "secret_access_key", "session_token")),
        (os.environ, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")),
    ):
        key_id, secret, token = (source.get(name) for name in names)
        if key_id and secret:
            return Credentials(key_id, secret, token, region)
    return None


def signed_headers(
    credentials: Credentials, method: str, url: str, now: datetime | None = None
) -> dict[str, str]:
    """Return the headers that a request needs.

    The URL's path and query must be encoded as S3 wants it, the query's keys in order
    (``encode_query``).
    """
    parts = urlsplit(url)
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": parts.netloc,
        "x-amz-content-sha256": _EMPTY,
        "x-amz-date": stamp,
    }
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        (
            method,
            parts.path or "/",
            parts.query,
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            names,
            _EMPTY,
        )
    )
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = b"AWS4" + credentials.secret_access_key.encode()
    for part in (stamp[:8], credentials.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return headers


def encode_query(parameters: Mapping[str, str]) -> str:
    """Return a query string in the one form that is signed."""
    return "&".join(
        f"{quote(key, safe='-_.~')}={quote(parameters[key], safe='-_.~')}"
        for key in sorted(parameters)
    )
