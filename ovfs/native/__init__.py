# SPDX-License-Identifier: Apache-2.0
"""The data plane as Python sees it: ``values``, ``plane`` (the object), ``build_plane``.

For remote backends also ``mailbox`` (what it asks, and how it is told) and ``content`` (bytes).

The round trip of a request. Python has no part in it; it is written here so that nobody looks::

    step                                       thread            who owns the request
    1  the guest fills a chain, kicks          a vCPU            guest
    2  the kick completes in the io_uring      queue thread      guest
    3  virtq_pop takes the chain               queue thread      queue: a slot, allocated at start
    4  fuse_req checks header and lengths      queue thread      queue
    5  dispatch finds the handler              queue thread      handler
    6  the call is made, or becomes an SQE,    queue, kernel     handler; guest buffers stay mapped
       or goes to the pool                     or pool thread    until it completes
    7  fuse_reply writes the out header        queue thread      queue
    8  the used index is published             queue thread      guest; the slot is free again
    9  the call eventfd is signalled           queue thread      guest

The round trip of a control call, ``plane.stop_queue(1)`` for instance::

    step                                       thread            who owns what
    1  vhost_user/session.py decides on it     control (asyncio) session: the vring's descriptors
    2  plane.py turns values into C structs    control           cffi: freed when the call returns
    3  cffi drops the GIL, calls c/plane.c     control           C borrows structs and descriptors
    4  the command is posted, the queue woken  control -> queue  queue thread: its ring, its slots
    5  the queue drains and acknowledges       queue thread      answers are the guest's
    6  the call returns 0 or -errno            control           the plane: its own duplicates
    7  plane.py: a value, or an OSError        control           session

The round trip of a mail: what the data plane of a remote backend cannot answer by itself::

    step                                       thread            who owns the request
    1  a handler copies it into the mailbox    queue thread      mailbox; guest memory stays mapped
    2  mailbox.take drains it                  remote (asyncio)  mailbox; names and data are copied
    3  a task does what is to be done          remote            mailbox
    4  mailbox.entry, attr, retry, ...         remote            the C call: enters nodes and names
    5  the request is posted, the queue woken  remote -> queue   queue
    6  the payload is written, or the handler  queue thread      queue, from step 7 above on
       runs again
    A stop answers it between 1 and 4; then the completion returns False, and has entered nothing.

One control thread calls a plane, one call at a time (it need not always be the same thread). Lines
for the log travel the other way, as packets of a pipe that the control thread drains in batches:
no C thread ever calls into Python, so nothing here can delay a request.

``Plane``, ``Mailbox`` and ``Content`` are imported from their modules: they need the compiled part.
"""

from ovfs.native.values import (
    Attr,
    Cache,
    Entry,
    Event,
    EventKind,
    FileHandles,
    MemRegion,
    PlaneOptions,
    Stats,
    Vring,
)

__all__ = [
    "Attr",
    "Cache",
    "Entry",
    "Event",
    "EventKind",
    "FileHandles",
    "MemRegion",
    "PlaneOptions",
    "Stats",
    "Vring",
]
