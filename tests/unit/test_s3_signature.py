# SPDX-License-Identifier: Apache-2.0
"""Signatures as Amazon's documentation works them out, and whose credentials they are made with."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ovfs.remote.s3_signature import Credentials, encode_query, find_credentials, signed_headers

# "Authenticating Requests: Using the Authorization Header" in the Amazon S3 API reference.
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "https://examplebucket.s3.amazonaws.com"
WHEN = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        (
            f"{HOST}/?lifecycle=",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            f"{HOST}/?max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_documented_examples(url: str, signature: str) -> None:
    assert signed_headers(EXAMPLE, "GET", url, WHEN)["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"
    )


def test_session_token_is_signed_too() -> None:
    headers = signed_headers(Credentials("a", "b", "token"), "GET", HOST, WHEN)
    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["authorization"]


def test_query() -> None:
    assert encode_query({"uploads": "", "prefix": "a b/ä+&"}) == (
        "prefix=a%20b%2F%C3%A4%2B%26&uploads="
    )


def test_whose_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    in_url = {"access_key_id": "a", "secret_access_key": "b", "bucket": "c"}
    assert find_credentials(in_url, "r") == Credentials("a", "b", None, "r")
    assert find_credentials({"bucket": "c"}, "r") is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    assert find_credentials({"bucket": "c"}, "r") is None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "z")
    assert find_credentials({"bucket": "c"}, "r") == Credentials("x", "y", "z", "r")
    assert find_credentials(in_url, "r") == Credentials("a", "b", None, "r")
    assert find_credentials({**in_url, "role_arn": "arn"}, "r") is None
    assert find_credentials({**in_url, "skip_signature": "true"}, "r") is None


def test_nothing_of_them_is_in_a_repr() -> None:
    assert repr(Credentials("key", "secret", "token")) == "Credentials(region='us-east-1')"
