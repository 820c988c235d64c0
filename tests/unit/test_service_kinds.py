# SPDX-License-Identifier: Apache-2.0
"""The storage service over WebDAV and FTP, real servers of both: directories that are some."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest

from ovfs.errors import UsageError
from ovfs.remote.service import Service
from tests.services.rclone import RcloneServe
from tests.unit.test_service import errno_of, keys_of, remote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

DATA = bytes(range(200))


@pytest.fixture(params=["webdav", "ftp"])
def server(request: pytest.FixtureRequest) -> RcloneServe:
    found: RcloneServe = request.getfixturevalue(request.param)
    return found


def on_server(server: RcloneServe, root: str, work: Callable[[Service], Awaitable[object]]) -> None:
    async def main() -> None:
        (server.files / root.strip("/")).mkdir(parents=True, exist_ok=True)
        service = await Service.open(remote(server.url(root)))
        try:
            await work(service)
        finally:
            await service.close()

    asyncio.run(main())


def test_objects_come_back(server: RcloneServe, bucket_root: str) -> None:
    files = server.files / bucket_root.strip("/")

    async def work(service: Service) -> None:
        assert sorted(files.iterdir()) == []
        await service.put("a/ä b", DATA)
        assert (files / "a" / "ä b").read_bytes() == DATA
        info = await service.stat("a/ä b")
        assert info is not None
        assert (info.size, info.is_dir, info.version != "") == (200, False, True)
        for offset, size in ((0, 200), (1, 3), (150, 50), (199, 1)):
            assert await service.read("a/ä b", offset, size) == DATA[offset : offset + size]
        for key in ("none", "none/", "a/ä b/c", "none/none"):
            assert await service.stat(key) is None
        for key in ("a", "a/"):
            found = await service.stat(key)
            assert found is not None
            assert (found.key, found.is_dir) == ("a/", True)
        await service.put("a/ä b", b"other")
        assert await service.read("a/ä b", 0, 5) == b"other"
        await service.delete("a/ä b")
        await service.delete("a/ä b")
        assert await errno_of(service.read("a/ä b", 0, 1)) == errno.ENOENT

    on_server(server, bucket_root, work)


def test_directories_are_real(server: RcloneServe, bucket_root: str) -> None:
    files = server.files / bucket_root.strip("/")

    async def work(service: Service) -> None:
        await service.make_dir("d/")
        await service.make_dir("d/")
        await service.put("d/e/f", b"x")
        await service.put("g", b"x")
        assert await keys_of(service) == ["d/", "g"]
        assert await keys_of(service, "d/") == ["d/e/"]
        assert await keys_of(service, "none/") == []
        assert {"d/e/f", "g"} <= set(await keys_of(service, recursive=True))
        # Both protocols would take what is in it along, or say that it is done and do nothing.
        assert await errno_of(service.delete("d/")) == errno.ENOTEMPTY
        assert (files / "d" / "e" / "f").exists()
        for key in ("d/e/f", "d/e/", "d/"):
            await service.delete(key)
        assert await keys_of(service) == ["g"]

    on_server(server, bucket_root, work)


def test_conditions_are_stood_in_for(server: RcloneServe, bucket_root: str) -> None:
    async def work(service: Service) -> None:
        can = service.can
        assert (can.if_match, can.if_not_exists, can.user_metadata) == (False,) * 3
        await service.put("a", b"one", if_none=True)
        assert await errno_of(service.put("a", b"two", if_none=True)) == errno.ESTALE
        info = await service.stat("a")
        assert info is not None
        if info.etag is not None:
            await service.put("a", b"two", if_match=info.etag)
            assert await errno_of(service.put("a", b"three", if_match=info.etag)) == errno.ESTALE
            assert await service.read("a", 0, 3) == b"two"

    on_server(server, bucket_root, work)


def test_what_each_can_do(webdav: RcloneServe, ftp: RcloneServe, bucket_root: str) -> None:
    async def on_webdav(service: Service) -> None:
        can = service.can
        assert (can.rename, can.copy, can.multipart, can.ranges) == (True, True, False, True)
        assert can.write_empty
        await service.put("a", b"x")
        await service.put("empty", b"")
        await service.rename("a", "b")
        await service.copy("b", "c")
        assert await keys_of(service) == ["b", "c", "empty"]

    async def on_ftp(service: Service) -> None:
        can = service.can
        assert (can.rename, can.copy, can.multipart) == (False, False, True)
        assert not can.ranges  # with this server
        assert not can.write_empty
        assert await errno_of(service.put("empty", b"")) == errno.EOPNOTSUPP
        upload = await service.writer("big")
        for _ in range(3):
            await upload.write(bytes(upload.part_size))
        await upload.commit()
        info = await service.stat("big")
        assert info is not None
        assert info.size == 24 << 20

    on_server(webdav, bucket_root, on_webdav)
    on_server(ftp, bucket_root, on_ftp)


def test_a_wrong_password_is_said_at_start(server: RcloneServe) -> None:
    url = server.url("/", password="hush")  # noqa: S106
    with pytest.raises(UsageError) as caught:
        asyncio.run(Service.open(remote(url)))
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("protocol", ["webdav", "ftp"])
def test_a_server_that_cannot_be_written_to_is_read_only(protocol: Any, run_dir: Path) -> None:
    (run_dir / "a").write_bytes(DATA)

    async def work(service: Service) -> None:
        assert service.readonly
        assert await keys_of(service) == ["a"]
        assert await service.read("a", 10, 20) == DATA[10:30]
        assert await errno_of(service.put("b", b"x")) == errno.EROFS

    with RcloneServe(protocol, directory=run_dir, options=["--read-only"]) as server:
        on_server(server, "/", work)
    assert [path.name for path in run_dir.iterdir()] == ["a"]
