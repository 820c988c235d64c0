/* SPDX-License-Identifier: Apache-2.0 */
/* What uring.c and prep.c share; never seen by Python. Ring's own thread only, all of it. */
#ifndef OVFS_URING_IMPL_H
#define OVFS_URING_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <liburing.h>

#include "uring_api.h"

/* Linux 6.9; liburing names it since 2.6 (and there it is part of an enum, not a macro). */
#define OP_FTRUNCATE 55

#define LINK_FLAGS (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)

struct uring {
    /* ring's own thread only */
    struct io_uring ring;
    struct io_uring_probe *probe; /* owned; NULL where the kernel cannot tell */
    int eventfd;                  /* owned; -1 until asked for */
    unsigned copied;              /* CQ index up to which uring_reap copied */
    uint64_t submits;
    uint64_t submitted;
};

/*
 * Submits a full queue, but for the unfinished chain at its end: the end of a submission would
 * end the chain. 0, -EBUSY (reap first), -E2BIG (the whole queue is that chain).
 */
int uring_make_room(struct uring *u);

#endif
