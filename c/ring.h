/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps 2 and 9 of 9: the queue's io_uring. Kicks come in as completions; file operations go out
 * with the batch's one io_uring_enter, and a notification of the guest can go with them. Queue
 * thread only: the ring is SINGLE_ISSUER where the kernel has that.
 *
 * DESIGN. The kick eventfd is watched by a multishot poll and never read: each signal is one
 * completion, nothing is re-armed, and the counter behind it would need 2^64 kicks to fill. The
 * doorbell (pool threads and the control thread ring it) is watched the same way. A completion's
 * user_data is the request, or one of the small tags below.
 */
#pragma once

#include <stdbool.h>
#include <liburing.h>

struct fuse_req;

enum ring_tag { RING_KICK = 1, RING_DOORBELL, RING_NOTIFY, RING_CANCEL, RING_TAGS };

enum ring_wait {
    RING_SUBMIT, /* submit, collect what is there, do not sleep */
    RING_SLEEP,  /* and sleep until a completion or the time-out */
};

struct ring {
    struct io_uring uring;
    int kick_fd;       /* constant; -1: none, sleeps are short instead */
    int doorbell_fd;   /* constant */
    bool skip_success; /* constant: IORING_FEAT_CQE_SKIP, 5.17: notifications complete silently */
    bool deferred;     /* constant: completions are only made inside io_uring_enter */
    bool kick_armed;
    bool doorbell_armed;
    unsigned in_flight; /* SQEs of requests whose completion is still to come */
    uint64_t one;       /* what a notification writes; constant */
    uint64_t enters;    /* io_uring_enter calls that are not counted yet */
    uint64_t sqes;      /* SQEs of requests, likewise */
};

/* plain: none of the set-up flags that are newer than 5.15. -errno of io_uring_setup. */
int ring_init(struct ring *ring, unsigned entries, bool plain, int kick_fd, int doorbell_fd);
void ring_exit(struct ring *ring);

/* An SQE to fill with io_uring_prep_*, then ring_push. Never NULL: a full submission queue is
 * submitted first. */
struct io_uring_sqe *ring_sqe(struct ring *ring);

/* Send the filled SQE off with this batch; its completion calls on_cqe(req, res). FUSE_LATER. */
int ring_push(struct ring *ring, struct io_uring_sqe *sqe, struct fuse_req *req,
              int (*on_cqe)(struct fuse_req *req, int res));

/* How many SQEs the next enter takes along. */
static inline unsigned ring_ready(const struct ring *ring)
{
    return io_uring_sq_ready(&ring->uring);
}

/* Signal the guest's call eventfd with this batch; queue_notify decides. */
void ring_notify(struct ring *ring, int call_fd);

/* Ask the kernel to end what it does for req; its completion still comes. */
void ring_cancel(struct ring *ring, struct fuse_req *req);

/* The batch's one system call; none at all where there is nothing to submit or wait for.
 * timeout_ns: longest sleep, 0 for none. */
void ring_enter(struct ring *ring, enum ring_wait wait, uint64_t timeout_ns);

/* Whether there is something to reap, or a ring_enter away. */
bool ring_has_completions(const struct ring *ring);

/* Hand each completion of a request to complete(context, req, res). */
void ring_reap(struct ring *ring, void (*complete)(void *context, struct fuse_req *req, int res),
               void *context);
