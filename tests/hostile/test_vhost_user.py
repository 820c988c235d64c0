# SPDX-License-Identifier: Apache-2.0
"""vhost-user conversations spoilt at random, from seeds; after each the next VMM is served."""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING, Final

import pytest

from tests.hostile.mangle import mangled
from tests.vmm import GuestMemory, Request, Ring, Session
from tests.vmm import messages as wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.prey import Prey

SEEDS: Final = 120

Message = tuple[bytes, tuple[int, ...]]


@contextlib.contextmanager
def _conversation() -> Iterator[list[Message]]:
    """All that a VMM says to bring two rings up, change its memory and leave."""
    with GuestMemory() as memory, contextlib.ExitStack() as stack:
        said: list[Message] = []

        def say(request: Request, payload: bytes = b"", *fds: int) -> None:
            said.append((wire.pack(request, payload), fds))

        say(Request.GET_FEATURES)
        say(Request.GET_PROTOCOL_FEATURES)
        say(Request.SET_PROTOCOL_FEATURES, wire.u64(1 << 0 | 1 << 13 | 1 << 15 | 1 << 16))
        say(Request.GET_QUEUE_NUM)
        say(Request.GET_MAX_MEM_SLOTS)
        say(Request.SET_OWNER)
        say(Request.SET_FEATURES, wire.u64(1 << 32 | 1 << 30 | 1 << 29 | 1 << 28))
        regions = list(memory.regions.values())
        fds = [memory.fd(at) for at in memory.regions]
        say(Request.SET_MEM_TABLE, wire.mem_table(regions), *fds)
        for index in (0, 1):
            ring = Ring(memory, 64)
            stack.callback(ring.close)
            say(Request.SET_VRING_NUM, wire.vring_state(index, 64))
            say(Request.SET_VRING_BASE, wire.vring_state(index, 0))
            desc, used = memory.user_addr(ring.desc_addr), memory.user_addr(ring.used_addr)
            avail = memory.user_addr(ring.avail_addr)
            say(Request.SET_VRING_ADDR, wire.vring_addr(index, desc, used, avail))
            say(Request.SET_VRING_CALL, wire.u64(index), ring.call_fd)
            say(Request.SET_VRING_KICK, wire.u64(index), ring.kick_fd)
            say(Request.SET_VRING_ENABLE, wire.vring_state(index, 1))
        say(Request.SET_STATUS, wire.u64(15))
        say(Request.REM_MEM_REG, wire.mem_slot(regions[2]))
        say(Request.ADD_MEM_REG, wire.mem_slot(regions[2]), fds[2])
        say(Request.GET_VRING_BASE, wire.vring_state(1, 0))
        say(Request.RESET_DEVICE)
        yield said


def _spoil(dice: random.Random, said: list[Message]) -> list[Message]:
    out = list(said)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(out))
        data, fds = out[at]
        match dice.randrange(9):
            case 0 | 1:
                out[at] = (mangled(dice, data), fds)
            case 2 | 3:  # the payload alone, so that its handler is reached
                payload = mangled(dice, data[12:])
                flags = wire.VERSION | dice.choice((0, wire.FLAG_NEED_REPLY))
                out[at] = (wire.pack(int.from_bytes(data[:4], "little"), payload, flags), fds)
            case 4:
                out[at] = (data, fds[:-1])
            case 5:
                spare = [fd for _, more in said for fd in more]
                out[at] = (data, (*fds, *dice.sample(spare, dice.randint(1, 3))))
            case 6:
                del out[at]
            case 7:
                out.insert(dice.randrange(len(out)), out[at])
            case _:
                other = dice.randrange(len(out))
                out[at], out[other] = out[other], out[at]
        if not out:
            break
    return out


def _tell(prey: Prey, said: list[Message]) -> None:
    """Says it all, without waiting for an answer to anything, and reads what came."""
    with Session.connect(prey.daemon.socket, timeout=5.0) as session:
        for data, fds in said:
            with contextlib.suppress(ConnectionError):
                if data:
                    session.send_raw(data, fds)
        session.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while session.sock.recv(4096):
                pass


def _idle_fds(prey: Prey) -> int:
    with Session.connect(prey.daemon.socket) as probe:  # answered, so the one before is done with
        probe.get_features()
        return prey.daemon.fds()


def test_the_conversation_itself_is_right(prey: Prey) -> None:
    """Else spoiling it would show nothing."""
    with _conversation() as said, Session.connect(prey.daemon.socket) as session:
        for data, fds in said:
            session.send_raw(data, fds)
        session.get_features()
        assert session.is_open()
    prey.check_next()


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed_{seed}")
def test_a_spoilt_conversation(seed: int, prey: Prey) -> None:
    dice = random.Random(seed)
    with _conversation() as said:
        _tell(prey, _spoil(dice, said))
    prey.check_next()


@pytest.mark.parametrize("seed", range(20), ids=lambda seed: f"seed_{seed}")
def test_noise(seed: int, prey: Prey) -> None:
    dice = random.Random(seed)
    _tell(prey, [(dice.randbytes(dice.randint(1, 4000)), ()) for _ in range(3)])
    prey.check_next()


@pytest.mark.parametrize("what", ["/dev/null", "/dev/zero", "/etc/passwd", "pipe", "directory"])
def test_descriptors_of_something_else(what: str, prey: Prey) -> None:
    """For a memory file, a kick, a call: whatever it is, the daemon is no worse for it."""
    prey.check_next()
    before = _idle_fds(prey)
    given: list[int] = []
    if what == "pipe":
        given += os.pipe()
    elif what == "directory":
        given.append(os.open(prey.root, os.O_RDONLY | os.O_DIRECTORY))
    else:
        given.append(os.open(what, os.O_RDONLY))
    fd = given[0]
    wanted = {Request.SET_MEM_TABLE, Request.SET_VRING_KICK, Request.SET_VRING_CALL}
    try:
        for request in wanted:
            with _conversation() as said:
                other = [
                    (data, tuple(fd for _ in fds))
                    if int.from_bytes(data[:4], "little") == request
                    else (data, fds)
                    for data, fds in said
                ]
                _tell(prey, other[:-1])
            prey.check_next()
    finally:
        for one in given:
            os.close(one)
    assert _idle_fds(prey) == before
