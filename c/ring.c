/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "fuse_req.h"
#include "api.h"

/* Every knob, in the order in which they are given up when the kernel refuses them:
 * - SINGLE_ISSUER + DEFER_TASKRUN (6.1): completions are made when this thread asks for them, so
 *   no inter-processor interrupt breaks into the copy of another request;
 * - COOP_TASKRUN (5.19): the same aim, less strictly: no interrupt, made at the next system call;
 * - TASKRUN_FLAG (5.19): shared memory says that there are such, for ring_has_completions;
 * - SUBMIT_ALL (5.18): an SQE that is refused does not keep its batch back;
 * - CQSIZE (5.5): every slot can have one operation and one notification out without overflow. */
static const unsigned setup_flags[] = {
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};
enum { SETUPS = sizeof(setup_flags) / sizeof(setup_flags[0]) };

static void set_tag(struct io_uring_sqe *sqe, enum ring_tag tag)
{
    sqe->user_data = tag;
}

static void arm(struct ring *ring, int fd, enum ring_tag tag)
{
    struct io_uring_sqe *sqe = ring_sqe(ring);

    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    set_tag(sqe, tag);
}

/* Multishot polls end when the completion queue overflows; they are armed again here. */
static void arm_all(struct ring *ring)
{
    if (!ring->doorbell_armed) {
        arm(ring, ring->doorbell_fd, RING_DOORBELL);
        ring->doorbell_armed = true;
    }
    if (!ring->kick_armed && ring->kick_fd >= 0) {
        arm(ring, ring->kick_fd, RING_KICK);
        ring->kick_armed = true;
    }
}

int ring_init(struct ring *ring, unsigned entries, bool plain, int kick_fd, int doorbell_fd)
{
    struct io_uring_params params;
    int err = -ENOSYS;

    memset(ring, 0, sizeof(*ring));
    for (unsigned i = plain ? SETUPS - 1 : 0; i < SETUPS; i++) {
        memset(&params, 0, sizeof(params));
        params.flags = setup_flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = entries * 4;
        err = io_uring_queue_init_params(entries, &ring->uring, &params);
        if (err != -EINVAL)
            break;
    }
    if (err < 0)
        return err;
    ring->kick_fd = kick_fd;
    ring->doorbell_fd = doorbell_fd;
    ring->one = 1;
    ring->deferred = params.flags & IORING_SETUP_DEFER_TASKRUN;
    if (!plain) {
        ring->skip_success = params.features & IORING_FEAT_CQE_SKIP;
        /* 5.18: saves the lookup of the ring's descriptor in each enter. Without it, no harm. */
        io_uring_register_ring_fd(&ring->uring);
    }
    return 0;
}

void ring_exit(struct ring *ring)
{
    io_uring_queue_exit(&ring->uring);
}

struct io_uring_sqe *ring_sqe(struct ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    while (!sqe) {
        ring_enter(ring, RING_SUBMIT, 0);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    return sqe;
}

int ring_push(struct ring *ring, struct io_uring_sqe *sqe, struct fuse_req *req,
              int (*on_cqe)(struct fuse_req *req, int res))
{
    io_uring_sqe_set_data(sqe, req);
    req->on_cqe = on_cqe;
    ring->in_flight++;
    ring->sqes++;
    return FUSE_LATER;
}

void ring_notify(struct ring *ring, int call_fd)
{
    struct io_uring_sqe *sqe = ring_sqe(ring);

    io_uring_prep_write(sqe, call_fd, &ring->one, sizeof(ring->one), 0);
    if (ring->skip_success)
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    set_tag(sqe, RING_NOTIFY);
}

void ring_cancel(struct ring *ring, struct fuse_req *req)
{
    struct io_uring_sqe *sqe = ring_sqe(ring);

    io_uring_prep_cancel(sqe, req, 0);
    set_tag(sqe, RING_CANCEL);
}

void ring_enter(struct ring *ring, enum ring_wait wait, uint64_t timeout_ns)
{
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(timeout_ns / 1000000000u),
                                        .tv_nsec = (long long)(timeout_ns % 1000000000u)};
    struct io_uring_cqe *cqe;

    if (wait == RING_SLEEP) {
        arm_all(ring);
        if (timeout_ns)
            io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &timeout, NULL);
        else
            io_uring_submit_and_wait(&ring->uring, 1);
    } else if (ring->in_flight > 0 && ring->deferred) {
        io_uring_submit_and_get_events(&ring->uring);
    } else if (ring_ready(ring) > 0) {
        io_uring_submit(&ring->uring);
    } else {
        return;
    }
    ring->enters++;
}

bool ring_has_completions(const struct ring *ring)
{
    return io_uring_cq_ready(&ring->uring) > 0 ||
           IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_TASKRUN;
}

static void reap_tag(struct ring *ring, enum ring_tag tag, unsigned flags)
{
    if (flags & IORING_CQE_F_MORE)
        return;
    if (tag == RING_KICK)
        ring->kick_armed = false;
    else if (tag == RING_DOORBELL)
        ring->doorbell_armed = false;
}

void ring_reap(struct ring *ring, void (*complete)(void *context, struct fuse_req *req, int res),
               void *context)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        count++;
        if (cqe->user_data < RING_TAGS) {
            reap_tag(ring, (enum ring_tag)cqe->user_data, cqe->flags);
        } else {
            ring->in_flight--;
            complete(context, io_uring_cqe_get_data(cqe), cqe->res);
        }
    }
    io_uring_cq_advance(&ring->uring, count);
}

int ovfs_ring_probe(void)
{
    struct io_uring_params params = {0};
    struct io_uring uring;
    int err = io_uring_queue_init_params(4, &uring, &params);

    if (err < 0)
        return err;
    io_uring_queue_exit(&uring);
    /* EXT_ARG (5.11) carries the time-out of a sleep; multishot polls came with RSRC_TAGS (5.13).
     */
    if (!(params.features & IORING_FEAT_EXT_ARG) || !(params.features & IORING_FEAT_RSRC_TAGS))
        return -ENOSYS;
    return 0;
}
