# SPDX-License-Identifier: Apache-2.0
"""The feature bits of virtio and of vhost-user, and which of them are offered."""

from __future__ import annotations

from enum import IntFlag


class Feature(IntFlag):
    """Bits of VHOST_USER_GET_FEATURES: virtio's own and the one that vhost-user adds."""

    RING_INDIRECT_DESC = 1 << 28
    RING_EVENT_IDX = 1 << 29
    PROTOCOL_FEATURES = 1 << 30
    VERSION_1 = 1 << 32


class Protocol(IntFlag):
    """Bits of VHOST_USER_GET_PROTOCOL_FEATURES that mean something here."""

    MQ = 1 << 0
    REPLY_ACK = 1 << 3
    BACKEND_REQ = 1 << 5
    CONFIG = 1 << 9
    RESET_DEVICE = 1 << 13
    CONFIGURE_MEM_SLOTS = 1 << 15
    STATUS = 1 << 16


FEATURES = (
    Feature.VERSION_1
    | Feature.RING_INDIRECT_DESC
    | Feature.RING_EVENT_IDX
    | Feature.PROTOCOL_FEATURES
)


def protocol_features(*, config: bool) -> Protocol:
    """Return the protocol features to offer.

    CONFIG goes out only where there is a configuration to tell (a tag was given): QEMU 7.1 to 8.0
    crash on a vhost-user-fs back-end that offers it, and need none, since the tag is theirs.

    BACKEND_REQ goes with it for User-mode Linux alone, which allocates the interrupt of all its
    queues together with that channel and finds none without. Nothing is ever sent on the channel.
    """
    offered = (
        Protocol.MQ
        | Protocol.REPLY_ACK
        | Protocol.RESET_DEVICE
        | Protocol.CONFIGURE_MEM_SLOTS
        | Protocol.STATUS
    )
    return offered | Protocol.CONFIG | Protocol.BACKEND_REQ if config else offered
