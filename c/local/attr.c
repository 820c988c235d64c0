/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: GETATTR and STATX. In: a pinned node, perhaps an open file of it. Out: one statx of
 * the host, in the wire's form. Queue thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "local.h"
#include "target.h"

enum { NS_PER_S = 1000000000 };

/* As the kernel packs a device number for user space: 20 bits of minor around 12 bits of major. */
static uint32_t encode_rdev(uint32_t major, uint32_t minor)
{
    return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

void attr_from_statx(const struct statx *stx, struct fuse_attr *attr)
{
    *attr = (struct fuse_attr){
        .ino = stx->stx_ino,
        .size = stx->stx_size,
        .blocks = stx->stx_blocks,
        .atime = (uint64_t)stx->stx_atime.tv_sec,
        .mtime = (uint64_t)stx->stx_mtime.tv_sec,
        .ctime = (uint64_t)stx->stx_ctime.tv_sec,
        .atimensec = stx->stx_atime.tv_nsec,
        .mtimensec = stx->stx_mtime.tv_nsec,
        .ctimensec = stx->stx_ctime.tv_nsec,
        .mode = stx->stx_mode,
        .nlink = stx->stx_nlink,
        .uid = stx->stx_uid,
        .gid = stx->stx_gid,
        .rdev = encode_rdev(stx->stx_rdev_major, stx->stx_rdev_minor),
        .blksize = stx->stx_blksize,
    };
}

int attr_statx(int fd, unsigned mask, struct statx *stx)
{
    /* No path at all (6.11) costs a tenth less than an empty one, which is copied to be seen. */
    static _Atomic bool refused;

    if (!atomic_load_explicit(&refused, memory_order_relaxed)) {
        if (syscall(SYS_statx, fd, NULL, AT_EMPTY_PATH, mask, stx) == 0)
            return 0;
        if (errno != EFAULT)
            return -errno;
        atomic_store_explicit(&refused, true, memory_order_relaxed);
    }
    return statx(fd, "", AT_EMPTY_PATH, mask, stx) < 0 ? -errno : 0;
}

int attr_of_fd(int fd, struct fuse_attr *attr)
{
    struct statx stx;
    int err = attr_statx(fd, ATTR_STATX_MASK, &stx);

    if (err < 0)
        return err;
    attr_from_statx(&stx, attr);
    return 0;
}

int target_pin(struct fuse_req *req, bool by_handle, uint64_t fh)
{
    struct local *local = req->local;

    if (!by_handle)
        return node_fd(local, req->inode);
    req->handle = handle_pin(local->fs.handles, fh, req->in_header.nodeid);
    return req->handle ? req->handle->fd : -EBADF;
}

/* The same flag that LOOKUP gives: the guest mounts this directory apart from its parent. */
static uint32_t attr_flags(const struct fuse_req *req, const struct statx *stx)
{
    uint64_t features = atomic_load_explicit(&req->local->fs.features, memory_order_relaxed);

    if (!(features & FUSE_SUBMOUNTS) || req->in_header.nodeid == FUSE_ROOT_ID ||
        !S_ISDIR(stx->stx_mode))
        return 0;
    return stx->stx_attributes & STATX_ATTR_MOUNT_ROOT ? FUSE_ATTR_SUBMOUNT : 0;
}

int attr_reply(struct fuse_req *req, int fd)
{
    uint64_t valid_ns = req->local->fs.options.attr_timeout_ns;
    struct fuse_attr_out out = {
        .attr_valid = valid_ns / NS_PER_S,
        .attr_valid_nsec = (uint32_t)(valid_ns % NS_PER_S),
    };
    struct statx stx;
    int err = attr_statx(fd, ATTR_STATX_MASK, &stx);

    if (err < 0)
        return err;
    attr_from_statx(&stx, &out.attr);
    out.attr.flags = attr_flags(req, &stx);
    return fuse_req_put(req, &out, sizeof(out));
}

int local_getattr(struct fuse_req *req)
{
    const struct fuse_getattr_in *arg = &req->arg.getattr;
    int fd = target_pin(req, arg->getattr_flags & FUSE_GETATTR_FH, arg->fh);

    return fd < 0 ? fd : attr_reply(req, fd);
}

/* ---- STATX ---- */

static struct fuse_sx_time sx_time(const struct statx_timestamp *time)
{
    return (struct fuse_sx_time){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

static void statx_to_wire(const struct statx *stx, struct fuse_statx *out)
{
    *out = (struct fuse_statx){
        .mask = stx->stx_mask & ATTR_STATX_MASK,
        .blksize = stx->stx_blksize,
        .attributes = stx->stx_attributes,
        .nlink = stx->stx_nlink,
        .uid = stx->stx_uid,
        .gid = stx->stx_gid,
        .mode = stx->stx_mode,
        .ino = stx->stx_ino,
        .size = stx->stx_size,
        .blocks = stx->stx_blocks,
        .attributes_mask = stx->stx_attributes_mask,
        .atime = sx_time(&stx->stx_atime),
        .btime = sx_time(&stx->stx_btime),
        .ctime = sx_time(&stx->stx_ctime),
        .mtime = sx_time(&stx->stx_mtime),
        .rdev_major = stx->stx_rdev_major,
        .rdev_minor = stx->stx_rdev_minor,
        .dev_major = stx->stx_dev_major,
        .dev_minor = stx->stx_dev_minor,
    };
}

int local_statx(struct fuse_req *req)
{
    const struct fuse_statx_in *arg = &req->arg.statx;
    uint64_t valid_ns = req->local->fs.options.attr_timeout_ns;
    struct fuse_statx_out out = {
        .attr_valid = valid_ns / NS_PER_S,
        .attr_valid_nsec = (uint32_t)(valid_ns % NS_PER_S),
    };
    int flags = AT_EMPTY_PATH | (int)(arg->sx_flags & AT_STATX_SYNC_TYPE);
    int fd = target_pin(req, arg->getattr_flags & FUSE_GETATTR_FH, arg->fh);
    struct statx stx;

    if (fd < 0)
        return fd;
    if (statx(fd, "", flags, arg->sx_mask & ATTR_STATX_MASK, &stx) < 0)
        return -errno;
    statx_to_wire(&stx, &out.stat);
    return fuse_req_put(req, &out, sizeof(out));
}
