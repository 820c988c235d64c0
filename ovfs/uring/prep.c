// SPDX-License-Identifier: Apache-2.0
/*
 * The queueing calls: each fills one SQE, as liburing's io_uring_prep_* of that name does, and
 * gives it the caller's token and flags. The contract stands in uring_api.h.
 */
#include <errno.h>

#include "uring_impl.h"

/* A cleared SQE in *out, token and flags to be set by finish. 0, -EBUSY or -E2BIG. */
static int begin(struct uring *u, struct io_uring_sqe **out)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (!sqe) {
        int rc = uring_make_room(u);

        if (rc < 0)
            return rc;
        sqe = io_uring_get_sqe(&u->ring);
        if (!sqe)
            return -EBUSY;
    }
    *out = sqe;
    return 0;
}

/* The prep functions clear the SQE's flags and token, so these are set last. */
static int finish(struct io_uring_sqe *sqe, uint64_t token, unsigned sqe_flags)
{
    sqe->flags = (__u8)sqe_flags;
    sqe->user_data = token;
    return 0;
}

int uring_nop(struct uring *u, uint64_t token, unsigned sqe_flags)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_nop(sqe);
    return finish(sqe, token, sqe_flags);
}

int uring_read(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, void *buf,
               unsigned length, int64_t offset)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_read(sqe, fd, buf, length, (__u64)offset);
    return finish(sqe, token, sqe_flags);
}

int uring_write(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, const void *buf,
                unsigned length, int64_t offset)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_write(sqe, fd, buf, length, (__u64)offset);
    return finish(sqe, token, sqe_flags);
}

int uring_readv(struct uring *u, uint64_t token, unsigned sqe_flags, int fd,
                const struct iovec *iov, unsigned iovcnt, int64_t offset, int rw_flags)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_readv2(sqe, fd, iov, iovcnt, (__u64)offset, rw_flags);
    return finish(sqe, token, sqe_flags);
}

int uring_writev(struct uring *u, uint64_t token, unsigned sqe_flags, int fd,
                 const struct iovec *iov, unsigned iovcnt, int64_t offset, int rw_flags)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_writev2(sqe, fd, iov, iovcnt, (__u64)offset, rw_flags);
    return finish(sqe, token, sqe_flags);
}

int uring_fsync(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, int datasync)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_fsync(sqe, fd, datasync ? IORING_FSYNC_DATASYNC : 0);
    return finish(sqe, token, sqe_flags);
}

int uring_openat(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                 int flags, unsigned mode)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_openat(sqe, dirfd, path, flags, mode);
    return finish(sqe, token, sqe_flags);
}

int uring_close_fd(struct uring *u, uint64_t token, unsigned sqe_flags, int fd)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_close(sqe, fd);
    return finish(sqe, token, sqe_flags);
}

int uring_statx(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                int flags, unsigned mask, struct statx *out)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_statx(sqe, dirfd, path, flags, mask, out);
    return finish(sqe, token, sqe_flags);
}

int uring_fallocate(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, int mode,
                    int64_t offset, int64_t length)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_fallocate(sqe, fd, mode, offset, length);
    return finish(sqe, token, sqe_flags);
}

int uring_ftruncate(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, int64_t length)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_rw(OP_FTRUNCATE, sqe, fd, NULL, 0, (__u64)length);
    return finish(sqe, token, sqe_flags);
}

int uring_unlinkat(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                   int flags)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_unlinkat(sqe, dirfd, path, flags);
    return finish(sqe, token, sqe_flags);
}

int uring_renameat(struct uring *u, uint64_t token, unsigned sqe_flags, int old_dirfd,
                   const char *old_path, int new_dirfd, const char *new_path, unsigned flags)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_renameat(sqe, old_dirfd, old_path, new_dirfd, new_path, flags);
    return finish(sqe, token, sqe_flags);
}

int uring_mkdirat(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                  unsigned mode)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_mkdirat(sqe, dirfd, path, mode);
    return finish(sqe, token, sqe_flags);
}

int uring_splice(struct uring *u, uint64_t token, unsigned sqe_flags, int fd_in, int64_t off_in,
                 int fd_out, int64_t off_out, unsigned length, unsigned flags)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_splice(sqe, fd_in, off_in, fd_out, off_out, length, flags);
    return finish(sqe, token, sqe_flags);
}

int uring_poll_add(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, unsigned events)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_poll_add(sqe, fd, events);
    return finish(sqe, token, sqe_flags);
}

int uring_timeout(struct uring *u, uint64_t token, unsigned sqe_flags, const int64_t *when)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_timeout(sqe, (struct __kernel_timespec *)when, 0, 0);
    return finish(sqe, token, sqe_flags);
}

int uring_link_timeout(struct uring *u, uint64_t token, unsigned sqe_flags, const int64_t *when)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_link_timeout(sqe, (struct __kernel_timespec *)when, 0);
    return finish(sqe, token, sqe_flags);
}

int uring_cancel(struct uring *u, uint64_t token, unsigned sqe_flags, uint64_t target)
{
    struct io_uring_sqe *sqe;
    int rc = begin(u, &sqe);

    if (rc < 0)
        return rc;
    io_uring_prep_cancel64(sqe, target, 0);
    return finish(sqe, token, sqe_flags);
}
