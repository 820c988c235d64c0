# SPDX-License-Identifier: Apache-2.0
"""A FUSE client on virtqueues: the guest kernel's part of the conversation, one method an opcode.

Every method takes the same keywords (`How`): who calls, on which queue, laid out how. An error
reply raises OSError with its errno; a reply that breaks the protocol raises WireError. `submit` and
`wait` are the two halves of every method, for requests that shall overlap. No answer is cached and
no lookup counted: what the daemon is told is what the test tells.
"""

from __future__ import annotations

from tests.vmm.ops_files import FileOps
from tests.vmm.ops_session import SessionOps


class FuseClient(SessionOps, FileOps):
    """Every opcode of FUSE that a virtio-fs guest sends."""
