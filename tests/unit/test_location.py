# SPDX-License-Identifier: Apache-2.0
"""Names of places: one per place, whatever the credentials, and none of those in it."""

from __future__ import annotations

import pytest

from ovfs.config import RemoteBackend, parse_backend
from ovfs.remote.location import identity, place, root

SECRET = "hush"  # noqa: S105 (what must not be seen)


def remote(url: str) -> RemoteBackend:
    backend = parse_backend(url)
    assert isinstance(backend, RemoteBackend)
    return backend


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://", "memory://?root=/"),
        (
            "s3://?bucket=b&root=p/q&endpoint=HTTP://H:90/&access_key_id=a&secret_access_key=hush",
            "s3://?endpoint=http://h:90&bucket=b&root=/p/q/",
        ),
        (
            "webdav://?endpoint=http://u:hush@h/dav/&username=u&password=hush",
            "webdav://?endpoint=http://h/dav&root=/",
        ),
        (
            "mysql://?connection_string=mysql://u:hush@h/db?x=hush&table=t",
            "mysql://?connection_string=mysql://h/db&table=t&root=/",
        ),
        ("redis://?endpoint=u:hush@h:1&db=3", "redis://?endpoint=h:1&db=3&root=/"),
        ("azblob://?container=c&sas_token=hush", "azblob://?container=c&root=/"),
    ],
)
def test_identity(url: str, expected: str) -> None:
    backend = remote(url.replace("?x=hush", "%3Fx=hush"))
    assert identity(backend) == expected
    assert SECRET not in place(backend)


def test_new_credentials_find_the_same_place() -> None:
    old = remote("s3://?bucket=b&access_key_id=a&secret_access_key=b")
    new = remote("s3://?bucket=b&access_key_id=c&secret_access_key=d&session_token=e")
    assert identity(old) == identity(new)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("s3://?bucket=b", "s3://?bucket=c"),
        ("s3://?bucket=b", "s3://?bucket=b&root=/x"),
        ("s3://?bucket=b", "gcs://?bucket=b"),
        ("s3://?bucket=b&endpoint=http://h", "s3://?bucket=b&endpoint=http://i"),
        ("redis://?endpoint=redis://h&db=1", "redis://?endpoint=redis://h&db=2"),
    ],
)
def test_other_places_have_other_names(one: str, two: str) -> None:
    assert identity(remote(one)) != identity(remote(two))


@pytest.mark.parametrize(
    ("given", "expected"), [("/", "/"), ("a", "/a/"), ("/a//b/", "/a/b/"), ("//", "/")]
)
def test_root(given: str, expected: str) -> None:
    assert root(remote(f"memory://?root={given}")) == expected
