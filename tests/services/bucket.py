# SPDX-License-Identifier: Apache-2.0
"""Objects of an S3 bucket, seen and changed without ovfs: another client of the same service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Objects of one request to delete them; the protocol's limit.
BATCH: Final = 1000


class S3Service(Protocol):
    """Where a bucket is and how to get in."""

    bucket: str
    region: str

    @property
    def endpoint(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Head:
    """What the service says of an object.

    Attributes:
        meta: The user metadata, keys in lower case, values as they were sent.
        headers: All headers of the answer, keys in lower case.
    """

    size: int
    etag: str
    meta: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    key: str
    size: int
    etag: str


class Bucket:
    """A bucket. Every method raises botocore's errors, at once: nothing is tried again.

    Args:
        service: Whose.
        root: Put before every key that is given, and taken off every key that is returned.
        timeout: Seconds to wait for each answer.
    """

    def __init__(self, service: S3Service, root: str = "", *, timeout: float = 60.0) -> None:
        self.name = service.bucket
        self.root = root.lstrip("/")
        session = botocore.session.Session()
        self._client = cast(
            "Any",
            session.create_client(
                "s3",
                endpoint_url=service.endpoint,
                region_name=service.region,
                aws_access_key_id=service.access_key,
                aws_secret_access_key=service.secret_key,
                config=Config(
                    connect_timeout=timeout,
                    read_timeout=timeout,
                    retries={"total_max_attempts": 1},
                    proxies={},
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            ),
        )

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": self.root + key}

    def server_answers(self) -> bool:
        """Whether the bucket, made where it was missing, takes an object and lets it go again."""
        try:
            self.create()
            self._client.put_object(Bucket=self.name, Key="server-answers", Body=b"?" * 8192)
            self._client.delete_object(Bucket=self.name, Key="server-answers")
        except (BotoCoreError, ClientError):
            return False
        return True

    def create(self) -> None:
        """Makes the bucket unless it is there."""
        try:
            self._client.head_bucket(Bucket=self.name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            self._client.create_bucket(Bucket=self.name)

    def put(
        self,
        key: str,
        data: bytes,
        meta: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        """Stores an object; returns its etag, in quotes as the protocol has it."""
        more = {"ContentType": content_type} if content_type else {}
        answer = self._client.put_object(
            **self._at(key), Body=data, Metadata=dict(meta or {}), **more
        )
        return str(answer["ETag"])

    def get(self, key: str) -> bytes:
        """The content of an object."""
        return bytes(self._client.get_object(**self._at(key))["Body"].read())

    def head(self, key: str) -> Head | None:
        """What the service says of an object; None where there is none."""
        try:
            answer = self._client.head_object(**self._at(key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return Head(answer["ContentLength"], answer["ETag"], answer["Metadata"], headers)

    def objects(self, prefix: str = "") -> list[Listed]:
        """All objects whose keys start with a prefix, in the service's order."""
        return list(self._list(prefix))

    def keys(self, prefix: str = "") -> list[str]:
        """Their keys."""
        return [listed.key for listed in self._list(prefix)]

    def _list(self, prefix: str) -> Iterator[Listed]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.root + prefix
        )
        for page in pages:
            for found in page.get("Contents", ()):
                yield Listed(found["Key"][len(self.root) :], found["Size"], found["ETag"])

    def delete(self, key: str) -> None:
        """Removes an object; nothing happens where there is none."""
        self._client.delete_object(**self._at(key))

    def clear(self, prefix: str = "") -> None:
        """Removes all objects whose keys start with a prefix."""
        keys = [{"Key": self.root + key} for key in self.keys(prefix)]
        for first in range(0, len(keys), BATCH):
            self._client.delete_objects(
                Bucket=self.name, Delete={"Objects": keys[first : first + BATCH], "Quiet": True}
            )

    def begin_upload(self, key: str) -> str:
        """Begins a multipart upload and leaves it so; returns its id."""
        return str(self._client.create_multipart_upload(**self._at(key))["UploadId"])

    def abort_upload(self, key: str, upload: str) -> None:
        """Gives a multipart upload up."""
        self._client.abort_multipart_upload(**self._at(key), UploadId=upload)

    def uploads(self, prefix: str = "") -> list[str]:
        """The keys of multipart uploads that are neither complete nor aborted."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.name, Prefix=self.root + prefix
        )
        return [
            str(upload["Key"])[len(self.root) :]
            for page in pages
            for upload in page.get("Uploads", ())
        ]
