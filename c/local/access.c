/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: ACCESS. In: a pinned node, the caller's ids and what it wants. Out: whether it may.
 * Queue thread.
 *
 * A guest whose kernel checks permissions itself (all that mount virtiofs) never asks. For one
 * that does, the mode bits decide, as POSIX says; the caller's supplementary groups are not on
 * the wire, so its group is the one in the header.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "local.h"

/* What root may not do either: run what nobody may run. */
static int check_root(const struct statx *stx, uint32_t want)
{
    bool runs = S_ISDIR(stx->stx_mode) || stx->stx_mode & (S_IXUSR | S_IXGRP | S_IXOTH);

    return want & X_OK && !runs ? -EACCES : 0;
}

static int check_mode(const struct statx *stx, const struct fuse_in_header *caller, uint32_t want)
{
    unsigned shift = 0; /* the class of others */

    if (caller->uid == 0)
        return check_root(stx, want);
    if (caller->uid == stx->stx_uid)
        shift = 6;
    else if (caller->gid == stx->stx_gid)
        shift = 3;
    return want & ~((unsigned)stx->stx_mode >> shift) ? -EACCES : 0;
}

static bool is_data(uint32_t mode)
{
    return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode);
}

int local_access(struct fuse_req *req)
{
    uint32_t want = req->arg.access.mask;
    int err, fd = node_fd(req->local, req->inode);
    struct statx stx;

    if (fd < 0)
        return fd;
    if (want & ~(uint32_t)(R_OK | W_OK | X_OK))
        return -EINVAL;
    err = attr_statx(fd, STATX_TYPE | STATX_MODE | STATX_UID | STATX_GID, &stx);
    if (err < 0)
        return err;
    if (want & W_OK && req->local->fs.options.readonly && is_data(stx.stx_mode))
        return -EROFS;
    return check_mode(&stx, &req->in_header, want);
}
