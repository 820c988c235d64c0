# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy in front of a service that does what networks and servers do on a bad day.

    with FaultProxy(seaweed.port) as proxy:
        url = seaweed.url(root, endpoint=proxy.endpoint)
        with proxy.fault(Status(503), method="PUT", target="/name", times=2) as rule:
            ...
        assert rule.hits == 2

Requests are forwarded byte by byte as they came, the Host header included, since that is signed.
The first rule that takes a request decides what becomes of it; without one it passes. Every client
connection has a connection of its own to the server. All of it runs on one thread with an event
loop; the methods are for any other thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.services.exchange import Exchange, HungUpError, Pipe
from tests.services.faults import Fault, Rule
from tests.services.http_wire import HEAD_LIMIT, Head, WireError
from tests.services.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that has come to the proxy.

    Attributes:
        at: When, as time.monotonic has it.
        fault: What was done to it.
    """

    method: str
    target: str
    headers: dict[str, str]
    at: float
    fault: Fault | None


class FaultProxy:
    """A running proxy. A context manager.

    Args:
        port: The server's, on this host.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._rules: list[Rule] = []  # on the loop's thread alone
        self._seen: list[Seen] = []  # appended on the loop's thread, copied on any
        self._pipes: set[Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fault-proxy", daemon=True
        )
        self._server: asyncio.Server | None = None
        self.port = 0

    # For the tests

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.clear()
        self.down()
        self._do(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """The proxy's address, in place of the server's."""
        return f"http://{LOOPBACK}:{self.port}"

    def add(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        target: str = "",
        times: int | None = None,
        skip: int = 0,
    ) -> Rule:
        """Adds a rule behind those that are there.

        Args:
            fault: What happens.
            method: To requests of this method; several with `|` between them.
            target: To requests with a match of this expression in path and query, decoded.
            times: To so many requests; None: to all from now on.
            skip: After so many that pass.
        """
        rule = Rule(fault, method, target, times, skip)
        self._call(lambda: self._rules.append(rule))
        return rule

    def remove(self, rule: Rule) -> None:
        """Takes a rule away; requests that hang by it are reset."""

        def remove() -> None:
            if rule in self._rules:
                self._rules.remove(rule)
            rule.released.set()

        self._call(remove)

    @contextlib.contextmanager
    def fault(self, fault: Fault, **match: Any) -> Iterator[Rule]:
        """A rule that holds inside a `with`; arguments as `add` takes them."""
        rule = self.add(fault, **match)
        try:
            yield rule
        finally:
            self.remove(rule)

    def clear(self) -> None:
        """Takes all rules away."""

        def clear() -> None:
            for rule in self._rules:
                rule.released.set()
            self._rules.clear()

        self._call(clear)

    def down(self) -> None:
        """Refuses connections, and resets those that are there."""
        self._do(self._down())

    def up(self) -> None:
        """Accepts connections, on the same port as before."""
        self._do(self._up())

    def reset_all(self) -> None:
        """Resets the connections that are there."""
        self._call(self._reset_all)

    def seen(self, method: str | None = None, target: str = "") -> list[Seen]:
        """Requests that have come so far: of a method, with a text in path or query."""
        return [
            seen
            for seen in self._seen.copy()
            if method in {None, seen.method} and target in seen.target
        ]

    def forget_seen(self) -> None:
        """Empties what `seen` returns."""
        self._call(self._seen.clear)

    # Between the threads

    def _do(self, task: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(30.0)

    def _call(self, function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        self._do(call())

    # On the loop's thread

    async def _up(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, LOOPBACK, self.port, limit=HEAD_LIMIT, reuse_address=True
            )
            self.port = int(self._server.sockets[0].getsockname()[1])

    async def _down(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._reset_all()

    async def _finish(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports close in callbacks of their own

    def _reset_all(self) -> None:
        for pipe in self._pipes:
            pipe.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Pipe(reader, writer)
        exchange = Exchange(self, client)
        self._pipes.add(client)
        try:
            while await exchange.serve_one():
                pass
        except (HungUpError, WireError, OSError, EOFError):
            # A rule wants it, or one end has hung up, and the other goes with it.
            client.reset()
        finally:
            client.close()
            exchange.close()
            self._pipes.discard(client)
            self._tasks.discard(task)

    def judge(self, request: Head) -> Rule | None:
        """The rule that takes a request; for the exchanges."""
        rule = next((rule for rule in self._rules if rule.takes(request)), None)
        fault = rule.fault if rule else None
        self._seen.append(
            Seen(request.method, request.target, request.headers, time.monotonic(), fault)
        )
        return rule

    async def connect(self) -> Pipe:
        """A connection to the server; for the exchanges."""
        return Pipe(*await asyncio.open_connection(LOOPBACK, self._upstream, limit=HEAD_LIMIT))
