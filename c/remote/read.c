/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: READ of a remote file. In: a pinned open file, a range, and room in guest memory.
 * Out: the bytes, read by the kernel from the cache files straight into that room. Queue thread.
 *
 * The range is a row of runs, each from one source, and each is one step:
 *
 *      a cache file, in the page cache      preadv2(RWF_NOWAIT) here and now
 *      a cache file, not there or partly    through the ring
 *      a cache file on tmpfs                preadv: it never waits for a device
 *      zeros                                filled here
 *      missing                              mail: the control plane fetches it, then this handler
 *                                           runs again and goes on from where it was
 *
 * A reply that is shorter than asked for means the end of the file to the guest, who then cuts its
 * idea of the file's size. So an error midway is an error, whatever was read before it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "../mailbox.h"
#include "../queue.h"
#include "opened.h"
#include "window.h"

/* How often the ring may say "again" to one request before that is the answer. */
enum { AGAIN_MAX = 16 };

enum { AGAIN_COUNT, CUTS, WINDOW_COUNT, WINDOW_HIDDEN }; /* req->state */

static uint64_t position(const struct fuse_req *req)
{
    return req->arg.read.offset + req->out_len;
}

static void put_zeros(struct fuse_req *req, uint64_t len)
{
    req->out_len += (uint32_t)len;
    while (len > 0) {
        size_t piece = req->out.iov->iov_len;

        piece = piece < len ? piece : len;
        memset(req->out.iov->iov_base, 0, piece);
        chain_skip(&req->out, piece);
        len -= piece;
    }
}

/* Whether the cache file is not what it was (or its disk), rather than this call out of luck. The
 * stored object can be fetched again; what the guest wrote has no other place, so that for it only
 * the loss of its end is told. */
static bool damaged(const struct segment *segment, ssize_t res)
{
    bool base = segment->layer == OVFS_LAYER_BASE;

    return res == 0 || (base && (res == -EIO || res == -EBADMSG || res == -EUCLEAN));
}

/* `res` bytes of a run are in place, or that was the error. 0: go on. Otherwise what the handler is
 * to return. */
static int took(struct fuse_req *req, const struct content_run *run, ssize_t res)
{
    if (res == -ECANCELED)
        return -EINTR; /* the queue stops */
    if (content_cut(req->handle->content, run))
        return 0; /* what came may be zeros that never were in the file: look again */
    if (res > 0) {
        chain_skip(&req->out, (size_t)res);
        req->out_len += (uint32_t)res;
        return 0;
    }
    if (!damaged(run->segment, res))
        return res == -EAGAIN ? -EIO : (int)res; /* the guest knows no "again" */
    req->mail_flags |= OVFS_MAIL_BAD;
    return mail_post(req);
}

static int read_on(struct fuse_req *req);
static int read_cqe(struct fuse_req *req, int res);

/* The run's pin is the request's until the ring is done, or a stop gives it up. */
static int read_by_ring(struct fuse_req *req, const struct content_run *run,
                        const struct window *window)
{
    struct ring *ring = queue_ring(req->queue);
    struct io_uring_sqe *sqe = ring_sqe(ring);

    req->segment = run->segment;
    req->state[CUTS] = run->cuts;
    req->state[WINDOW_COUNT] = window->count;
    req->state[WINDOW_HIDDEN] = window->hidden;
    io_uring_prep_readv(sqe, run->segment->fd, window->iov, window->count, (uint64_t)run->at);
    /* Where the file system may wait when the read is started, a worker starts it. */
    if (atomic_load_explicit(&run->segment->may_wait, memory_order_relaxed))
        sqe->flags |= IOSQE_ASYNC;
    return ring_push(ring, sqe, req, read_cqe);
}

/* Step 6, continued, when the ring has read. */
static int read_cqe(struct fuse_req *req, int res)
{
    struct window window = {req->out.iov, (unsigned)req->state[WINDOW_COUNT],
                            req->state[WINDOW_HIDDEN]};
    struct content_run run = {.segment = req->segment, .cuts = (uint32_t)req->state[CUTS]};
    int err;

    window_close(&window);
    if (res == -EAGAIN && req->state[AGAIN_COUNT]++ < AGAIN_MAX)
        err = 0;
    else
        err = took(req, &run, res);
    req->segment = NULL;
    segment_unref(run.segment);
    return err == 0 ? read_on(req) : err;
}

/* As much of the run as one call reads. 0: go on. Otherwise as a handler returns. */
static int read_run(struct fuse_req *req, const struct content_run *run)
{
    struct segment *segment = run->segment;
    struct window window = window_open(&req->out, run->len);
    ssize_t n;
    int err;

    if (segment->memory_fs)
        n = preadv(segment->fd, window.iov, (int)window.count, run->at);
    else
        n = preadv2(segment->fd, window.iov, (int)window.count, run->at, RWF_NOWAIT);
    if (n < 0 && errno == EOPNOTSUPP)
        atomic_store_explicit(&segment->may_wait, true, memory_order_relaxed);
    if (n < 0 && (errno == EAGAIN || errno == EOPNOTSUPP))
        return read_by_ring(req, run, &window);
    if (n < 0)
        n = -errno;
    window_close(&window);
    err = took(req, run, n);
    segment_unref(segment);
    return err;
}

/* Step by step to the end of the range or of the file. */
static int read_on(struct fuse_req *req)
{
    while (req->out.left > 0) {
        struct content_run run;
        int err = 0;

        content_run(req->handle->content, position(req), req->out.left, &run);
        if (run.len == 0)
            break;
        if (run.source == OVFS_SOURCE_MISSING)
            return mail_post(req);
        if (run.source == OVFS_SOURCE_ZERO)
            put_zeros(req, run.len);
        else
            err = read_run(req, &run);
        if (err != 0)
            return err;
    }
    return 0;
}

int remote_read(struct fuse_req *req)
{
    const struct fuse_read_in *arg = &req->arg.read;
    int err;

    if (arg->offset > (uint64_t)INT64_MAX - arg->size)
        return -EINVAL;
    if ((req->handle->flags & O_ACCMODE) == O_WRONLY)
        return -EBADF;
    err = content_of(req);
    if (err < 0)
        return err;
    if (content_passes_mark(req->handle->content, arg->offset + arg->size))
        mail_note(req->fs->mailbox, OVFS_NOTE_READ, req->handle->ino);
    chain_limit(&req->out, arg->size - req->out_len); /* out_len: from before the mail */
    req->state[AGAIN_COUNT] = 0;
    return read_on(req);
}
