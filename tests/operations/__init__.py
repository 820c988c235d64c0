# SPDX-License-Identifier: Apache-2.0
"""Every FUSE operation, asked of a daemon over its socket and compared with the host itself.

In reading order:

    share       a directory, a daemon that serves it, a guest on its queues
    scene       the directory of one test, its twin for direct calls, and what both hold
    tree        all that stat, readlink and reading can tell about a directory, to compare
    table       Row: an opcode's success, its refusals, whose identity counts; rows_*: the rows
    test_table  the rows run: on two file systems, as root and as a guest's user, across queues
    test_*      what takes more than one request to tell

A call is made twice where the host can say what is right: through the daemon in the scene, and with
`os` in the twin. Results, errors and both trees must agree.
"""
