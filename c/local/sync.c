/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: FSYNC, FSYNCDIR, FLUSH, SYNCFS. In: what is to be safe on the disk. Out: nothing, or
 * the error that storing it met. Queue thread; the waiting is the ring's and the pool's.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../pool.h"
#include "../queue.h"
#include "local.h"
#include "lock.h"

/* Of calls that only succeed or fail. */
static int plain_cqe(struct fuse_req *req, int res)
{
    (void)req;
    return res < 0 ? res : 0;
}

/* ---- FSYNC, FSYNCDIR ---- */

static int sync_handle(struct fuse_req *req)
{
    bool data_only = req->arg.fsync.fsync_flags & FUSE_FSYNC_FDATASYNC;
    struct ring *ring = queue_ring(req->queue);
    struct io_uring_sqe *sqe;

    if (req->handle->memory_fs)
        return 0; /* there is no disk behind it */
    sqe = ring_sqe(ring);
    io_uring_prep_fsync(sqe, req->handle->fd, data_only ? IORING_FSYNC_DATASYNC : 0);
    return ring_push(ring, sqe, req, plain_cqe);
}

int local_fsync(struct fuse_req *req)
{
    return sync_handle(req);
}

int local_fsyncdir(struct fuse_req *req)
{
    return sync_handle(req);
}

/* ---- FLUSH: a descriptor of the file was closed in the guest ---- */

/* A file system may do something at each close (NFS writes back and reports what failed); closing
 * a duplicate makes it do so, and the ring waits for it. Those that read without waiting are local
 * and do nothing at a close, so for them that would be two system calls for nothing. */
static bool host_flushes(const struct handle *handle)
{
    return !handle->nowait && !handle->memory_fs && (handle->flags & O_ACCMODE) != O_RDONLY;
}

int local_flush(struct fuse_req *req)
{
    struct ring *ring = queue_ring(req->queue);
    struct io_uring_sqe *sqe;
    int fd;

    if (req->local->fs.options.posix_lock)
        lock_release(req->local->locks, req->in_header.nodeid, req->arg.flush.lock_owner);
    if (!host_flushes(req->handle))
        return 0;
    fd = fcntl(req->handle->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    sqe = ring_sqe(ring);
    io_uring_prep_close(sqe, fd);
    return ring_push(ring, sqe, req, plain_cqe);
}

/* ---- SYNCFS ---- */

/* Pool thread. The guest names a directory of the file system that it means: its root. */
static int sync_file_system(struct fuse_req *req)
{
    int fd = node_open(req->local, req->inode, O_RDONLY | O_DIRECTORY);
    int err;

    if (fd < 0)
        return fd;
    err = syncfs(fd) < 0 ? -errno : 0;
    close(fd);
    return err;
}

int local_syncfs(struct fuse_req *req)
{
    if (req->inode->type != S_IFDIR)
        return -ENOTDIR;
    req->work = sync_file_system;
    return pool_submit(req);
}
