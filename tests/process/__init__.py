# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process, seen from outside: its socket, its rings, its signals, its limits.

    place       a share with known content, and what proves that it is still served
    hanging     a file system whose reads wait until they are told to go on
    launcher    the daemon beside a Python thread that holds the GIL

What each opcode answers is the subject of tests/operations; what a hostile peer may try, of
tests/hostile. Here requests are a means: they show that rings, memory and processes may come and
go under them.
"""
