# SPDX-License-Identifier: Apache-2.0
"""Who is to blame: the kinds of failure that the control plane tells apart.

Host short (memory, descriptors, disk) is an ``OSError`` with its errno, as everywhere in Python.
Our own bug is any other exception: it gets a traceback. The two kinds below get one line.
"""


class OvfsError(Exception):
    """A failure whose text is one line for the user."""


class UsageError(OvfsError):
    """The command line, or the host it meets, does not allow the daemon to start."""


class PeerError(OvfsError):
    """The VMM broke the vhost-user protocol in a way that ends its connection."""
