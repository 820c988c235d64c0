# SPDX-License-Identifier: Apache-2.0
"""The daemon: one shared directory, one socket, one VMM after another.

One asyncio loop on the main thread watches the listener, the connection, the data plane's event
pipe and the signals. All of these are rare: no request of a guest passes here. While a VMM is
served others wait in the socket's backlog; whatever it does, and however it leaves, the next is
served.

The end (SIGTERM, SIGINT) has this order: nobody new gets in and the socket's path is free; the
queues stop, what they had taken is answered; data is written back; exit code 0, or 1 where writing
back failed. It runs on a helper thread, so that a second signal finds the loop listening and ends
the process at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ovfs import host, listener
from ovfs.config import FsBackend
from ovfs.errors import PeerError, UsageError
from ovfs.log import EventPipe
from ovfs.native import FileHandles, PlaneOptions
from ovfs.native.plane import EVENT_SIZE, MEM_SLOTS, Plane, decode_event, ring_probe
from ovfs.vhost_user.session import Session
from ovfs.vhost_user.socket import Connection, HungUpError, peer_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovfs.config import Config, RemoteBackend
    from ovfs.listener import Listener

log = logging.getLogger(__name__)

_BATCH = 32  # messages per wake-up: a VMM that floods the socket does not keep signals waiting
_FINISH_TIME = 10.0  # seconds that a remote share has for storing what it owes, once it is to end
_ACCEPT_PAUSE = 1.0  # seconds until the next try where the host is out of descriptors


def run(config: Config) -> int:
    """Serve until a signal ends it; returns the exit code.

    Raises:
        UsageError: the host does not allow what the configuration asks for.
    """
    error = ring_probe()
    if error:
        raise UsageError(host.io_uring_error(error))
    limit = host.raise_nofile(config.rlimit_nofile)
    events = EventPipe(decode_event, EVENT_SIZE)
    try:
        if isinstance(config.backend, FsBackend):
            return _run_local(config, config.backend, events, limit)
        return _run_remote(config, config.backend, events)
    finally:
        events.drain()
        events.close()


def _run_local(config: Config, backend: FsBackend, events: EventPipe, limit: int) -> int:
    root_fd = host.open_root(backend.root)
    try:
        handles = _file_handles(config.file_handles)
        options = replace(
            _plane_options(config, events.write_fd),
            root_fd=root_fd,
            fd_cache=host.fd_cache_size(limit),
            file_handles=handles,
        )
        with Plane(options) as plane:
            return asyncio.run(Daemon(config, plane, events, lambda: _sync(plane)).serve())
    finally:
        os.close(root_fd)


def _sync(plane: Plane) -> bool:
    try:
        plane.sync()
    except OSError as error:
        log.error("data could not be written back: %s", error.strerror)  # noqa: TRY400
        return False
    return True


def _run_remote(config: Config, backend: RemoteBackend, events: EventPipe) -> int:
    # Imported here: a local directory needs none of it, and starts the sooner.
    from ovfs.native.mailbox import Mailbox  # noqa: PLC0415
    from ovfs.remote.device import Device  # noqa: PLC0415

    device = Device(config, backend)
    mail_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        options = replace(
            _plane_options(config, events.write_fd),
            remote=True,
            mail_fd=mail_fd,
            posix_metadata=config.posix_metadata,
        )
        with Plane(options) as plane:
            device.start(Mailbox(plane))
            try:
                finish = partial(device.finish, _FINISH_TIME)
                return asyncio.run(Daemon(config, plane, events, finish).serve())
            finally:
                device.close()
    finally:
        os.close(mail_fd)


def _file_handles(wanted: FileHandles) -> FileHandles:
    """Return how nodes are found again, which without privileges is by descriptors."""
    if wanted is FileHandles.NEVER or host.may_open_by_handle():
        return wanted
    if wanted is FileHandles.MANDATORY:
        raise UsageError(
            "--inode-file-handles=mandatory needs CAP_DAC_READ_SEARCH: run as root, or use prefer"
        )
    log.warning(
        "without CAP_DAC_READ_SEARCH there are no file handles: each file that the guest knows "
        "costs a descriptor, and beyond the limit of those it gets ENFILE",
    )
    return FileHandles.NEVER


def _plane_options(config: Config, event_fd: int) -> PlaneOptions:
    """Return what every backend's plane is told; the rest is the backend's own."""
    return PlaneOptions(
        root_fd=-1,
        event_fd=event_fd,
        queues=1 + config.queues,
        fd_cache=0,
        cache=config.cache,
        attr_timeout=config.attr_timeout,
        entry_timeout=config.entry_timeout,
        writeback=config.writeback,
        readonly=config.readonly,
        xattr=config.xattr,
        posix_acl=config.posix_acl,
        allow_direct_io=config.allow_direct_io,
        posix_lock=config.posix_lock,
        flock=config.flock,
        poll=config.poll,
        plain_rings=config.plain_rings,
    )


class Daemon:
    """Serves VMMs on one socket. All methods run on the loop's thread, but ``_finish``."""

    def __init__(
        self, config: Config, plane: Plane, events: EventPipe, finish: Callable[[], bool]
    ) -> None:
        self._config = config
        self._plane = plane
        self._events = events
        self._store = finish
        self._stopping = asyncio.Event()
        self._listener: Listener | None = None
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._peer = ""
        self._dropped = 0

    async def serve(self) -> int:
        """Listen, serve one VMM after another until a signal comes, end cleanly."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGUSR1, self._log_stats)
        loop.add_reader(self._events.read_fd, self._on_events)
        self._listener = self._listen()
        # The guest has applied its own umask; the modes of what it creates are not ours to change.
        os.umask(0)
        log.info("listening on %s", self._listener.name)
        self._wait_for_vmm()
        await self._stopping.wait()
        return await self._shut_down()

    def _listen(self) -> Listener:
        config = self._config
        if config.socket_path is None:
            return listener.adopt(-1 if config.socket_fd is None else config.socket_fd)
        return listener.listen(config.socket_path, config.socket_mode, config.socket_group)

    def _wait_for_vmm(self) -> None:
        if self._listener is not None and not self._stopping.is_set():
            loop = asyncio.get_running_loop()
            loop.add_reader(self._listener.sock.fileno(), self._on_connect, self._listener)

    def _on_connect(self, listening: Listener) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock, _ = listening.sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("cannot accept a VMM: %s", error.strerror)
            loop.remove_reader(listening.sock.fileno())  # it stays readable: do not spin on it
            loop.call_later(_ACCEPT_PAUSE, self._wait_for_vmm)
            return
        loop.remove_reader(listening.sock.fileno())
        self._peer = peer_name(sock)
        log.debug("VMM connected: %s", self._peer)
        config = self._config
        self._connection = Connection(sock)
        self._session = Session(self._plane, 1 + config.queues, MEM_SLOTS, config.tag)
        loop.add_reader(
            self._connection.fileno(), self._on_message, self._connection, self._session
        )

    def _on_message(self, connection: Connection, session: Session) -> None:
        try:
            for _ in range(_BATCH):
                frame = connection.receive()
                if frame is None:
                    return
                reply = session.handle(frame.header, frame.body, frame.fds)
                if reply is not None:
                    connection.send(reply)
        except HungUpError as error:
            self._end_session(logging.INFO, str(error))
        except PeerError as error:
            self._end_session(logging.WARNING, f"{error}; its connection ends")
        except Exception:  # ours to mend, but no reason to deny the next VMM
            log.exception("internal error while serving %s", self._peer)
            self._end_session(logging.ERROR, "its connection ends")

    def _end_session(self, level: int, why: str) -> None:
        """Release all that the VMM had and wait for the next one."""
        connection, session = self._connection, self._session
        self._connection = self._session = None
        if connection is None or session is None:
            return
        log.log(level, "%s: %s", self._peer, why)
        asyncio.get_running_loop().remove_reader(connection.fileno())
        connection.close()
        _close_session(session)
        self._log_stats(logging.DEBUG)
        self._wait_for_vmm()

    def _on_events(self) -> None:
        if self._events.drain():
            self._end_session(logging.ERROR, "the device failed; its connection ends")
        if self._stopping.is_set():
            return  # the plane is the helper thread's now
        dropped = self._plane.stats().events_dropped
        if dropped != self._dropped:
            log.warning("%d log lines of the data plane were lost", dropped - self._dropped)
            self._dropped = dropped

    def _log_stats(self, level: int = logging.INFO) -> None:
        if not self._stopping.is_set():
            log.log(level, "%s", self._plane.stats())

    def _on_stop_signal(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            log.warning("%s again: ending at once, data may not be written back", number.name)
            os._exit(1)
        log.info("%s: ending", number.name)
        self._stopping.set()

    async def _shut_down(self) -> int:
        loop = asyncio.get_running_loop()
        if self._listener is not None:
            loop.remove_reader(self._listener.sock.fileno())
            self._listener.close()
        connection, session = self._connection, self._session
        self._connection = self._session = None
        if connection is None or session is None:
            return 0 if await asyncio.to_thread(self._store) else 1
        loop.remove_reader(connection.fileno())
        try:
            return await asyncio.to_thread(self._finish, session)
        finally:
            connection.close()
            loop.remove_reader(self._events.read_fd)

    def _finish(self, session: Session) -> int:
        """Stop the queues and write back; on a helper thread, while the loop leaves both alone."""
        session.stop()
        try:
            return 0 if self._store() else 1
        finally:
            _close_session(session)


def _close_session(session: Session) -> None:
    try:
        session.close()
    except OSError as error:
        log.error("cannot release what the VMM had: %s", error.strerror)  # noqa: TRY400
