/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6b: OPEN, OPENDIR and what ends or stores an open file. Queue thread.
 *
 * A file is opened for reading without asking where its attributes are valid and its content is at
 * hand, stored, and of the version that was attached. A handle for reading leaves no trace in the
 * control plane, so it is also closed without asking.
 */
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "../clock.h"
#include "content.h"
#include "opened.h"

int remote_open_handle(struct fuse_req *req, uint64_t nodeid, struct node *node,
                       struct ovfs_content *content, int flags, bool keep,
                       struct fuse_open_out *out)
{
    struct handle *handle = handle_new(req->fs->handles, nodeid, -1);

    if (!handle) {
        content_close(content);
        return -ENFILE;
    }
    handle->flags = flags;
    handle->is_dir = node->inode.type == S_IFDIR;
    handle->ino = node_ino(node);
    handle->content = content;
    req->handle = handle;
    *out = (struct fuse_open_out){
        .fh = handle_id(req->fs->handles, handle),
        .open_flags = fs_open_flags(req->fs, handle->is_dir, flags, keep),
    };
    return 0;
}

static int open_now(struct fuse_req *req, struct ovfs_content *content, bool keep)
{
    struct fuse_open_out out;
    int err = remote_open_handle(req, req->in_header.nodeid, node_of(req->inode), content,
                                 (int)req->arg.open.flags, keep, &out);

    return err < 0 ? err : fuse_req_put(req, &out, sizeof(out));
}

int remote_open(struct fuse_req *req)
{
    int flags = (int)req->arg.open.flags;
    struct ovfs_content *content = NULL;
    bool keep = false;

    if (req->inode->type == S_IFDIR)
        return -EISDIR;
    if (req->inode->type == S_IFLNK)
        return -ELOOP;
    if (req->inode->type != S_IFREG)
        return -ENXIO;
    if ((flags & O_ACCMODE) == O_ACCMODE)
        return -EINVAL;
    if (req->fs->options.readonly && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
        return -EROFS;
    if (req->out.left < sizeof(struct fuse_open_out))
        return -ERANGE;
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC))
        content = node_open_content(req->remote, node_of(req->inode), &keep);
    return content ? open_now(req, content, keep) : mail_post(req);
}

int remote_opendir(struct fuse_req *req)
{
    struct ovfs_attr attr;
    uint64_t until_ns;

    if (req->inode->type != S_IFDIR)
        return -ENOTDIR;
    if (req->out.left < sizeof(struct fuse_open_out))
        return -ERANGE;
    if (!node_attr(req->remote, node_of(req->inode), clock_ns(), &attr, &until_ns))
        return mail_post(req);
    return open_now(req, NULL, false);
}

static bool only_reads(const struct fuse_req *req)
{
    return (req->handle->flags & O_ACCMODE) == O_RDONLY;
}

int remote_release(struct fuse_req *req)
{
    handle_release(req->fs->handles, req->handle);
    return only_reads(req) ? 0 : mail_post(req);
}

int remote_releasedir(struct fuse_req *req)
{
    handle_release(req->fs->handles, req->handle);
    return 0;
}

int remote_flush(struct fuse_req *req)
{
    struct ovfs_content *content = req->handle->content;

    if (content && content_is_lost(content))
        return only_reads(req) ? 0 : -ESTALE;
    if (only_reads(req) || (content && content_is_stored(content)))
        return 0;
    return mail_post(req);
}

/* Whatever handle it comes by, it is about the file: data that another one wrote, and attributes
 * that only the control plane knows to be stored or not. */
int remote_fsync(struct fuse_req *req)
{
    if (req->handle->content && content_is_lost(req->handle->content))
        return -ESTALE;
    return mail_post(req);
}

/* A directory's changes are stored when they are answered. */
int remote_fsyncdir(struct fuse_req *req)
{
    (void)req;
    return 0;
}

int remote_syncfs(struct fuse_req *req)
{
    return mail_post(req);
}

int remote_fallocate(struct fuse_req *req)
{
    int err = content_of(req);

    if (err < 0)
        return err;
    return only_reads(req) ? -EBADF : mail_post(req);
}
