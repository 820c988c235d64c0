# SPDX-License-Identifier: Apache-2.0
"""The storage service on a real S3 server, with another client looking at what it does."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ovfs.errors import UsageError
from ovfs.remote import probe
from ovfs.remote.errors import ConflictError, FsError
from ovfs.remote.service import Service, Upload
from tests.unit.test_service import errno_of, keys_of, remote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.services.bucket import Bucket
    from tests.services.seaweed import SeaweedFS

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def on_s3(
    seaweed: SeaweedFS,
    root: str,
    work: Callable[[Service], Awaitable[object]],
    *,
    uploads_dir: Path | None = None,
    **parameters: Any,
) -> None:
    async def main() -> None:
        url = seaweed.url(root, **parameters)
        service = await Service.open(remote(url), uploads_dir=uploads_dir)
        try:
            await work(service)
        finally:
            await service.close()

    asyncio.run(main())


def test_what_was_found_out_at_start(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        can = service.can
        assert (can.if_match, can.if_not_exists, can.read_if_match) == (True,) * 3
        assert (can.delete_if_match, can.user_metadata, can.multipart, can.copy) == (True,) * 4
        assert not can.append  # declared, and a trial shows that it replaces
        assert can.part_min == 5 * MIB
        assert seaweed.secret_key not in service.identity
        assert service.identity.startswith(f"s3://?endpoint={seaweed.endpoint}&bucket=")
        assert bucket.keys() == []  # nothing is left of the trial

    on_s3(seaweed, f"/{bucket.root}", work)


def test_others_see_what_was_written(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        meta = {"mode": "33188", "mtime": "1.5"}
        await service.put("d/ä b+%", b"hello", meta=meta, content_type="text/x")
        head = bucket.head("d/ä b+%")
        assert head is not None
        assert (head.size, head.meta) == (5, meta)
        assert head.headers["content-type"] == "text/x"
        info = await service.stat("d/ä b+%")
        assert info is not None
        assert (info.size, info.etag, info.version, info.meta) == (5, head.etag, head.etag, meta)
        assert abs(info.mtime_ns / 1e9 - time.time()) < 60
        bucket.put("other", b"0123456789", {"k": "v"})
        assert await service.read("other", 2, 3) == b"234"
        listed = {found.key: found async for found in service.list("")}
        assert set(listed) == {"d/", "other"}
        assert (listed["d/"].is_dir, listed["d/"].meta) == (True, None)
        other = await service.stat("other")
        assert other is not None
        assert (listed["other"].size, listed["other"].etag) == (10, other.etag)
        assert listed["other"].version == other.version
        assert listed["other"].meta is None
        await service.copy("other", "copied")
        assert bucket.get("copied") == b"0123456789"
        await service.delete("other")
        assert bucket.keys() == ["copied", "d/ä b+%"]

    on_s3(seaweed, f"/{bucket.root}", work)


def test_directories(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        await service.make_dir("marked/")
        await service.make_dir("marked/")
        bucket.put("implied/file", b"x")
        assert bucket.keys() == ["implied/file", "marked/"]
        for key in ("marked/", "implied/"):
            info = await service.stat(key)
            assert info is not None
            assert info.is_dir
        assert await service.stat("none/") is None
        assert await keys_of(service) == ["implied/", "marked/"]
        assert await keys_of(service, "marked/", with_self=True) == ["marked/"]
        assert await keys_of(service, recursive=True) == ["implied/file", "marked/"]

    on_s3(seaweed, f"/{bucket.root}", work)


def test_conditions_are_the_service_s_own(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        await service.put("a", b"one", if_none=True)
        before = await service.stat("a")
        assert before is not None
        bucket.put("a", b"two")
        for attempt in (
            service.put("a", b"mine", if_none=True),
            service.put("a", b"mine", if_match=before.etag),
            service.put("none", b"mine", if_match=before.etag),
            service.delete("a", if_match=before.etag),
            service.read("a", 0, 3, etag=before.etag),
        ):
            with pytest.raises(ConflictError):
                await attempt
        assert bucket.get("a") == b"two"
        assert bucket.keys() == ["a"]
        now = await service.stat("a")
        assert now is not None
        assert await service.read("a", 0, 3, etag=now.etag) == b"two"
        await service.put("a", b"three", if_match=now.etag)
        assert bucket.get("a") == b"three"

    on_s3(seaweed, f"/{bucket.root}", work)


def test_an_upload_is_an_object_only_when_it_is_committed(
    seaweed: SeaweedFS, bucket: Bucket
) -> None:
    async def work(service: Service) -> None:
        upload = await service.writer("big", meta={"k": "v"}, if_none=True)
        assert upload.part_size == 8 * MIB
        parts = [bytes([number]) * upload.part_size for number in range(3)] + [b"tail"]
        for part in parts:
            await upload.write(part)
            assert bucket.keys() == []
        await upload.commit()
        assert bucket.get("big") == b"".join(parts)
        head = bucket.head("big")
        assert head is not None
        assert head.meta == {"k": "v"}
        assert bucket.uploads() == []
        with pytest.raises(FsError):
            await upload.write(b"more")
        empty = await service.writer("empty")
        await empty.commit()
        assert bucket.get("empty") == b""

    on_s3(seaweed, f"/{bucket.root}", work)


def test_an_upload_that_lost_the_race_replaces_nothing(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        upload = await service.writer("big", if_none=True)
        for _ in range(3):
            await upload.write(bytes(upload.part_size))
        bucket.put("big", b"theirs")
        with pytest.raises(ConflictError):
            await upload.commit()
        await upload.abort()
        assert bucket.get("big") == b"theirs"
        assert bucket.uploads() == []

    on_s3(seaweed, f"/{bucket.root}", work)


def test_an_aborted_upload_leaves_nothing(
    seaweed: SeaweedFS, bucket: Bucket, run_dir: Path
) -> None:
    async def work(service: Service) -> None:
        for key in ("plain", "ä (1)/ b+c!*'~"):
            upload = await service.writer(key)
            assert len(os.listdir(run_dir)) == 1  # its note
            for _ in range(3):
                await upload.write(bytes(upload.part_size))
            await asyncio.sleep(0.3)  # the parts are on their way
            assert bucket.uploads() == [key]
            await upload.abort()
            assert bucket.uploads() == []
            assert os.listdir(run_dir) == []
        small = await service.writer("small")  # of which the service has not heard
        await small.write(b"x")
        await small.abort()
        assert os.listdir(run_dir) == []
        assert bucket.keys() == []

    on_s3(seaweed, f"/{bucket.root}", work, uploads_dir=run_dir)


async def begin(service: Service, key: str) -> Upload:
    """Start an upload with as many parts as it takes until the service hears of it."""
    upload = await service.writer(key)
    for _ in range(3):
        await upload.write(bytes(upload.part_size))
    return upload


def test_another_writer_s_upload_is_left_alone(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        theirs = await begin(service, "other")
        earlier = await begin(service, "same")
        await asyncio.sleep(4.5)  # beyond what two clocks may differ by
        mine = await begin(service, "same")
        await asyncio.sleep(0.3)
        assert sorted(bucket.uploads()) == ["other", "same", "same"]
        await mine.abort()
        assert sorted(bucket.uploads()) == ["other", "same"]
        await earlier.commit()
        await theirs.commit()
        assert bucket.keys() == ["other", "same"]

    on_s3(seaweed, f"/{bucket.root}", work)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from ovfs.config import parse_backend
from ovfs.remote.service import Service, Upload

async def main(url, uploads_dir):
    service = await Service.open(parse_backend(url), uploads_dir=Path(uploads_dir))
    upload = await service.writer("big")
    for _ in range(3):
        await upload.write(bytes(upload.part_size))
    await asyncio.sleep(0.3)
    os._exit(9)

asyncio.run(main(*sys.argv[1:]))
"""


def test_what_a_killed_daemon_left_goes_at_the_next_start(
    seaweed: SeaweedFS, bucket: Bucket, run_dir: Path
) -> None:
    async def sleep(_service: Service) -> None:
        await asyncio.sleep(0.2)

    async def later(_service: Service) -> None:
        for _ in range(50):
            if not os.listdir(run_dir):
                break
            await asyncio.sleep(0.1)

    url = seaweed.url(f"/{bucket.root}")
    command = [sys.executable, "-c", KILLED, url, str(run_dir)]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 9
    assert bucket.uploads() == ["big"]
    assert len(os.listdir(run_dir)) == 1
    on_s3(seaweed, "/elsewhere/", sleep, uploads_dir=run_dir)  # not its root
    assert bucket.uploads() == ["big"]
    on_s3(seaweed, f"/{bucket.root}", later, uploads_dir=run_dir)
    assert bucket.uploads() == []
    assert os.listdir(run_dir) == []


def test_a_large_object_in_one_call(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        data = bytes(range(256)) * (100 * 1024)
        await service.put("large", data, meta={"k": "v"}, if_none=True)
        assert bucket.get("large") == data
        with pytest.raises(ConflictError):
            await service.put("large", data, if_none=True)

    on_s3(seaweed, f"/{bucket.root}", work)


def test_a_key_that_is_too_long(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        key = "/".join(["n" * 200] * 6)
        assert await errno_of(service.put(key, b"x")) == errno.ENAMETOOLONG

    on_s3(seaweed, f"/{bucket.root}", work)


def test_a_reader_s_key_makes_it_read_only(seaweed: SeaweedFS, bucket: Bucket) -> None:
    bucket.put("a", b"x")

    async def work(service: Service) -> None:
        assert service.readonly
        assert await service.read("a", 0, 1) == b"x"
        assert await errno_of(service.put("a", b"y")) == errno.EROFS
        assert bucket.keys() == ["a"]

    reader = seaweed.reader
    on_s3(
        *(seaweed, f"/{bucket.root}", work),
        access_key_id=reader.access_key,
        secret_access_key=reader.secret_key,
    )


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"bucket": "no-such-bucket"}, "there is no such bucket: check bucket"),
        ({"access_key_id": "nobody"}, "does not know this key: check access_key_id"),
        ({"secret_access_key": "hush"}, "secret is wrong: check secret_access_key"),
        ({"endpoint": "http://127.0.0.1:9"}, "cannot be reached .*Connection refused"),
        ({"endpoint": "http://no-such-host.invalid"}, "cannot be reached"),
    ],
)
def test_what_is_wrong_with_the_url_is_said_at_start(
    seaweed: SeaweedFS, parameters: dict[str, Any], words: str
) -> None:
    started = time.monotonic()
    with pytest.raises(UsageError, match=words) as caught:
        asyncio.run(Service.open(remote(seaweed.url("/", **parameters))))
    assert time.monotonic() - started < 12
    assert "hush" not in str(caught.value)
    assert seaweed.secret_key not in str(caught.value)


def test_credentials_from_the_environment(
    seaweed: SeaweedFS, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(service: Service) -> None:
        await service.put("a", b"x")
        upload = await begin(service, "b")
        await asyncio.sleep(0.3)
        assert bucket.uploads() == ["b"]
        await upload.abort()
        assert bucket.keys() == ["a"]
        assert bucket.uploads() == []

    def start() -> None:
        on_s3(
            *(seaweed, f"/{bucket.root}", work),
            access_key_id=None,
            secret_access_key=None,
            region=None,
        )

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")  # where ~/.aws would be
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="no credentials: give them in the URL"):
        start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    start()


def test_a_server_without_conditions_is_found_out(
    seaweed: SeaweedFS, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that ignore If-Match answer as if it had held; this one is made to look so."""

    async def never(call: Awaitable[object]) -> bool:
        try:
            await call
        except Exception:  # noqa: BLE001 (the refusal that such a server would not give)
            return False
        return False

    monkeypatch.setattr(probe, "_refuses", never)

    async def work(service: Service) -> None:
        can = service.can
        assert (can.if_match, can.if_not_exists, can.read_if_match) == (False,) * 3
        bucket.put("a", b"theirs")
        with pytest.raises(ConflictError):
            await service.put("a", b"mine", if_none=True)
        with pytest.raises(ConflictError):
            await service.put("a", b"mine", if_match='"other"')
        info = await service.stat("a")
        assert info is not None
        await service.put("a", b"mine", if_match=info.etag)
        assert bucket.get("a") == b"mine"

    on_s3(seaweed, f"/{bucket.root}", work)


def test_many_calls_at_once(seaweed: SeaweedFS, bucket: Bucket) -> None:
    async def work(service: Service) -> None:
        keys = [f"k{number:03}" for number in range(200)]
        await asyncio.gather(*(service.put(key, key.encode()) for key in keys))
        read = await asyncio.gather(*(service.read(key, 0, 4) for key in keys))
        assert read == [key.encode() for key in keys]

    on_s3(seaweed, f"/{bucket.root}", work)
