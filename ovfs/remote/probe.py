# SPDX-License-Identifier: Apache-2.0
"""Before anybody is served: is the service there, do the credentials do, and what can it really do?

What OpenDAL declares is what a service's interface has; whether the server at hand keeps to it is
tried out on an object of its own name, which is removed again. A server that ignores a condition
answers as if it had kept it, so only a refusal shows that it looks.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ovfs.errors import UsageError
from ovfs.remote import location, operators
from ovfs.remote.capabilities import Capabilities
from ovfs.remote.errors import FsError, code_of, describe, errno_of
from ovfs.remote.http_calls import HttpCalls, is_direct
from ovfs.remote.markers import Markers

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from opendal import AsyncOperator
    from opendal.options import WriteKwargs

    from ovfs.config import RemoteBackend

log = logging.getLogger(__name__)

_DEADLINE = 10.0
_TRIAL_DEADLINE = 20.0  # a dozen calls; a server that has answered so far is only slow
_TIDY_DEADLINE = 2.0
_META = {"ovfs-probe": "1"}
_NO_ETAG = '"00000000000000000000000000000000"'
_HINTS = {
    "NoSuchBucket": "there is no such bucket: check bucket",
    "InvalidAccessKeyId": "the server does not know this key: check access_key_id",
    "SignatureDoesNotMatch": "the key's secret is wrong: check secret_access_key (and region)",
    "AuthorizationHeaderMalformed": "the region is wrong: check region",
    "PermanentRedirect": "the bucket is in another region: check region and endpoint",
    "RequestTimeTooSkewed": "this host's clock is wrong",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A service that was reached."""

    ops: operators.Operators
    calls: HttpCalls
    markers: Markers
    can: Capabilities
    readonly: bool


async def start(backend: RemoteBackend, readonly: bool) -> Found:
    """Reach a service and try it out, without a trace if ``readonly``.

    Raises:
        UsageError: the service cannot be used; one line that names no secret.
    """
    where = location.place(backend)
    try:
        ops = operators.build(backend)
    except Exception as exc:  # noqa: BLE001 (whatever it is, it keeps the daemon from starting)
        raise UsageError(f"{where}: {_config_words(exc, backend)}") from None
    can = Capabilities.declared(ops.control.capability())
    if not can.read:
        raise UsageError(f"{where}: OpenDAL cannot read from this service")
    try:
        async with asyncio.timeout(_DEADLINE):
            await _reach(ops.start, can)
    except Exception as exc:  # noqa: BLE001 (whatever it is, it keeps the daemon from starting)
        raise UsageError(f"{where}: {_reach_words(exc)}") from None
    calls = HttpCalls()
    markers = Markers(ops.control, calls)
    if readonly or not can.write:
        # What was written earlier may have metadata, which is read without a trial.
        readable = await _signed_reads(ops.start, can)
        can = replace(can, write=False, dir_metadata=readable, ranges=backend.scheme != "ftp")
        return Found(ops, calls, markers, can, readonly=True)
    try:
        found = await _try_out(ops.start, Markers(ops.start, calls), can)
    except Exception as exc:  # noqa: BLE001 (whatever it is, it keeps the daemon from starting)
        raise UsageError(f"{where}: cannot be written: {describe(exc)}") from None
    if found is None:
        log.warning("%s: these credentials may only read; writes are answered EROFS", where)
        readable = await _signed_reads(ops.start, can)
        can = replace(can, write=False, dir_metadata=readable, ranges=backend.scheme != "ftp")
        return Found(ops, calls, markers, can, readonly=True)
    return Found(ops, calls, markers, found, readonly=False)


async def _reach(op: AsyncOperator, can: Capabilities) -> None:
    """Ask for one name, and for one that cannot be there.

    Listing tells a wrong bucket, where a stat says "not found" to anything; and a server of another
    kind may answer anything with a page that says that it works.
    """
    if can.list:
        async for _ in await op.list("", limit=1 if can.start_after else None):
            break
    try:
        await op.stat(_probe_key())
    except Exception as exc:
        if errno_of(exc) == errno.ENOENT or (can.list and errno_of(exc) == errno.EACCES):
            return
        raise
    raise FsError(errno.EIO, "it finds what is not there: check endpoint")


async def _signed_reads(op: AsyncOperator, can: Capabilities) -> bool:
    """Return whether the metadata of markers can be asked for (``markers.py``)."""
    if not (can.presign and can.user_metadata):
        return False
    try:
        request = await op.presign_stat(f"{_probe_key()}/", 60)
    except Exception:  # noqa: BLE001 (a service that signs, but not this)
        return False
    return is_direct(request.url)


async def _try_out(op: AsyncOperator, markers: Markers, can: Capabilities) -> Capabilities | None:
    """Return what the service was seen to do; None: it lets nothing be written."""
    key = _probe_key()
    options: WriteKwargs = {}
    if can.user_metadata:
        options["user_metadata"] = _META
    if can.if_not_exists:
        options["if_not_exists"] = True
    try:
        async with asyncio.timeout(_DEADLINE):
            await op.write(key, b"12", **options)
    except Exception as exc:
        # ENOENT: a WebDAV server may say so where it keeps what it serves from changing.
        if errno_of(exc) in {errno.EACCES, errno.EROFS, errno.EOPNOTSUPP, errno.ENOENT}:
            return None
        raise
    try:
        async with asyncio.timeout(_TRIAL_DEADLINE):
            can = await _try_conditions(op, can, key)
            return replace(can, dir_metadata=await _marks(op, markers, can, f"{key}/"))
    except TimeoutError:
        log.warning("trying the service out takes too long: no conditions, no metadata are used")
        return _relied_on_nothing(can)
    finally:
        await _remove(op, key)


def _relied_on_nothing(can: Capabilities) -> Capabilities:
    return replace(
        can,
        if_match=False,
        if_not_exists=False,
        read_if_match=False,
        delete_if_match=False,
        append=False,
        user_metadata=False,
    )


async def _marks(op: AsyncOperator, markers: Markers, can: Capabilities, key: str) -> bool:
    """Return whether directory markers take metadata and give it back."""
    if not await _signed_reads(op, can):
        return False
    try:
        await markers.put(key, _META)
        found = await markers.stat(key)
    except Exception:  # noqa: BLE001 (then they do not)
        return False
    finally:
        await _remove(op, key)
    return found is not None and _same(found.meta)


async def _remove(op: AsyncOperator, key: str) -> None:
    try:
        async with asyncio.timeout(_TIDY_DEADLINE):
            await op.delete(key)
    except Exception as exc:  # noqa: BLE001 (whatever it was, the daemon can do its work)
        log.warning("cannot remove %s, written to try the service out: %s", key, describe(exc))


async def _try_conditions(op: AsyncOperator, can: Capabilities, key: str) -> Capabilities:
    # OpenDAL's ftp tells a server the offset too early for some, which then read from the start.
    ranges = await op.read(key, offset=1, size=1) == b"2"
    user_metadata = can.user_metadata and _same((await op.stat(key)).user_metadata)
    if_not_exists = can.if_not_exists and await _refuses(op.write(key, b"2", if_not_exists=True))
    etag = (await op.stat(key)).etag
    if etag is None or etag.startswith("W/"):
        if_match = read_if_match = delete_if_match = False
    else:
        if_match = (
            can.if_match
            and not await _refuses(op.write(key, b"34", if_match=etag))
            and await _refuses(op.write(key, b"2", if_match=etag))
        )
        if not if_match:
            await op.write(key, b"34")
        read_if_match = can.read_if_match and await _refuses(op.read(key, if_match=etag))
        delete_if_match = can.delete and await _refuses(op.delete(key, if_match=etag))
        if can.delete and not delete_if_match:
            await op.write(key, b"34")
    if (can.if_match, can.if_not_exists) != (if_match, if_not_exists):
        log.warning(
            "the service does not hold writes to a condition: another writer is looked for just "
            "before each, and one that comes in between is overwritten"
        )
    return replace(
        can,
        ranges=ranges,
        if_match=if_match,
        if_not_exists=if_not_exists,
        read_if_match=read_if_match,
        delete_if_match=delete_if_match,
        append=False,  # some declare it and replace (SeaweedFS) or fail (ftp); nobody here appends
        write_empty=can.write_empty and await _writes_empty(op, key),
        user_metadata=user_metadata,
    )


async def _writes_empty(op: AsyncOperator, key: str) -> bool:
    """Return whether an empty write makes an empty object: over ftp it does nothing."""
    await op.write(key, b"")
    return (await op.stat(key)).content_length == 0


async def _refuses(call: Awaitable[object]) -> bool:
    """Return whether the service sees that the call's condition does not hold."""
    try:
        await call
    except Exception as exc:  # noqa: BLE001 (a condition that breaks a server is done without)
        number = errno_of(exc)
        if number in {errno.ESTALE, errno.EEXIST}:
            return True
        if number != errno.EOPNOTSUPP:
            log.warning("a trial of the service failed: %s", describe(exc))
    return False


async def _fails_with(number: int, call: Awaitable[object]) -> bool:
    try:
        await call
    except Exception as exc:
        if errno_of(exc) == number:
            return True
        raise
    return False


def _same(meta: dict[str, str] | None) -> bool:
    return meta is not None and _META.items() <= meta.items()


def _probe_key() -> str:
    return f".ovfs-probe-{secrets.token_hex(8)}"


def _config_words(exc: Exception, backend: RemoteBackend) -> str:
    """Return OpenDAL's own words about a configuration, without the configuration's values."""
    first = str(exc).partition("\n")[0].rpartition(" => ")[2]
    for value in sorted(backend.parameters.values(), key=len, reverse=True):
        first = first.replace(value, "...")
    return first[:200] or describe(exc)


def _reach_words(exc: Exception) -> str:
    hint = _HINTS.get(code_of(exc) or "")
    if hint:
        return hint
    number = errno_of(exc)
    if "load signing credential" in str(exc):
        return "no credentials: give them in the URL, in --backend-file or the environment"
    if number == errno.ENOENT:
        return "there is nothing at this address: check endpoint, bucket and root"
    if number == errno.EACCES:
        return f"{describe(exc)}: check the credentials"
    return describe(exc)
