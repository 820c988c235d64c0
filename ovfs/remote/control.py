# SPDX-License-Identifier: Apache-2.0
"""Where a daemon tells of its uploads and is asked to hurry, by ``ovfs status`` and ``ovfs drain``.

Lines of JSON, one request and one answer each, at daemons/TOKEN.sock:

    {"op": "status"}   {"ok": true, "queue": [ITEM, ...]}
    {"op": "drain"}    the same; uploads that wait for their time to be tried again start now
    anything else      {"ok": false, "error": TEXT}

The socket lies in a directory that only its user can enter, so there is no other check.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ovfs.remote.layout import Layout

_MAX_LINE = 1024
_MAX_ANSWER = 64 << 20
_IDLE = 60.0  # seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueueItem:
    """Something that is not stored yet."""

    file_id: str
    key: str
    size: int
    created_ns: int
    attempts: int = 0
    last_error: str | None = None


class Provider(Protocol):
    """Who knows what is to be stored."""

    def queue(self) -> Sequence[QueueItem]:
        """Return what is not stored yet, the oldest first."""

    def hurry(self) -> None:
        """Try at once what waits to be tried again, and look for what dead daemons left."""


class ControlServer:
    """Answers at a daemon's socket, on the running loop."""

    def __init__(self, layout: Layout, token: str, provider: Provider) -> None:
        self._layout = layout
        self._name = f"{token}.sock"
        self._provider = provider
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the socket cannot be made.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with _short_path(self._layout, self._name) as path:
                sock.bind(path)
            sock.listen()
            sock.setblocking(False)
            self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=_MAX_LINE)
        except BaseException:
            sock.close()
            raise

    async def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is None:
            return
        (self._layout.daemons / self._name).unlink(missing_ok=True)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine that runs has one
        self._tasks.add(task)
        try:
            while True:
                async with asyncio.timeout(_IDLE):  # wait_for can swallow a cancellation (3.11)
                    line = await reader.readline()
                    if not line:
                        break
                    writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                    await writer.drain()
        except (OSError, ValueError, TimeoutError) as error:  # ValueError: the line is too long
            log.debug("control: hung up: %s", error)
        except asyncio.CancelledError:
            log.debug("control: hung up: the daemon ends")
        finally:
            self._tasks.discard(task)
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = request["op"]
        except (ValueError, TypeError, KeyError):
            return {"ok": False, "error": 'not a line of the form {"op": "status"}'}
        if operation == "drain":
            self._provider.hurry()
        elif operation != "status":
            return {"ok": False, "error": "the operations are status and drain"}
        return {"ok": True, "queue": [asdict(item) for item in self._provider.queue()]}


def ask(layout: Layout, token: str, operation: str, timeout: float = 5.0) -> list[QueueItem] | None:
    """Ask a daemon; blocks. None if it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(timeout)
        try:
            with _short_path(layout, f"{token}.sock") as path:
                sock.connect(path)
            sock.sendall(json.dumps({"op": operation}).encode() + b"\n")
            with sock.makefile("rb") as answers:
                return _parse(answers.readline(_MAX_ANSWER))
        except OSError:
            return None


def _parse(line: bytes) -> list[QueueItem] | None:
    known = {one.name for one in fields(QueueItem)}
    try:
        answer = json.loads(line)
        return [
            QueueItem(**{name: value for name, value in item.items() if name in known})
            for item in answer["queue"]
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@contextlib.contextmanager
def _short_path(layout: Layout, name: str) -> Iterator[str]:
    """A path to a name in ``daemons`` that fits a socket address, however deep the cache lies."""
    fd = os.open(layout.daemons, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
