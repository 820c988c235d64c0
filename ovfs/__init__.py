# SPDX-License-Identifier: Apache-2.0
"""ovfs: a vhost-user-fs daemon, the host half of virtio-fs.

Where to start reading: ``ovfs/daemon.py`` for the control plane, ``c/queue.c`` for the data plane,
``c/ovfs_api.h`` for the boundary between the two.
"""

__version__ = "0.1.0"
