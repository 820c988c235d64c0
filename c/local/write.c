/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: WRITE. In: a pinned open file, an offset, and the data in guest memory. Out: how
 * much the kernel took from there. Queue thread.
 *
 *      buffered                    pwrite here and now: ext4 gives buffered writes of a ring to
 *                                  a worker thread, at ten times the cost
 *      while the disk throttles    the ring, so that it is the worker that waits
 *      O_DIRECT, O_SYNC, O_DSYNC   the ring: each of these waits for the device
 *      O_DIRECT, not aligned       a pool thread writes it through the page cache
 *
 * The client says whether set-id bits must go (FUSE_WRITE_KILL_SUIDGID: the writer has no
 * CAP_FSETID). The host's kernel clears them on a write without that capability: cred.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../clock.h"
#include "../pool.h"
#include "../queue.h"
#include "cred.h"
#include "local.h"
#include "mount.h"
#include "open.h"

/* An inline write that took this long was made to wait for write-back: the kernel pauses a writer
 * for 10 to 200 ms then. Less would also catch those that another thread was merely scheduled
 * before. The ring is used for as long as the throttling is likely to last. */
enum { SLOW_NS = 8000000, SLOW_FOR_NS = 100000000 };

enum { AGAIN_MAX = 16 }; /* as in read.c */

enum { AGAIN_COUNT, DONE }; /* req->state; DONE: bytes written */

static int write_by_ring(struct fuse_req *req);

static unsigned iov_count(const struct fuse_req *req)
{
    return req->in.count < IOV_MAX ? req->in.count : IOV_MAX;
}

/* Where the next bytes go; an O_APPEND descriptor puts them at the file's end regardless. */
static off_t position(const struct fuse_req *req)
{
    return (off_t)(req->arg.write.offset + req->state[DONE]);
}

static bool kills_suidgid(const struct fuse_req *req)
{
    return req->arg.write.write_flags & FUSE_WRITE_KILL_SUIDGID;
}

static void took(struct fuse_req *req, size_t n)
{
    chain_skip(&req->in, n);
    req->state[DONE] += n;
}

/* An error after some bytes is met again by the guest's next write. */
static int result(struct fuse_req *req, int err)
{
    struct fuse_write_out out = {.size = (uint32_t)req->state[DONE]};

    if (err < 0 && out.size == 0)
        return err == -ECANCELED ? -EINTR : err; /* the queue stops */
    return fuse_req_put(req, &out, sizeof(out));
}

/* A call that takes a vector costs a tenth more, and most writes are of one piece. */
static ssize_t write_once(const struct fuse_req *req, int fd)
{
    const struct iovec *iov = req->in.iov;

    if (req->in.count == 1)
        return pwrite(fd, iov->iov_base, iov->iov_len, position(req));
    return pwritev(fd, iov, (int)iov_count(req), position(req));
}

/* 0: all is written, or the file takes no more. -errno: writing stopped. */
static int write_to(struct fuse_req *req, int fd)
{
    while (req->in.left > 0) {
        ssize_t n = write_once(req, fd);

        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        took(req, (size_t)n);
    }
    return 0;
}

/* Pool thread. */
static int write_unaligned(struct fuse_req *req)
{
    int fd = open_buffered(req->handle);
    int err;

    if (fd < 0)
        return result(req, fd);
    err = write_to(req, fd);
    close(fd);
    return result(req, err);
}

static int write_inline(struct fuse_req *req)
{
    cred_fsetid(queue_cred(req->queue), !kills_suidgid(req));
    return result(req, write_to(req, req->handle->fd));
}

/* On a file system of a disk: the ring's turn, or ours under the clock. */
static int write_to_disk(struct fuse_req *req)
{
    struct mount *mount = mount_at(req->local->mounts, req->handle->mount);
    uint64_t end, start = clock_ns();
    int err;

    if (start < atomic_load_explicit(&mount->slow_until_ns, memory_order_relaxed))
        return write_by_ring(req);
    err = write_inline(req);
    end = clock_ns();
    if (end - start > SLOW_NS)
        atomic_store_explicit(&mount->slow_until_ns, end + SLOW_FOR_NS, memory_order_relaxed);
    return err;
}

/* Step 6, continued, when the ring has written. */
static int write_cqe(struct fuse_req *req, int res)
{
    if (res > 0) {
        took(req, (size_t)res);
        return req->in.left == 0 ? result(req, 0) : write_by_ring(req);
    }
    if (res == -EAGAIN && req->state[AGAIN_COUNT]++ < AGAIN_MAX)
        return write_by_ring(req);
    if (res == -EINVAL && req->handle->flags & O_DIRECT) {
        req->work = write_unaligned;
        req->work_fsetid = !kills_suidgid(req);
        return pool_submit(req);
    }
    return result(req, res);
}

static int write_by_ring(struct fuse_req *req)
{
    struct ring *ring = queue_ring(req->queue);
    struct io_uring_sqe *sqe = ring_sqe(ring);
    const struct iovec *iov = req->in.iov;
    uint64_t at = (uint64_t)position(req);
    int fd = req->handle->fd;

    if (req->in.count == 1)
        io_uring_prep_write(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, at);
    else
        io_uring_prep_writev(sqe, fd, iov, iov_count(req), at);
    cred_sqe(queue_cred(req->queue), sqe, !kills_suidgid(req));
    return ring_push(ring, sqe, req, write_cqe);
}

int local_write(struct fuse_req *req)
{
    const struct fuse_write_in *arg = &req->arg.write;

    if (arg->size > req->in.left)
        return -EINVAL; /* guest wrong: the data it speaks of is not there */
    if (arg->offset > (uint64_t)INT64_MAX - arg->size)
        return -EFBIG;
    if (req->out.left < sizeof(struct fuse_write_out))
        return -ERANGE; /* asked before anything is written */
    chain_limit(&req->in, arg->size);
    req->state[AGAIN_COUNT] = 0;
    req->state[DONE] = 0;
    if (req->in.left == 0)
        return result(req, 0);
    if (req->handle->flags & (O_DIRECT | O_DSYNC))
        return write_by_ring(req);
    return req->handle->memory_fs ? write_inline(req) : write_to_disk(req);
}
