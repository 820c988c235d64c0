/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: CREATE and TMPFILE. In: a pinned directory, a name, a mode and open(2) flags. Out:
 * the new file's entry, its lookup counted, and a handle. Queue thread.
 *
 * The guest sends CREATE for a name that it does not know. The file is made with O_EXCL first; one
 * that came up meanwhile (made on the host, or by another guest) is then opened as what it is,
 * unless the caller wanted O_EXCL. The guest's kernel has checked no permission on such a file, so
 * it is opened with the caller's rights, and never by its name, which may change its meaning
 * between two looks.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../queue.h"
#include "create.h"
#include "cred.h"
#include "local.h"
#include "open.h"

/* How often a name may vanish between EEXIST and the lookup. Somebody makes and removes it in a
 * loop then. */
enum { TRIES = 8 };

/* Open or make a file as the caller. -errno, or the descriptor. */
static int open_as_caller(struct fuse_req *req, int dirfd, const char *path, int flags,
                          uint32_t mode)
{
    struct cred *cred = queue_cred(req->queue);
    int fd = cred_become(cred, req);

    if (fd < 0)
        return fd;
    fd = openat(dirfd, path, flags | O_CLOEXEC, mode);
    if (fd < 0)
        fd = -errno;
    cred_restore(cred);
    return fd;
}

/* name: where the file goes in dirfd, or NULL for one without a name. Returns the descriptor. */
static int make_file(struct fuse_req *req, int dirfd, const char *name, int flags,
                     struct fuse_entry_out *entry)
{
    uint32_t mode = cred_mode(queue_cred(req->queue), req, dirfd, req->arg.create.mode) & 07777;
    int how = name ? O_CREAT | O_EXCL | O_NOFOLLOW : O_TMPFILE;
    int fd = open_as_caller(req, dirfd, name ? name : ".", (flags & ~O_TRUNC) | how, mode);
    int err;

    if (fd < 0)
        return fd;
    err = create_finish(req, dirfd, name, fd, entry);
    if (err < 0) {
        close(fd);
        return err;
    }
    return fd;
}

static int open_found(struct fuse_req *req, struct inode *inode, int flags)
{
    char path[NODE_PATH];
    int err;

    if (inode->type == S_IFDIR)
        return -EISDIR;
    if (inode->type == S_IFLNK)
        return -ELOOP; /* the guest's kernel did not follow it: it knew no such name */
    if (inode->type != S_IFREG)
        return -ENXIO;
    err = node_path(req->local, inode, path);
    if (err < 0)
        return err;
    if (flags & O_TRUNC)
        open_fsetid(req, req->arg.create.open_flags);
    return open_as_caller(req, AT_FDCWD, path, flags, 0);
}

/* A file of this name is there already. Returns the descriptor. */
static int open_existing(struct fuse_req *req, int flags, struct fuse_entry_out *entry)
{
    struct local *local = req->local;
    int err = lookup_name(local, req->inode, req->name[0], entry);
    struct inode *inode;
    int fd;

    if (err < 0)
        return err;
    if (entry->nodeid == 0)
        return -ENOENT;
    inode = inode_pin(local->fs.inodes, entry->nodeid);
    fd = inode ? open_found(req, inode, flags) : -ESTALE;
    if (inode)
        inode_unpin(local->fs.inodes, inode);
    if (fd < 0)
        lookup_undo(local, entry);
    return fd;
}

static int make_or_open(struct fuse_req *req, int dirfd, int flags, struct fuse_entry_out *entry)
{
    int fd = -EEXIST;

    for (int i = 0; i < TRIES; i++) {
        fd = make_file(req, dirfd, req->name[0], flags, entry);
        if (fd != -EEXIST || (int)req->arg.create.flags & O_EXCL)
            return fd;
        fd = open_existing(req, flags, entry);
        if (fd != -ENOENT)
            return fd;
    }
    return fd;
}

/* Entry and handle go out together or not at all. Takes fd over. inode: of the entry, pinned. */
static int reply(struct fuse_req *req, struct inode *inode, int fd, int flags,
                 const struct fuse_entry_out *entry)
{
    struct fuse_open_out out;
    int err = open_handle(req, inode, entry->nodeid, fd, flags, &out);

    if (err < 0) {
        lookup_undo(req->local, entry);
        return err;
    }
    err = create_reply(req, entry);
    if (err < 0) {
        handle_release(req->local->fs.handles, req->handle);
        return err;
    }
    return open_reply(req, &out); /* there is room: room_for_reply */
}

/* Asked before anything is made. */
static bool room_for_reply(const struct fuse_req *req)
{
    return req->out.left >= sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out);
}

static int finish(struct fuse_req *req, int fd, int flags, const struct fuse_entry_out *entry)
{
    struct inode *inode = inode_pin(req->local->fs.inodes, entry->nodeid);
    int err;

    if (!inode) { /* guest wrong: it forgot a node that it had not been told of */
        close(fd);
        return -ESTALE;
    }
    if (req->in_header.opcode == FUSE_TMPFILE)
        node_hold(req->local, inode); /* no name keeps it; LINK may give it one */
    err = reply(req, inode, fd, flags, entry);
    inode_unpin(req->local->fs.inodes, inode);
    return err;
}

static int make_unnamed(struct fuse_req *req, int dirfd, int flags, struct fuse_entry_out *entry)
{
    return make_file(req, dirfd, NULL, flags, entry);
}

static int open_new(struct fuse_req *req,
                    int (*make)(struct fuse_req *, int, int, struct fuse_entry_out *))
{
    int flags = open_flags(req->local, req->arg.create.flags);
    int dirfd = node_fd(req->local, req->inode);
    struct fuse_entry_out entry;
    int fd;

    if (flags < 0)
        return flags;
    if (dirfd < 0)
        return dirfd;
    if (!room_for_reply(req))
        return -ERANGE;
    fd = make(req, dirfd, flags, &entry);
    return fd < 0 ? fd : finish(req, fd, flags, &entry);
}

int local_create(struct fuse_req *req)
{
    return open_new(req, make_or_open);
}

int local_tmpfile(struct fuse_req *req)
{
    return open_new(req, make_unnamed);
}
