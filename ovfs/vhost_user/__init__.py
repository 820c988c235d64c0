# SPDX-License-Identifier: Apache-2.0
"""The back-end half of vhost-user, as QEMU's ``docs/interop/vhost-user.rst`` specifies it.

``messages`` turns bytes into values and back, without I/O; ``features`` are the bits; ``rules`` is
the table of what may come when; ``ring`` is what the front-end has said about one vring; ``device``
is what is needed of the data plane; ``session`` applies the messages to it; ``socket`` moves frames
and their ``descriptors``.
"""
