/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: READ. In: a pinned open file, a range, and room in guest memory. Out: the bytes,
 * read by the kernel straight into that room. Queue thread.
 *
 *      in the page cache           preadv2(RWF_NOWAIT) here and now: half the cost of a trip
 *      not there, or partly        through the ring, which sleeps in our place
 *      O_DIRECT                    the ring; what is not aligned goes through the page cache
 *      tmpfs                       pread: it never waits for a device
 *
 * A large cached read is a copy and takes its time wherever it is started: the ring would make it
 * within our own io_uring_enter. So size decides nothing here.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../pool.h"
#include "../queue.h"
#include "local.h"
#include "open.h"

/* PAGE_MIN: a read that stops short of a page's end has met the file's end, since that is where one
 * stops for want of a cached page. The smallest page of any machine: on those with larger ones this
 * only asks the kernel once more than it had to. */
enum { PAGE_MIN = 4096 };

/* How often the ring may say "again" to one request before that is the answer. */
enum { AGAIN_MAX = 16 };

enum { AGAIN_COUNT }; /* req->state */

static int read_by_ring(struct fuse_req *req);

static unsigned iov_count(const struct fuse_req *req)
{
    return req->out.count < IOV_MAX ? req->out.count : IOV_MAX;
}

static off_t position(const struct fuse_req *req)
{
    return (off_t)(req->arg.read.offset + req->out_len);
}

/* n bytes, not 0, are in place. True: nothing more is to be read. */
static bool took(struct fuse_req *req, size_t n)
{
    bool asked_all = req->out.count <= IOV_MAX;

    chain_skip(&req->out, n);
    req->out_len += (uint32_t)n;
    return req->out.left == 0 || (asked_all && position(req) % PAGE_MIN != 0);
}

/* A call that takes a vector costs a tenth more, and most reads are of one piece. */
static ssize_t read_once(const struct fuse_req *req, int fd, int rwf)
{
    const struct iovec *iov = req->out.iov;

    if (req->out.count == 1 && rwf == 0)
        return pread(fd, iov->iov_base, iov->iov_len, position(req));
    return preadv2(fd, iov, (int)iov_count(req), position(req), rwf);
}

/* Fill the reply from fd. 0: it is full, or the file ended. -errno: reading stopped. */
static int read_from(struct fuse_req *req, int fd, int rwf)
{
    ssize_t n;

    do {
        n = read_once(req, fd, rwf);
        if (n < 0)
            return -errno;
    } while (n > 0 && !took(req, (size_t)n));
    return 0;
}

/* An error after some bytes is met again by the guest's next read. */
static int result(const struct fuse_req *req, int err)
{
    if (req->out_len > 0)
        return 0;
    return err == -ECANCELED ? -EINTR : err; /* the queue stops */
}

/* Pool thread. */
static int read_unaligned(struct fuse_req *req)
{
    int fd = open_buffered(req->handle);
    int err;

    if (fd < 0)
        return result(req, fd);
    err = read_from(req, fd, 0);
    close(fd);
    return result(req, err);
}

/* Step 6, continued, when the ring has read. */
static int read_cqe(struct fuse_req *req, int res)
{
    if (res > 0)
        return took(req, (size_t)res) ? 0 : read_by_ring(req);
    if (res == -EAGAIN && req->state[AGAIN_COUNT]++ < AGAIN_MAX)
        return read_by_ring(req);
    if (res == -EINVAL && req->handle->flags & O_DIRECT) {
        req->work = read_unaligned;
        return pool_submit(req);
    }
    return result(req, res);
}

static int read_by_ring(struct fuse_req *req)
{
    struct ring *ring = queue_ring(req->queue);
    struct io_uring_sqe *sqe = ring_sqe(ring);
    const struct iovec *iov = req->out.iov;
    uint64_t at = (uint64_t)position(req);
    int fd = req->handle->fd;

    if (req->out.count == 1)
        io_uring_prep_read(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, at);
    else
        io_uring_prep_readv(sqe, fd, iov, iov_count(req), at);
    /* On a file system that may wait where the read is started (FUSE does), a worker starts it. */
    if (!req->handle->nowait)
        sqe->flags |= IOSQE_ASYNC;
    return ring_push(ring, sqe, req, read_cqe);
}

int local_read(struct fuse_req *req)
{
    const struct handle *handle = req->handle;
    int err;

    if (req->arg.read.offset > (uint64_t)INT64_MAX - req->arg.read.size)
        return -EINVAL;
    chain_limit(&req->out, req->arg.read.size);
    if (req->out.left == 0)
        return 0;
    req->state[AGAIN_COUNT] = 0;
    if (handle->flags & O_DIRECT)
        return read_by_ring(req);
    if (handle->memory_fs)
        return result(req, read_from(req, handle->fd, 0));
    if (!handle->nowait)
        return read_by_ring(req);
    err = read_from(req, handle->fd, RWF_NOWAIT);
    /* EOPNOTSUPP: this file has no such reads, whatever its file system has in general. */
    if (err == -EAGAIN || err == -EOPNOTSUPP)
        return read_by_ring(req);
    return result(req, err);
}
