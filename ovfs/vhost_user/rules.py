# SPDX-License-Identifier: Apache-2.0
"""What may come when: the vhost-user session as a table.

Two rules keep this file a table: it holds no code that decides, and nothing that decides holds a
list of messages of its own. ``session.py`` reads a row and applies it::

    CONNECTED --SET_OWNER--> OWNED --SET_FEATURES--> NEGOTIATED
                               ^                         |
                               +------ RESET_DEVICE -----+

    each ring:    STOPPED --kick known, ring described, enabled--> RUNNING
                     ^                                                |
                     +--- GET_VRING_BASE, disabled, RESET_* ----------+
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from ovfs.vhost_user.features import Protocol
from ovfs.vhost_user.messages import MAX_REGIONS, SERVED, Request


class Phase(IntEnum):
    """How far the front-end has come; each phase allows all that the ones before it allow."""

    CONNECTED = 0
    OWNED = 1
    NEGOTIATED = 2


class RingUse(Enum):
    """Whether a message is about one ring, and what that ring may be doing."""

    NONE = "about no ring"
    ANY = "the ring may run"
    STOPPED = "the ring must be stopped"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: what must hold for a message to be looked at."""

    phase: Phase
    needs: Protocol | None = None
    ring: RingUse = RingUse.NONE
    fds: int = 0  # at most; how many exactly, the payload says
    replies: bool = False  # with a message of its own, so that it is never acknowledged


# What leads out of each phase, for the line that says what is missing.
NEXT_STEP = {Phase.CONNECTED: Request.SET_OWNER, Phase.OWNED: Request.SET_FEATURES}

_CONNECTED, _OWNED, _NEGOTIATED = Phase.CONNECTED, Phase.OWNED, Phase.NEGOTIATED
_SLOTS, _STATUS = Protocol.CONFIGURE_MEM_SLOTS, Protocol.STATUS
_ANY, _STOPPED = RingUse.ANY, RingUse.STOPPED

RULES: dict[Request, Rule] = {
    # QEMU sends all of these before it claims the device.
    Request.GET_FEATURES: Rule(_CONNECTED, replies=True),
    Request.GET_PROTOCOL_FEATURES: Rule(_CONNECTED, replies=True),
    Request.SET_PROTOCOL_FEATURES: Rule(_CONNECTED),
    Request.GET_QUEUE_NUM: Rule(_CONNECTED, Protocol.MQ, replies=True),
    Request.GET_MAX_MEM_SLOTS: Rule(_CONNECTED, _SLOTS, replies=True),
    Request.GET_CONFIG: Rule(_CONNECTED, Protocol.CONFIG, replies=True),
    Request.SET_BACKEND_REQ_FD: Rule(_CONNECTED, Protocol.BACKEND_REQ, fds=1),
    Request.SET_OWNER: Rule(_CONNECTED),
    # The device as a whole.
    Request.SET_FEATURES: Rule(_OWNED),
    Request.RESET_OWNER: Rule(_OWNED),
    Request.RESET_DEVICE: Rule(_OWNED, Protocol.RESET_DEVICE),
    Request.SET_STATUS: Rule(_OWNED, _STATUS),
    Request.GET_STATUS: Rule(_OWNED, _STATUS, replies=True),
    # Memory.
    Request.SET_MEM_TABLE: Rule(_OWNED, fds=MAX_REGIONS),
    Request.ADD_MEM_REG: Rule(_OWNED, _SLOTS, fds=1),
    # The specification lets a front-end send a descriptor here by mistake; it is closed unused.
    Request.REM_MEM_REG: Rule(_OWNED, _SLOTS, fds=1),
    # One ring. QEMU sends SET_VRING_CALL before the features are known, but starts none then.
    Request.SET_VRING_NUM: Rule(_OWNED, ring=_STOPPED),
    Request.SET_VRING_ADDR: Rule(_OWNED, ring=_STOPPED),
    Request.SET_VRING_BASE: Rule(_OWNED, ring=_STOPPED),
    Request.GET_VRING_BASE: Rule(_OWNED, ring=_ANY, replies=True),
    Request.SET_VRING_CALL: Rule(_OWNED, ring=_ANY, fds=1),
    Request.SET_VRING_ERR: Rule(_OWNED, ring=_ANY, fds=1),
    Request.SET_VRING_ENABLE: Rule(_OWNED, ring=_ANY),
    Request.SET_VRING_KICK: Rule(_NEGOTIATED, ring=_ANY, fds=1),
}

# Known to the specification and not served, because no feature that leads to them is offered:
# dirty logging and migration, in-flight tracking, network and crypto devices, and so on.
NOT_OFFERED = frozenset(Request) - SERVED
