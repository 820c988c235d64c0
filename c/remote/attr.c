/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6b: GETATTR and STATX from what is known; else, and SETATTR always, mail. Queue thread.
 */
#include <errno.h>

#include "../clock.h"
#include "wire.h"

/* The open file that the request names besides the node. */
static int pin_handle(struct fuse_req *req, bool by_handle, uint64_t fh)
{
    if (!by_handle || req->handle)
        return 0;
    req->handle = handle_pin(req->fs->handles, fh, req->in_header.nodeid);
    return req->handle ? 0 : -EBADF;
}

int remote_getattr(struct fuse_req *req)
{
    const struct fuse_getattr_in *arg = &req->arg.getattr;
    struct node *node = node_of(req->inode);
    uint64_t now_ns = clock_ns(), until_ns;
    struct fuse_attr_out out;
    struct ovfs_attr attr;
    int err = pin_handle(req, arg->getattr_flags & FUSE_GETATTR_FH, arg->fh);

    if (err < 0)
        return err;
    if (!node_attr(req->remote, node, now_ns, &attr, &until_ns))
        return mail_post(req);
    wire_attr(req->remote, node_ino(node), &attr, until_ns, now_ns, &out);
    return fuse_req_put(req, &out, sizeof(out));
}

int remote_statx(struct fuse_req *req)
{
    const struct fuse_statx_in *arg = &req->arg.statx;
    struct node *node = node_of(req->inode);
    uint64_t now_ns = clock_ns(), until_ns;
    struct fuse_statx_out out;
    struct ovfs_attr attr;
    int err = pin_handle(req, arg->getattr_flags & FUSE_GETATTR_FH, arg->fh);

    if (err < 0)
        return err;
    if (!node_attr(req->remote, node, now_ns, &attr, &until_ns))
        return mail_post(req);
    wire_statx(req->remote, node_ino(node), &attr, until_ns, now_ns, &out);
    return fuse_req_put(req, &out, sizeof(out));
}

int remote_setattr(struct fuse_req *req)
{
    const struct fuse_setattr_in *arg = &req->arg.setattr;
    int err = pin_handle(req, arg->valid & FATTR_FH, arg->fh);

    if (err < 0)
        return err;
    if (req->out.left < sizeof(struct fuse_attr_out))
        return -ERANGE;
    return mail_post(req);
}
