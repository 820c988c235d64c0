/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: OPEN, OPENDIR, RELEASE, RELEASEDIR. In: a pinned node and open(2) flags. Out: a
 * handle, and what the guest may cache of it. Queue thread.
 *
 * Only regular files and directories are opened: FIFOs, sockets and devices are the guest's own
 * affair, and opening one here could block or reach the host's hardware. A node is opened by what
 * it is, never by a name, so nothing can take its place in between. One that was open for reading
 * a moment ago need not be opened: open_cache.h.
 */
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "../queue.h"
#include "cred.h"
#include "local.h"
#include "mount.h"
#include "open_cache.h"

/* The rest of the guest's bits is dropped: either its kernel has acted on them (O_CREAT, O_EXCL,
 * O_NOFOLLOW, O_DIRECTORY), or they mean nothing to a regular file (O_NONBLOCK, O_NOCTTY). */
enum { FLAGS_PASSED = O_APPEND | O_SYNC | O_DSYNC };

int open_flags(const struct local *local, uint32_t guest_flags)
{
    uint64_t features = atomic_load_explicit(&local->fs.features, memory_order_relaxed);
    int guest = (int)guest_flags;
    int flags = guest & (O_ACCMODE | FLAGS_PASSED);

    if ((guest & O_ACCMODE) == O_ACCMODE)
        return -EINVAL;
    if (local->fs.options.readonly && ((guest & O_ACCMODE) != O_RDONLY || guest & O_TRUNC))
        return -EROFS;
    if (features & FUSE_WRITEBACK_CACHE) {
        /* The guest reads a page before it writes a part of it, and appends by itself. */
        if ((flags & O_ACCMODE) == O_WRONLY)
            flags = (flags & ~O_ACCMODE) | O_RDWR;
        flags &= ~O_APPEND;
    }
    if (features & FUSE_ATOMIC_O_TRUNC)
        flags |= guest & O_TRUNC;
    if (local->fs.options.allow_direct_io)
        flags |= guest & O_DIRECT;
    if (local->privileged)
        flags |= guest & O_NOATIME; /* EPERM for anyone but the owner and root */
    return flags;
}

void open_fsetid(struct fuse_req *req, uint32_t open_in_flags)
{
    cred_fsetid(queue_cred(req->queue), !(open_in_flags & FUSE_OPEN_KILL_SUIDGID));
}

int open_handle(struct fuse_req *req, const struct inode *inode, uint64_t nodeid, int fd, int flags,
                struct fuse_open_out *out)
{
    struct local *local = req->local;
    const struct mount *mount = mount_at(local->mounts, inode->mount);
    struct handle *handle = handle_new(local->fs.handles, nodeid, fd);

    if (!handle)
        return -ENFILE;
    handle->flags = flags & ~O_TRUNC;
    handle->is_dir = inode->type == S_IFDIR;
    handle->mount = inode->mount;
    handle->nowait = mount->nowait;
    handle->memory_fs = mount->memory_fs;
    req->handle = handle;
    *out = (struct fuse_open_out){
        .fh = handle_id(local->fs.handles, handle),
        .open_flags = fs_open_flags(&local->fs, handle->is_dir, flags, false),
    };
    return 0;
}

int open_reply(struct fuse_req *req, const struct fuse_open_out *out)
{
    int err = fuse_req_put(req, out, sizeof(*out));

    if (err < 0)
        handle_release(req->local->fs.handles, req->handle);
    return err;
}

int open_buffered(const struct handle *handle)
{
    char path[NODE_PATH];
    int fd;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", handle->fd);
    fd = open(path, (handle->flags & ~O_DIRECT) | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* What of an open file the open cache may have: open_cache.h says why so little. */
static bool may_keep(const struct local *local, const struct handle *handle)
{
    const struct ovfs_options *options = &local->fs.options;

    return handle->flags == O_RDONLY && !handle->is_dir && (handle->nowait || handle->memory_fs) &&
           local->privileged && !options->posix_lock && !options->flock;
}

void open_keep(struct local *local, struct handle *handle)
{
    struct inode *inode;

    if (!may_keep(local, handle))
        return;
    inode = inode_pin(local->fs.inodes, handle->nodeid);
    if (!inode)
        return;
    open_cache_put(local->opened, handle->nodeid, handle->fd);
    handle->fd = -1;
    inode_unpin(local->fs.inodes, inode);
}

static int open_node(struct fuse_req *req, int flags)
{
    struct fuse_open_out out;
    int fd = -1, err;

    if (flags == O_RDONLY)
        fd = open_cache_take(req->local->opened, req->in_header.nodeid);
    if (fd < 0)
        fd = node_open(req->local, req->inode, flags);
    if (fd < 0)
        return fd;
    err = open_handle(req, req->inode, req->in_header.nodeid, fd, flags, &out);
    return err < 0 ? err : open_reply(req, &out);
}

int local_open(struct fuse_req *req)
{
    const struct fuse_open_in *arg = &req->arg.open;
    int flags;

    if (req->inode->type == S_IFDIR)
        return -EISDIR;
    if (req->inode->type == S_IFLNK)
        return -ELOOP;
    if (req->inode->type != S_IFREG)
        return -ENXIO;
    flags = open_flags(req->local, arg->flags);
    if (flags < 0)
        return flags;
    if (flags & O_TRUNC)
        open_fsetid(req, arg->open_flags);
    return open_node(req, flags);
}

int local_opendir(struct fuse_req *req)
{
    if (req->inode->type != S_IFDIR)
        return -ENOTDIR;
    return open_node(req, O_RDONLY | O_DIRECTORY);
}

/* The descriptor closes when the last request on it ends; that may be later than now, so a flock
 * that the guest gives up is given up here. */
int local_release(struct fuse_req *req)
{
    if (req->arg.release.release_flags & FUSE_RELEASE_FLOCK_UNLOCK && req->local->fs.options.flock)
        flock(req->handle->fd, LOCK_UN);
    handle_release(req->local->fs.handles, req->handle);
    return 0;
}

int local_releasedir(struct fuse_req *req)
{
    handle_release(req->local->fs.handles, req->handle);
    return 0;
}
