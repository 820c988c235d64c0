# SPDX-License-Identifier: Apache-2.0
"""The promises of SEMANTICS.md's second part: storage services.

A real daemon with the fake VMM's FUSE client on one side, and on the other the service itself:

    share      a daemon on a URL, its guest, its cache directory; started again at will
    scene      a fresh directory in it, seen by the guest and as objects
    fake_s3    an S3 server in this process: counts requests, holds them up, fails them, and keeps
               keys that SeaweedFS does not
    hung       requests to a service that never answers, begun early
"""
