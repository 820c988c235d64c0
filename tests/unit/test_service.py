# SPDX-License-Identifier: Apache-2.0
"""The storage service on OpenDAL's memory, which lacks most of what a service can have."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pytest

from ovfs.config import RemoteBackend, parse_backend
from ovfs.errors import UsageError
from ovfs.remote.errors import ConflictError, FsError
from ovfs.remote.service import ObjectInfo, Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def remote(url: str) -> RemoteBackend:
    backend = parse_backend(url)
    assert isinstance(backend, RemoteBackend)
    return backend


def on_memory(work: Callable[[Service], Awaitable[T]], *, readonly: bool = False) -> T:
    async def main() -> T:
        service = await Service.open(remote("memory://"), readonly=readonly)
        try:
            return await work(service)
        finally:
            await service.close()

    return asyncio.run(main())


async def keys_of(service: Service, prefix: str = "", **options: object) -> list[str]:
    return sorted([info.key async for info in service.list(prefix, **options)])  # type: ignore[arg-type]


async def errno_of(call: Awaitable[object]) -> int:
    with pytest.raises(FsError) as caught:
        await call
    assert "\n" not in str(caught.value)
    return caught.value.errno


def test_what_memory_can_do() -> None:
    async def work(service: Service) -> None:
        can = service.can
        assert (can.read, can.write, can.list, can.delete, can.create_dir) == (True,) * 5
        assert (can.rename, can.copy, can.append, can.multipart) == (False,) * 4
        assert (can.if_match, can.if_not_exists) == (False, True)
        assert (can.user_metadata, can.dir_metadata) == (False, False)
        assert (service.scheme, service.identity, service.readonly) == (
            "memory",
            "memory://?root=/",
            False,
        )
        assert await keys_of(service, recursive=True) == []  # the probe has left nothing

    on_memory(work)


def test_objects_come_back() -> None:
    async def work(service: Service) -> None:
        assert await service.stat("a/b") is None
        await service.put("a/b", b"0123456789")
        assert await service.stat("a/b") == ObjectInfo("a/b", False, 10, 0, None, "", None)
        assert await service.stat("a") is None
        assert await service.stat("a/") == ObjectInfo("a/", True)
        assert await service.stat("") == ObjectInfo("", True)
        assert await service.read("a/b", 0, 10) == b"0123456789"
        assert await service.read("a/b", 3, 4) == b"3456"
        assert await service.read("a/b", 9, 0) == b""
        await service.put("a/b", b"")
        assert await service.stat("a/b") == ObjectInfo("a/b", False, 0, 0, None, "", None)
        await service.delete("a/b")
        await service.delete("a/b")
        assert await service.stat("a/b") is None
        assert await errno_of(service.read("a/b", 0, 1)) == errno.ENOENT

    on_memory(work)


def test_listing() -> None:
    async def work(service: Service) -> None:
        for key in ("a", "b/c", "b/d/e", "bb"):
            await service.put(key, b"x")
        await service.make_dir("b/")
        await service.make_dir("m/")
        assert await keys_of(service) == ["a", "b/", "bb", "m/"]
        assert await keys_of(service, "b/") == ["b/c", "b/d/"]
        assert await keys_of(service, "b/", with_self=True) == ["b/", "b/c", "b/d/"]
        assert await keys_of(service, "m/") == []
        assert await keys_of(service, "none/") == []
        assert await keys_of(service, recursive=True) == ["a", "b/", "b/c", "b/d/e", "bb", "m/"]
        assert await keys_of(service, recursive=True, start_after="b/c") == ["b/d/e", "bb", "m/"]
        assert len(await keys_of(service, limit=2)) == 2
        assert await keys_of(service, limit=0) == []

    on_memory(work)


def test_a_listing_longer_than_a_batch() -> None:
    async def work(service: Service) -> None:
        names = sorted(f"d/{number:04}" for number in range(1234))
        await asyncio.gather(*(service.put(name, b"x") for name in names))
        assert await keys_of(service, "d/") == names
        assert len(await keys_of(service, "d/", limit=1000)) == 1000

    on_memory(work)


def test_conditions() -> None:
    async def work(service: Service) -> None:
        await service.put("a", b"first", if_none=True)
        for again in (b"second", b""):
            with pytest.raises(ConflictError):
                await service.put("a", again, if_none=True)
        with pytest.raises(ConflictError):  # there are no etags here, so none is the right one
            await service.put("a", b"second", if_match='"x"')
        with pytest.raises(ConflictError):
            await service.delete("a", if_match='"x"')
        assert await service.read("a", 0, 5) == b"first"
        # Where the service has no condition of its own, a look before stands in for it.
        service.can = replace(service.can, if_not_exists=False)
        with pytest.raises(ConflictError):
            await service.put("a", b"second", if_none=True)
        await service.put("b", b"second", if_none=True)

    on_memory(work)


def test_what_the_service_lacks_is_said_so() -> None:
    async def work(service: Service) -> None:
        await service.put("a", b"x")
        assert await errno_of(service.copy("a", "b")) == errno.EOPNOTSUPP
        assert await errno_of(service.rename("a", "b")) == errno.EOPNOTSUPP
        assert await errno_of(service.put("a", b"x", meta={"k": "v"})) == errno.EOPNOTSUPP
        assert await errno_of(service.make_dir("d/", meta={"k": "v"})) == errno.EOPNOTSUPP
        assert await errno_of(service.writer("a")) == errno.EOPNOTSUPP
        service.can = replace(service.can, list=False)
        assert await errno_of(keys_of(service)) == errno.EOPNOTSUPP

    on_memory(work)


def test_readonly_is_not_even_tried() -> None:
    async def work(service: Service) -> None:
        assert service.readonly
        assert await errno_of(service.put("a", b"")) == errno.EROFS
        assert await errno_of(service.writer("a")) == errno.EROFS
        assert await errno_of(service.delete("a")) == errno.EROFS
        assert await errno_of(service.copy("a", "b")) == errno.EROFS
        assert await errno_of(service.rename("a", "b")) == errno.EROFS
        assert await errno_of(service.make_dir("a/")) == errno.EROFS
        assert await service.stat("a") is None
        assert await keys_of(service) == []

    on_memory(work, readonly=True)


def test_a_shorter_object_is_another() -> None:
    async def work(service: Service) -> None:
        await service.put("a", b"12345")
        for offset, size in ((0, 6), (4, 2), (5, 1), (100, 10)):
            with pytest.raises(ConflictError):
                await service.read("a", offset, size)

    on_memory(work)


def test_keys_that_opendal_would_change_are_refused_everywhere() -> None:
    async def work(service: Service) -> None:
        for key, number in ((" a", errno.EINVAL), ("a//b", errno.EINVAL), ("\udcff", errno.EILSEQ)):
            for call in (
                service.stat(key),
                service.read(key, 0, 1),
                service.put(key, b""),
                service.delete(key),
                service.make_dir(key + "/"),
                keys_of(service, key + "/"),
            ):
                assert await errno_of(call) == number
        assert await keys_of(service, recursive=True) == []

    on_memory(work)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://?bucket=b&endpoint=http://127.0.0.1:1&access_key_id=a&secret_access_key=hush",
         "s3:// at http://127.0.0.1:1: the service cannot be reached .*Connection refused"),
        ("webdav://?root=/&password=hush", "webdav://: endpoint is empty"),
        ("azblob://?container=hush", "azblob://: endpoint is empty"),
        ("ftp://?endpoint=nothing://hush:hush@h", "ftp:// at nothing://h: "),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_one_line(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        asyncio.run(Service.open(remote(url)))
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)
