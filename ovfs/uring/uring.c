// SPDX-License-Identifier: Apache-2.0
/*
 * liburing for Python: the ring's life, submission and reaping (prep.c has the queueing calls).
 * The contract of each function stands in uring_api.h.
 *
 * SQEs between the kernel's head and our tail are ours to change until the next enter, since
 * SQPOLL is never used: uring_make_room and uring_revoke rely on that.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "uring_impl.h"

static const struct {
    const char *name;
    int opcode;
} operations[] = {
    {"nop", IORING_OP_NOP},
    {"read", IORING_OP_READ},
    {"write", IORING_OP_WRITE},
    {"readv", IORING_OP_READV},
    {"writev", IORING_OP_WRITEV},
    {"fsync", IORING_OP_FSYNC},
    {"openat", IORING_OP_OPENAT},
    {"close", IORING_OP_CLOSE},
    {"statx", IORING_OP_STATX},
    {"fallocate", IORING_OP_FALLOCATE},
    {"ftruncate", OP_FTRUNCATE},
    {"unlinkat", IORING_OP_UNLINKAT},
    {"renameat", IORING_OP_RENAMEAT},
    {"mkdirat", IORING_OP_MKDIRAT},
    {"splice", IORING_OP_SPLICE},
    {"poll_add", IORING_OP_POLL_ADD},
    {"timeout", IORING_OP_TIMEOUT},
    {"link_timeout", IORING_OP_LINK_TIMEOUT},
    {"cancel", IORING_OP_ASYNC_CANCEL},
};

int uring_open(struct uring **out, unsigned entries, unsigned cq_entries, unsigned flags)
{
    struct io_uring_params params = {.flags = flags};
    struct uring *u = calloc(1, sizeof *u);
    int rc;

    if (!u)
        return -ENOMEM;
    u->eventfd = -1;
    if (cq_entries) {
        params.flags |= IORING_SETUP_CQSIZE;
        params.cq_entries = cq_entries;
    }
    rc = io_uring_queue_init_params(entries, &u->ring, &params);
    if (rc < 0)
        goto err_free;
    /* A forked child must not share the queues with us: it faults rather than corrupts them. */
    rc = io_uring_ring_dontfork(&u->ring);
    if (rc < 0)
        goto err_exit;
    u->probe = io_uring_get_probe_ring(&u->ring);
    *out = u;
    return 0;

err_exit:
    io_uring_queue_exit(&u->ring);
err_free:
    free(u);
    return rc;
}

void uring_close(struct uring *u)
{
    io_uring_queue_exit(&u->ring);
    if (u->eventfd >= 0)
        close(u->eventfd);
    if (u->probe)
        io_uring_free_probe(u->probe);
    free(u);
}

void uring_describe(const struct uring *u, struct uring_info *out)
{
    out->fd = u->ring.ring_fd;
    out->flags = u->ring.flags;
    out->features = u->ring.features;
    out->sq_entries = u->ring.sq.ring_entries;
    out->cq_entries = u->ring.cq.ring_entries;
    out->submits = u->submits;
    out->submitted = u->submitted;
}

int uring_supports(const struct uring *u, const char *name)
{
    for (size_t i = 0; u->probe && i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(operations[i].name, name) == 0)
            return io_uring_opcode_supported(u->probe, operations[i].opcode);
    }
    return 0;
}

int uring_eventfd(struct uring *u)
{
    int fd, rc;

    if (u->eventfd >= 0)
        return u->eventfd;
    fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = io_uring_register_eventfd(&u->ring, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    u->eventfd = fd;
    return fd;
}

unsigned uring_queued(const struct uring *u)
{
    return u->ring.sq.sqe_tail - IO_URING_READ_ONCE(*u->ring.sq.khead);
}

static int count(struct uring *u, int taken)
{
    if (taken > 0) {
        u->submits++;
        u->submitted += (unsigned)taken;
    }
    return taken;
}

/* Without SUBMIT_ALL the kernel stops after each SQE that fails at once: hence the loop. */
int uring_submit(struct uring *u)
{
    int total = 0;

    while (uring_queued(u)) {
        int taken = count(u, io_uring_submit_and_get_events(&u->ring));

        if (taken == -EINTR)
            continue;
        if (taken < 0)
            return taken;
        if (taken == 0)
            return -EBUSY;
        total += taken;
    }
    return total;
}

int uring_wait(struct uring *u, unsigned nr, int64_t timeout_ns)
{
    struct __kernel_timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct io_uring_cqe *cqe;
    unsigned before = uring_queued(u);
    int rc;

    if (nr == 0) {
        rc = before ? uring_submit(u) : io_uring_get_events(&u->ring);
        return rc < 0 ? rc : 0;
    }
    if (timeout_ns < 0)
        rc = io_uring_submit_and_wait(&u->ring, nr);
    else
        rc = io_uring_submit_and_wait_timeout(&u->ring, &cqe, nr, &ts, NULL);
    count(u, (int)(before - uring_queued(u)));
    return rc < 0 ? rc : 0;
}

static unsigned copy_completions(struct uring *u, int64_t *out, unsigned max)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;

    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        if (n == max)
            break;
        out[2 * n] = (int64_t)cqe->user_data;
        out[2 * n + 1] = cqe->res;
        n++;
    }
    u->copied = head;
    return n;
}

/* Completions that the kernel posts only when entered: overflown ones, or deferred task work. */
static int held_back(const struct uring *u)
{
    unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);

    return (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
}

int uring_pending(const struct uring *u)
{
    return uring_queued(u) || io_uring_cq_ready(&u->ring) || held_back(u);
}

unsigned uring_reap(struct uring *u, int64_t *out, unsigned max)
{
    unsigned n = copy_completions(u, out, max);

    if (n == 0 && held_back(u)) {
        io_uring_get_events(&u->ring);
        n = copy_completions(u, out, max);
    }
    return n;
}

void uring_seen(struct uring *u)
{
    io_uring_cq_advance(&u->ring, u->copied - *u->ring.cq.khead);
}

int uring_turn(struct uring *u, int64_t *out, unsigned max)
{
    int rc = uring_submit(u);
    uint64_t signals;
    unsigned n;

    /* Drained before reaping: what completes after the read signals anew, so none is missed. */
    if (u->eventfd >= 0 && read(u->eventfd, &signals, sizeof signals) < 0 && errno != EAGAIN)
        return -errno;
    n = uring_reap(u, out, max);
    return n || rc >= 0 ? (int)n : rc;
}

static struct io_uring_sqe *sqe_at(struct uring *u, unsigned index)
{
    return &u->ring.sq.sqes[index & u->ring.sq.ring_mask];
}

int uring_revoke(struct uring *u, uint64_t token)
{
    unsigned tail = u->ring.sq.sqe_tail;

    for (unsigned i = IO_URING_READ_ONCE(*u->ring.sq.khead); i != tail; i++) {
        struct io_uring_sqe *sqe = sqe_at(u, i);
        __u8 flags = sqe->flags;

        if (sqe->user_data != token)
            continue;
        /* An fsync of no file: it fails, and by that breaks the chain it is part of. */
        io_uring_prep_fsync(sqe, -1, 0);
        sqe->flags = flags;
        sqe->user_data = token;
        return 1;
    }
    return 0;
}

/* The chain's SQEs stay where they are while the tail is drawn back before them. */
int uring_make_room(struct uring *u)
{
    struct io_uring_sq *sq = &u->ring.sq;
    unsigned head = IO_URING_READ_ONCE(*sq->khead);
    unsigned tail = sq->sqe_tail, start = tail;
    int rc;

    while (start != head && (sqe_at(u, start - 1)->flags & LINK_FLAGS))
        start--;
    if (start == head)
        return -E2BIG;
    sq->sqe_tail = start;
    rc = uring_submit(u);
    sq->sqe_tail = tail;
    return rc < 0 ? rc : 0;
}
