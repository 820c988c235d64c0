# SPDX-License-Identifier: Apache-2.0
"""Real storage services on loopback, and what tests need around them.

    with SeaweedFS() as seaweed, Daemon.start("", command=(..., seaweed.url(root="/prefix"))):
        Bucket(seaweed).put("prefix/name", b"content")

In reading order:

    process      a server as a process       seaweed      SeaweedFS: S3
    ports        free ones                   rclone       rclone serve: WebDAV, FTP, another S3
    bucket       objects seen directly       faults       what can go wrong with a request
    fault_proxy  a proxy that makes it so    exchange     one connection through it
    http_wire    HTTP as bytes               daemon       ovfs on a service, for real guests
    fixtures     all of it for pytest

Nothing in here shares code with ovfs: it is the other side.
"""
