# SPDX-License-Identifier: Apache-2.0
"""A client's connection through the fault proxy: one exchange after the other, as the rules say."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, Protocol

from tests.services.faults import (
    S3_CODES,
    Cut,
    Delay,
    DropResponse,
    Hang,
    Reset,
    Rule,
    Slow,
    Status,
)
from tests.services.http_wire import CHUNK, Head, body, response_body, s3_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINGER_RESET: Final = struct.pack("ii", 1, 0)


class Judge(Protocol):
    """What an exchange asks of the proxy."""

    def judge(self, request: Head) -> Rule | None:
        """The rule that takes a request."""

    async def connect(self) -> Pipe:
        """A new connection to the server."""


class Pipe:
    """A connection: its two halves, and the ways to end it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Sends all of it."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Ends it so that the peer gets ECONNRESET."""
        raw: socket.socket | None = self.writer.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.writer.transport.abort()

    def close(self) -> None:
        """Ends it in good order."""
        self.writer.close()


class HungUpError(Exception):
    """The client's connection is to be reset."""


class Exchange:
    """One client connection: requests one after the other, each with what becomes of it."""

    def __init__(self, proxy: Judge, client: Pipe) -> None:
        self._proxy = proxy
        self._client = client
        self._server: Pipe | None = None

    def close(self) -> None:
        """Ends the connection to the server."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def serve_one(self) -> bool:
        """Takes one request; says whether another may come."""
        request = await Head.read(self._client.reader)
        if request is None:
            return False
        rule = self._proxy.judge(request)
        fault = rule.fault if rule else None
        match fault:
            case Reset():
                raise HungUpError
            case Status():
                return await self._refuse(request, fault)
            case Hang(forwarded=False):
                await self._drain(request)
                await self._hang(rule)
            case Delay():
                await asyncio.sleep(fault.seconds)
            case _:
                pass
        return await self._pass_on(request, rule)

    async def _hang(self, rule: Rule | None) -> None:
        """Waits until the rule goes or the client does, whose next byte can only be its end."""
        assert rule is not None
        waits = [
            asyncio.ensure_future(rule.released.wait()),
            asyncio.ensure_future(self._client.reader.read(1)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        raise HungUpError

    async def _drain(self, request: Head) -> None:
        """Reads a request's body and throws it away."""
        if "100-continue" not in request.headers.get("expect", "").lower():
            async for _ in body(self._client.reader, request):
                pass

    async def _refuse(self, request: Head, fault: Status) -> bool:
        await self._drain(request)
        await asyncio.sleep(fault.after)
        code = fault.code or S3_CODES.get(fault.status, "InternalError")
        await self._client.send(s3_error(fault.status, code, request, dict(fault.headers)))
        return "expect" not in request.headers and not request.closes

    async def _pass_on(self, request: Head, rule: Rule | None) -> bool:
        """Forwards a request and its response, the response with what the rule does to it."""
        if self._server is None or self._server.reader.at_eof():
            self._server = await self._proxy.connect()
        server = self._server
        await server.send(request.raw)
        # The response may come before the body has gone: a 100 to start it, or an early refusal.
        sending = asyncio.ensure_future(self._send_body(server, request))
        try:
            response = await Head.read(server.reader)
            while response is not None and response.status < 200:
                await self._client.send(response.raw)
                response = await Head.read(server.reader)
            if response is None:
                raise HungUpError
            whole = await self._respond(server, request, response, rule)
            again = whole and sending.done() and not request.closes and not response.closes
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return again

    async def _send_body(self, server: Pipe, request: Head) -> None:
        async for piece in body(self._client.reader, request):
            await server.send(piece)

    async def _respond(
        self, server: Pipe, request: Head, response: Head, rule: Rule | None
    ) -> bool:
        """Passes a response on; says whether it was whole."""
        fault = rule.fault if rule else None
        pieces = response_body(server.reader, request, response)
        match fault:
            case DropResponse():
                async for _ in pieces:
                    pass
                raise HungUpError
            case Hang():
                await self._hang(rule)
            case Cut():
                return await self._cut(response, pieces, fault, rule)
            case Slow():
                await self._client.send(response.raw)
                await self._trickle(pieces, fault)
            case _:
                await self._client.send(response.raw)
                async for piece in pieces:
                    await self._client.send(piece)
        return True

    async def _cut(
        self, response: Head, pieces: AsyncIterator[bytes], fault: Cut, rule: Rule | None
    ) -> bool:
        await self._client.send(response.raw)
        left = fault.length
        async for piece in pieces:
            if len(piece) > left or left == 0:
                await self._client.send(piece[:left])
                if fault.how == "hang":
                    await self._hang(rule)
                if fault.how == "reset":
                    raise HungUpError
                return False
            left -= len(piece)
            await self._client.send(piece)
        return True

    async def _trickle(self, pieces: AsyncIterator[bytes], fault: Slow) -> None:
        step = max(1, min(CHUNK, int(fault.bytes_per_second / 20)))
        async for piece in pieces:
            for start in range(0, len(piece), step):
                part = piece[start : start + step]
                await asyncio.sleep(len(part) / fault.bytes_per_second)
                await self._client.send(part)
