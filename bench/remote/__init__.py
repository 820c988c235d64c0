# SPDX-License-Identifier: Apache-2.0
"""Objects on a storage service: ovfs and other ways to use them as files, side by side.

Each case is run on SeaweedFS, once with nothing in between and once through a proxy that adds a
round trip of 10 ms (bench/proxy.c). Everybody gets fresh mounts and empty caches for each run. In
reading order:

    cases         what is measured, and what ovfs promises about it
    files         what a contender is asked to do: read, write, create, list
    place         the bucket, the way to it, the data in it
    mounted       s3fs and rclone, mounted on this host    plain    OpenDAL, no file system at all
    guest         ovfs, with the fake VMM as its guest     trial    one case, everybody in turns
    table         the report                               shell    git, in a real guest
"""
