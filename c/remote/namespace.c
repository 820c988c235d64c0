/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6b: what makes, moves and removes names, and what is always asked for. Here it is only
 * checked that the reply will find room: afterwards it is done. Queue thread.
 */
#include <errno.h>
#include <sys/stat.h>

#include "node.h"

static int post_entry(struct fuse_req *req, size_t reply)
{
    if (req->inode->type != S_IFDIR)
        return -ENOTDIR;
    if (req->out.left < reply)
        return -ERANGE;
    return mail_post(req);
}

int remote_mkdir(struct fuse_req *req)
{
    return post_entry(req, sizeof(struct fuse_entry_out));
}

int remote_mknod(struct fuse_req *req)
{
    return post_entry(req, sizeof(struct fuse_entry_out));
}

int remote_symlink(struct fuse_req *req)
{
    return post_entry(req, sizeof(struct fuse_entry_out));
}

int remote_create(struct fuse_req *req)
{
    return post_entry(req, sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out));
}

int remote_unlink(struct fuse_req *req)
{
    return post_entry(req, 0);
}

int remote_rmdir(struct fuse_req *req)
{
    return post_entry(req, 0);
}

static int post_rename(struct fuse_req *req, uint64_t newdir)
{
    struct inode *inode = inode_pin(req->fs->inodes, newdir);
    uint64_t ino = 0;
    int err = 0;

    if (!inode)
        return -ESTALE;
    if (req->inode->type != S_IFDIR || inode->type != S_IFDIR)
        err = -ENOTDIR;
    else
        ino = node_ino(node_of(inode));
    inode_unpin(req->fs->inodes, inode);
    return err < 0 ? err : mail_post_with(req, ino, NULL, 0);
}

int remote_rename(struct fuse_req *req)
{
    return post_rename(req, req->arg.rename.newdir);
}

int remote_rename2(struct fuse_req *req)
{
    return post_rename(req, req->arg.rename2.newdir);
}

int remote_readlink(struct fuse_req *req)
{
    return req->inode->type == S_IFLNK ? mail_post(req) : -EINVAL;
}

int remote_statfs(struct fuse_req *req)
{
    return mail_post(req);
}

/* An object has one name, and none is made without one. */
int remote_link(struct fuse_req *req)
{
    (void)req;
    return -EPERM;
}

int remote_tmpfile(struct fuse_req *req)
{
    (void)req;
    return -EOPNOTSUPP;
}

int remote_ioctl(struct fuse_req *req)
{
    (void)req;
    return -ENOTTY;
}

/* A question of the mailbox's ends by itself: nothing waits for another guest here. */
int remote_interrupt(struct fuse_req *req)
{
    (void)req;
    return 0;
}
