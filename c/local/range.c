/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9, calls on a range of a file's blocks: FALLOCATE, LSEEK, COPY_FILE_RANGE. In: a pinned
 * open file, offsets, lengths. Out: what the host made of them. Queue thread; COPY_FILE_RANGE on a
 * pool thread, since io_uring has no such call.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <unistd.h>

#include "../pool.h"
#include "../queue.h"
#include "local.h"
#include "cred.h"

/* ---- FALLOCATE ---- */

/* All that Linux has but FALLOC_FL_NO_HIDE_STALE, which would show what the disk held before. */
enum {
    FALLOCATE_MODES = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE |
                      FALLOC_FL_ZERO_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE,
};

static int fallocate_cqe(struct fuse_req *req, int res)
{
    (void)req;
    if (res == -ECANCELED)
        return -EINTR; /* the queue stops */
    return res < 0 ? res : 0;
}

/* Changing a file's blocks clears set-id bits as writing does, but the request has no flag for it:
 * a caller other than root has no CAP_FSETID, as a rule that nearly every guest keeps. */
int local_fallocate(struct fuse_req *req)
{
    const struct fuse_fallocate_in *arg = &req->arg.fallocate;
    struct ring *ring = queue_ring(req->queue);
    struct io_uring_sqe *sqe;

    if (arg->mode & ~(uint32_t)FALLOCATE_MODES)
        return -EOPNOTSUPP;
    if (arg->offset > INT64_MAX || arg->length > INT64_MAX)
        return -EINVAL;
    sqe = ring_sqe(ring);
    io_uring_prep_fallocate(sqe, req->handle->fd, (int)arg->mode, (off_t)arg->offset,
                            (off_t)arg->length);
    cred_sqe(queue_cred(req->queue), sqe, req->in_header.uid == 0);
    return ring_push(ring, sqe, req, fallocate_cqe);
}

/* ---- LSEEK ---- */

/* The descriptor's own position moves, which nobody uses: reads and writes carry their offset. */
int local_lseek(struct fuse_req *req)
{
    const struct fuse_lseek_in *arg = &req->arg.lseek;
    struct fuse_lseek_out out;
    off_t offset;

    if (arg->whence != SEEK_DATA && arg->whence != SEEK_HOLE && arg->whence != SEEK_END)
        return -EINVAL;
    offset = lseek(req->handle->fd, (off_t)arg->offset, (int)arg->whence);
    if (offset < 0)
        return -errno;
    out.offset = (uint64_t)offset;
    return fuse_req_put(req, &out, sizeof(out));
}

/* ---- COPY_FILE_RANGE ---- */

/* A call may copy less than it was asked to, and the guest goes on from there. So one request holds
 * a pool thread for a second at most on a slow disk. */
enum { COPY_MAX = 128 << 20 };

/* Pool thread. */
static int copy(struct fuse_req *req)
{
    const struct fuse_copy_file_range_in *arg = &req->arg.copy_file_range;
    off64_t off_in = (off64_t)arg->off_in, off_out = (off64_t)arg->off_out;
    size_t len = arg->len < COPY_MAX ? (size_t)arg->len : COPY_MAX;
    ssize_t n = copy_file_range(req->handle->fd, &off_in, req->handle_out->fd, &off_out, len, 0);
    struct fuse_write_out out = {.size = (uint32_t)n};
    int err = n < 0 ? -errno : 0;

    return err < 0 ? err : fuse_req_put(req, &out, sizeof(out));
}

int local_copy_file_range(struct fuse_req *req)
{
    const struct fuse_copy_file_range_in *arg = &req->arg.copy_file_range;

    if (arg->flags != 0 || arg->off_in > INT64_MAX || arg->off_out > INT64_MAX)
        return -EINVAL;
    if (req->out.left < sizeof(struct fuse_write_out))
        return -ERANGE; /* asked before anything is copied */
    req->handle_out = handle_pin(req->local->fs.handles, arg->fh_out, arg->nodeid_out);
    if (!req->handle_out)
        return -EBADF;
    if (req->handle_out->is_dir)
        return -EISDIR;
    req->work = copy;
    req->work_fsetid = req->in_header.uid == 0; /* as for FALLOCATE: no flag says more */
    return pool_submit(req);
}
