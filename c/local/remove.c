/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9, calls that take a name away or move it: UNLINK, RMDIR, RENAME, RENAME2. In: a
 * request whose directory is pinned. Out: nothing but the result. Queue thread.
 *
 * A guest goes on using what it has unlinked, through open files and mappings. The file handle of
 * such an object turns ESTALE with its last name, so a node that the guest knows is held by a
 * descriptor before the call, and given back after it if the object has names left. The calls run
 * as the daemon: sticky directories and the like were the guest's kernel's to check.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guess.h"

/* RENAME_WHITEOUT is left out: it leaves a device node where the caller saw a file, and its one
 * user, an overlay's upper layer, does without. */
static const uint32_t RENAME_FLAGS = RENAME_NOREPLACE | RENAME_EXCHANGE;

/* The node behind a name that may be about to go: pinned and held, or NULL: the guest does not
 * know it. */
static struct inode *hold(struct local *local, struct inode *dir, const char *name)
{
    struct inode *inode = lookup_known(local, dir, name);

    if (inode)
        node_hold(local, inode);
    return inode;
}

/* Asked after the call rather than guessed before it, since the host may add and remove links of
 * the same object at any time. A directory has no other names: the call's success tells. */
static bool has_names(struct local *local, struct inode *inode, bool removed)
{
    int fd = node_fd(local, inode);
    struct statx stx;

    if (S_ISDIR(inode->type) && removed)
        return false;
    if (fd < 0 || attr_statx(fd, STATX_NLINK, &stx) < 0)
        return false;
    return stx.stx_nlink > 0;
}

static void settle(struct local *local, struct inode *inode, bool removed)
{
    if (!inode)
        return;
    if (has_names(local, inode, removed))
        node_unhold(local, inode);
    inode_unpin(local->fs.inodes, inode);
}

static int remove_name(struct fuse_req *req, int flags)
{
    struct local *local = req->local;
    int dirfd = node_fd(local, req->inode);
    struct inode *victim;
    int err;

    if (dirfd < 0)
        return dirfd;
    victim = hold(local, req->inode, req->name[0]);
    err = unlinkat(dirfd, req->name[0], flags) < 0 ? -errno : 0;
    settle(local, victim, err == 0);
    if (err == 0)
        guess_drop(local, req->inode, req->name[0]);
    return err;
}

int local_unlink(struct fuse_req *req)
{
    return remove_name(req, 0);
}

int local_rmdir(struct fuse_req *req)
{
    return remove_name(req, AT_REMOVEDIR);
}

/* Only a plain rename takes a name's object away: the one it replaces. Where none is expected, the
 * kernel is asked to replace none, which spares us a look whether there is one. Refused, for that
 * or any other reason, the plain call says what is wrong. */
static int rename_at(struct fuse_req *req, int oldfd, struct inode *newdir, int newfd,
                     uint32_t flags)
{
    const char *old = req->name[0], *new = req->name[1];
    struct local *local = req->local;
    struct inode *victim;
    int err;

    if (flags)
        return renameat2(oldfd, old, newfd, new, flags) < 0 ? -errno : 0;
    if (!guess_expects(local, newdir, new) &&
        renameat2(oldfd, old, newfd, new, RENAME_NOREPLACE) == 0)
        return 0;
    victim = hold(local, newdir, new);
    err = renameat2(oldfd, old, newfd, new, 0) < 0 ? -errno : 0;
    settle(local, victim, err == 0);
    return err;
}

/* newdir is pinned. */
static int rename_between(struct fuse_req *req, struct inode *newdir, uint32_t flags)
{
    struct local *local = req->local;
    int oldfd = node_fd(local, req->inode);
    int newfd = node_fd(local, newdir);
    int err;

    if (oldfd < 0 || newfd < 0)
        return oldfd < 0 ? oldfd : newfd;
    err = rename_at(req, oldfd, newdir, newfd, flags);
    if (err == 0 && !(flags & RENAME_EXCHANGE))
        guess_follow(local, req->inode, req->name[0], newdir, req->name[1]);
    return err;
}

static int rename_to(struct fuse_req *req, uint64_t nodeid, uint32_t flags)
{
    struct local *local = req->local;
    struct inode *newdir;
    int err;

    if (flags & ~RENAME_FLAGS)
        return -EINVAL;
    newdir = inode_pin(local->fs.inodes, nodeid);
    if (!newdir)
        return -ESTALE;
    err = rename_between(req, newdir, flags);
    inode_unpin(local->fs.inodes, newdir);
    return err;
}

int local_rename(struct fuse_req *req)
{
    return rename_to(req, req->arg.rename.newdir, 0);
}

int local_rename2(struct fuse_req *req)
{
    return rename_to(req, req->arg.rename2.newdir, req->arg.rename2.flags);
}
