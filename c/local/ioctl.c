/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: IOCTL. In: a pinned open file or directory, a command and its argument. Out: the
 * command's result. Queue thread.
 *
 * Four commands, those behind chattr, lsattr and project ids, are served; an ioctl is otherwise
 * whatever a driver makes of it, and nothing that a guest should do to its host. Each argument is
 * copied, checked and handed to the host by its own name: no number goes through unseen.
 *
 * Setting is what the host allows the daemon, often root, so what the guest's caller may is checked
 * here: the file's owner may change flags, but those that bind even root (immutable, append only)
 * and the journalling mode take privilege in the guest as they do on the host. Newer guest kernels
 * have checked the same; older ones pass the call on as it comes.
 */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "local.h"

enum {
    FLAGS_PRIVILEGED = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_JOURNAL_DATA_FL,
    XFLAGS_PRIVILEGED = FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND,
};

/* What a command's argument may be; `long` is how FS_IOC_GETFLAGS is declared, int what it is. */
union ioctl_arg {
    uint32_t flags;
    uint64_t wide_flags;
    struct fsxattr xattr;
};

/* The reply: the command's result, then exactly as many bytes as the guest asked for. */
static int put(struct fuse_req *req, const union ioctl_arg *out, size_t size)
{
    struct fuse_ioctl_out header = {.result = 0};
    int err;

    if (req->out.left < sizeof(header) + size)
        return -ERANGE;
    err = fuse_req_put(req, &header, sizeof(header));
    return err < 0 || size == 0 ? err : fuse_req_put(req, out, size);
}

/* Whether the caller may set anything on this file. */
static int check_setter(const struct fuse_req *req)
{
    struct stat st;

    if (req->local->fs.options.readonly)
        return -EROFS;
    if (req->in_header.uid == 0)
        return 0;
    if (fstat(req->handle->fd, &st) < 0)
        return -errno;
    return st.st_uid == req->in_header.uid ? 0 : -EPERM;
}

/* Whether the caller may change these bits. */
static int check_bits(const struct fuse_req *req, uint32_t old, uint32_t new, uint32_t privileged)
{
    return req->in_header.uid != 0 && (old ^ new) & privileged ? -EPERM : 0;
}

/* ---- FS_IOC_GETFLAGS, FS_IOC_SETFLAGS ---- */

static bool is_flags_size(uint32_t size)
{
    return size == sizeof(uint32_t) || size == sizeof(uint64_t);
}

static int get_flags(struct fuse_req *req)
{
    uint32_t size = req->arg.ioctl.out_size;
    union ioctl_arg out = {.wide_flags = 0};
    int flags = 0;

    if (!is_flags_size(size))
        return -EINVAL;
    if (ioctl(req->handle->fd, FS_IOC_GETFLAGS, &flags) < 0)
        return -errno;
    out.flags = (uint32_t)flags;
    return put(req, &out, size);
}

static int set_flags(struct fuse_req *req)
{
    uint32_t size = req->arg.ioctl.in_size;
    union ioctl_arg in = {.wide_flags = 0};
    int old = 0, new, err;

    if (!is_flags_size(size) || chain_read(&req->in, &in, size) < 0)
        return -EINVAL;
    err = check_setter(req);
    if (err < 0)
        return err;
    if (ioctl(req->handle->fd, FS_IOC_GETFLAGS, &old) < 0)
        return -errno;
    err = check_bits(req, (uint32_t)old, in.flags, FLAGS_PRIVILEGED);
    if (err < 0)
        return err;
    new = (int)in.flags;
    if (ioctl(req->handle->fd, FS_IOC_SETFLAGS, &new) < 0)
        return -errno;
    return put(req, NULL, 0);
}

/* ---- FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR ---- */

static int get_xattr(struct fuse_req *req)
{
    union ioctl_arg out = {.xattr = {0}};

    if (req->arg.ioctl.out_size != sizeof(out.xattr))
        return -EINVAL;
    if (ioctl(req->handle->fd, FS_IOC_FSGETXATTR, &out.xattr) < 0)
        return -errno;
    return put(req, &out, sizeof(out.xattr));
}

static int set_xattr(struct fuse_req *req)
{
    union ioctl_arg in = {.xattr = {0}};
    struct fsxattr old;
    int err;

    if (req->arg.ioctl.in_size != sizeof(in.xattr) ||
        chain_read(&req->in, &in.xattr, sizeof(in.xattr)) < 0)
        return -EINVAL;
    err = check_setter(req);
    if (err < 0)
        return err;
    if (ioctl(req->handle->fd, FS_IOC_FSGETXATTR, &old) < 0)
        return -errno;
    err = check_bits(req, old.fsx_xflags, in.xattr.fsx_xflags, XFLAGS_PRIVILEGED);
    if (err < 0)
        return err;
    if (ioctl(req->handle->fd, FS_IOC_FSSETXATTR, &in.xattr) < 0)
        return -errno;
    return put(req, NULL, 0);
}

int local_ioctl(struct fuse_req *req)
{
    if (req->arg.ioctl.flags & FUSE_IOCTL_UNRESTRICTED)
        return -ENOTTY;
    switch (req->arg.ioctl.cmd) {
    case FS_IOC_GETFLAGS:
    case FS_IOC32_GETFLAGS:
        return get_flags(req);
    case FS_IOC_SETFLAGS:
    case FS_IOC32_SETFLAGS:
        return set_flags(req);
    case FS_IOC_FSGETXATTR:
        return get_xattr(req);
    case FS_IOC_FSSETXATTR:
        return set_xattr(req);
    default:
        return -ENOTTY;
    }
}
