/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: SETATTR. In: a pinned node, perhaps an open file of it, and what to change. Out:
 * the attributes after it. Queue thread.
 *
 * Several kinds may come in one request. They are applied in the order mode, owner, size, times:
 * a change of owner or size clears set-id bits, which a mode set after it would bring back, and a
 * change of size moves the times. The first failure ends it; what was applied stays.
 *
 * The guest's kernel has checked that the caller may. FATTR_KILL_SUIDGID says that the caller has
 * no CAP_FSETID of its own, so that a truncation has to clear set-id bits; as root we would leave
 * them.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../queue.h"
#include "cred.h"
#include "local.h"
#include "target.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* Linux 6.6; the same number on every architecture */
#endif

enum { NS_PER_S = 1000000000 };

/* fd may be O_PATH, which fchmod refuses. fchmodat2 takes it; kernels before 6.6 do not have that
 * and some seccomp profiles answer EPERM to a call they do not know. */
static int set_mode(struct fuse_req *req, int fd)
{
    mode_t mode = req->arg.setattr.mode & 07777;
    char path[NODE_PATH];
    int err;

    if (req->inode->type == S_IFLNK)
        return -EOPNOTSUPP; /* older kernels change it and fail nevertheless */
    if (mode & S_ISGID)
        cred_fsetid(queue_cred(req->queue), true); /* the group need not be one of the daemon's */
    if (req->handle)
        return fchmod(fd, mode) < 0 ? -errno : 0;
    if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno != ENOSYS && errno != EPERM)
        return -errno;
    err = node_path(req->local, req->inode, path);
    if (err < 0)
        return err;
    return chmod(path, mode) < 0 ? -errno : 0;
}

/* The host's kernel clears set-id bits here whoever asks; all that CAP_FSETID decides is whether
 * S_ISGID without group execution survives, as it does for root. */
static int set_owner(struct fuse_req *req, int fd)
{
    const struct fuse_setattr_in *arg = &req->arg.setattr;
    uid_t uid = arg->valid & FATTR_UID ? arg->uid : (uid_t)-1;
    gid_t gid = arg->valid & FATTR_GID ? arg->gid : (gid_t)-1;

    if ((arg->valid & FATTR_UID && uid == (uid_t)-1) ||
        (arg->valid & FATTR_GID && gid == (gid_t)-1))
        return -EINVAL; /* nobody has this id: it stands for "leave it" */
    cred_fsetid(queue_cred(req->queue),
                !(arg->valid & FATTR_KILL_SUIDGID) || req->in_header.uid == 0);
    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* An open file that was opened for reading only (open with O_RDONLY | O_TRUNC) cannot be truncated
 * through its descriptor, the node can. */
static int set_size(struct fuse_req *req, int fd)
{
    const struct fuse_setattr_in *arg = &req->arg.setattr;
    char path[NODE_PATH];
    int err;

    if (req->inode->type != S_IFREG)
        return req->inode->type == S_IFDIR ? -EISDIR : -EINVAL;
    if (arg->size > INT64_MAX)
        return -EINVAL;
    cred_fsetid(queue_cred(req->queue), !(arg->valid & FATTR_KILL_SUIDGID));
    if (req->handle && (req->handle->flags & O_ACCMODE) != O_RDONLY)
        return ftruncate(fd, (off_t)arg->size) < 0 ? -errno : 0;
    err = node_path(req->local, req->inode, path);
    if (err < 0)
        return err;
    return truncate(path, (off_t)arg->size) < 0 ? -errno : 0;
}

/* utimensat's special values of tv_nsec must come from the flags alone. */
static int time_to_set(uint32_t valid, uint32_t set, uint32_t now, uint64_t sec, uint32_t nsec,
                       struct timespec *out)
{
    *out = (struct timespec){.tv_nsec = UTIME_OMIT};
    if (!(valid & (set | now)))
        return 0;
    if (valid & now) {
        out->tv_nsec = UTIME_NOW;
        return 0;
    }
    if (nsec >= NS_PER_S)
        return -EINVAL;
    *out = (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = (long)nsec};
    return 0;
}

static int set_times(struct fuse_req *req, int fd)
{
    const struct fuse_setattr_in *arg = &req->arg.setattr;
    struct timespec times[2];
    int err;

    err = time_to_set(arg->valid, FATTR_ATIME, FATTR_ATIME_NOW, arg->atime, arg->atimensec,
                      &times[0]);
    if (err == 0)
        err = time_to_set(arg->valid, FATTR_MTIME, FATTR_MTIME_NOW, arg->mtime, arg->mtimensec,
                          &times[1]);
    if (err < 0)
        return err;
    return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static const struct {
    uint32_t valid;
    int (*set)(struct fuse_req *req, int fd);
} steps[] = {
    {FATTR_MODE, set_mode},
    {FATTR_UID | FATTR_GID, set_owner},
    {FATTR_SIZE, set_size},
    {FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW, set_times},
};

/* FATTR_CTIME is not served: the host's kernel keeps that time, and nobody else can. */
int local_setattr(struct fuse_req *req)
{
    const struct fuse_setattr_in *arg = &req->arg.setattr;
    int fd = target_pin(req, arg->valid & FATTR_FH, arg->fh);

    if (fd < 0)
        return fd;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int err = arg->valid & steps[i].valid ? steps[i].set(req, fd) : 0;

        if (err < 0)
            return err;
    }
    return attr_reply(req, fd);
}
