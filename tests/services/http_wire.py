# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 messages as bytes, unchanged: where one ends and the next begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHUNK: Final = 1 << 16
HEAD_LIMIT: Final = 1 << 20


class WireError(Exception):
    """Not HTTP/1.1 as it is understood here."""


@dataclass(frozen=True, slots=True)
class Head:
    """The start line and the headers of a message.

    Attributes:
        raw: As they came, the empty line included.
        words: The start line's three words.
        headers: By name in lower case; of several, the last.
    """

    raw: bytes = field(repr=False)
    words: tuple[str, str, str]
    headers: dict[str, str]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self | None:
        """Reads one; None where the peer has closed instead.

        Raises:
            WireError: It is none, or cut off.
        """
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise WireError(f"a head that ends early: {error.partial[:80]!r}") from error
            return None
        start, *lines = raw[:-4].decode("latin-1").split("\r\n")
        words = start.split(" ", 2)
        if len(words) == 2:  # a status without its reason
            words.append("")
        if len(words) != 3:
            raise WireError(f"no start line: {start[:80]!r}")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return cls(raw, (words[0], words[1], words[2]), headers)

    @property
    def method(self) -> str:
        """Of a request."""
        return self.words[0]

    @property
    def target(self) -> str:
        """Of a request: path and query, percent-decoded."""
        return unquote(self.words[1])

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.words[1])

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this message."""
        return self.headers.get("connection", "").lower() == "close"


async def body(
    reader: asyncio.StreamReader, head: Head, *, until_close: bool = False
) -> AsyncIterator[bytes]:
    """The body of a message as it is on the wire, chunk sizes included, piece by piece.

    Args:
        reader: The connection, behind the head.
        head: The head.
        until_close: Without a length, the body goes on until the peer closes, not: is empty.

    Raises:
        asyncio.IncompleteReadError: The peer closed in the middle.
    """
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        async for piece in _chunked(reader):
            yield piece
    elif "content-length" in head.headers:
        async for piece in _counted(reader, int(head.headers["content-length"])):
            yield piece
    elif until_close:
        while piece := await reader.read(CHUNK):
            yield piece


async def response_body(
    reader: asyncio.StreamReader, request: Head, response: Head
) -> AsyncIterator[bytes]:
    """The body of a response, which depends on the request too; arguments and errors as `body`."""
    if request.method != "HEAD" and response.status not in {204, 304}:
        async for piece in body(reader, response, until_close=True):
            yield piece


async def _counted(reader: asyncio.StreamReader, left: int) -> AsyncIterator[bytes]:
    while left:
        piece = await reader.read(min(CHUNK, left))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    size = -1
    while size:
        line = await reader.readuntil(b"\n")
        yield line
        size = int(line.partition(b";")[0], 16)
        if size:
            async for piece in _counted(reader, size + 2):
                yield piece
    trailer = b""
    while trailer != b"\r\n":
        trailer = await reader.readuntil(b"\n")
        yield trailer


def s3_error(status: int, code: str, request: Head, more: dict[str, str]) -> bytes:
    """A whole response with an error as S3 has it; to HEAD, without the body."""
    reason = HTTPStatus(status).phrase
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{reason}, says the fault proxy.</Message>"
        "<RequestId>0000000000000000</RequestId></Error>"
    ).encode()
    headers = {"Content-Type": "application/xml", "Content-Length": str(len(text)), **more}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode()
    return answer if request.method == "HEAD" else answer + text
