# SPDX-License-Identifier: Apache-2.0
"""The services that tests run against: they store, they survive, and their URLs say how."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import opendal
import pytest
from botocore.exceptions import ReadTimeoutError  # type: ignore[import-untyped]

from ovfs.config import RemoteBackend, parse_backend
from tests.services.bucket import Bucket
from tests.services.rclone import RcloneServe
from tests.services.seaweed import SeaweedFS

if TYPE_CHECKING:
    from tests.services.rclone import Protocol

CONTENT = b"content" * 100_000


def operator(url: str) -> opendal.Operator:
    """OpenDAL's operator of a backend URL, as ovfs reads it."""
    backend = parse_backend(url)
    assert isinstance(backend, RemoteBackend)
    return opendal.Operator(backend.scheme, **backend.parameters)


def test_a_url_leads_to_the_prefix(seaweed: SeaweedFS, bucket: Bucket) -> None:
    operator(seaweed.url(f"/{bucket.root}a b/ü&=%/")).write("x+y", b"content")
    assert [found.key for found in bucket.objects()] == ["a b/ü&=%/x+y"]


def test_a_url_hides_nothing_but_what_is_left_out(seaweed: SeaweedFS) -> None:
    url = seaweed.url("/", secret_access_key=None, access_key_id=None, endpoint="http://[::1]:1")
    assert url == "s3://?root=/&bucket=test-bucket&endpoint=http://%5B::1%5D:1&region=us-east-1"


def test_objects_have_metadata_and_headers(bucket: Bucket) -> None:
    etag = bucket.put("name", b"x", {"mode": "33188"}, content_type="text/plain")
    head = bucket.head("name")
    assert head is not None
    assert (head.size, head.etag, head.meta) == (1, etag, {"mode": "33188"})
    assert head.headers["content-type"] == "text/plain"
    bucket.delete("name")
    assert bucket.head("name") is None


def test_clear_takes_more_than_a_page(bucket: Bucket) -> None:
    for number in range(1005):
        bucket.put(f"{number}", b"")
    assert len(bucket.objects()) == 1005
    bucket.clear()
    assert bucket.objects() == []


def test_the_reader_may_read_alone(seaweed: SeaweedFS, bucket: Bucket) -> None:
    bucket.put("name", b"content")
    reader = operator(seaweed.url(f"/{bucket.root}", credentials=seaweed.reader))
    assert bytes(reader.read("name")) == b"content"
    with pytest.raises(opendal.exceptions.PermissionDenied):
        reader.write("name", b"other")


def test_uploads_that_were_not_finished_are_seen(bucket: Bucket) -> None:
    assert bucket.uploads() == []
    upload = bucket.begin_upload("name")
    assert bucket.uploads() == ["name"]
    bucket.abort_upload("name", upload)
    assert bucket.uploads() == []


@pytest.mark.slow
def test_seaweed_keeps_its_data_when_it_is_killed() -> None:
    with SeaweedFS() as service:
        bucket, hasty = Bucket(service), Bucket(service, timeout=2.0)
        bucket.put("name", CONTENT, {"mode": "33188"})
        service.kill()
        assert not service.running
        service.start()
        head = bucket.head("name")
        assert head is not None
        assert head.meta == {"mode": "33188"}
        assert bucket.get("name") == CONTENT
        service.pause()
        with pytest.raises(ReadTimeoutError):
            hasty.get("name")
        service.resume()
        assert bucket.get("name") == CONTENT
    assert not os.path.exists(service.scratch)


@pytest.mark.parametrize("protocol", ["webdav", "ftp", "s3"])
def test_rclone_serves_a_directory(protocol: Protocol) -> None:
    with RcloneServe(protocol) as service:
        files = operator(service.url("/pre fix/"))
        files.write("directory/name", CONTENT)
        assert bytes(files.read("directory/name")) == CONTENT
        assert (service.files / "pre fix/directory/name").read_bytes() == CONTENT
        (service.files / "pre fix/put").write_bytes(b"here")
        assert bytes(files.read("put")) == b"here"
        assert "put" in [entry.path for entry in files.list("/")]
        wrong = {"s3": "secret_access_key"}.get(protocol, "password")
        with pytest.raises(Exception, match=r"PermissionDenied|401|530"):
            operator(service.url("/", **{wrong: "wrong"})).read("put")
    assert not os.path.exists(service.scratch)
