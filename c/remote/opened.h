/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request on an open remote file stands on. Queue thread.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "content.h"
#include "node.h"

/* Whether the handle's content still is the file's: 0, -EBADF (no file), or -ESTALE: the node has
 * another one since, because the file was replaced by somebody else. A node that the guest has
 * forgotten says nothing. */
static inline int content_of(struct fuse_req *req)
{
    if (!req->handle->content)
        return -EBADF;
    if (content_is_lost(req->handle->content))
        return -ESTALE;
    mail_ino(req); /* pins the node */
    if (req->inode && node_replaced(req->remote, node_of(req->inode), req->handle->content))
        return -ESTALE;
    return 0;
}

/* Whether the file has a mode bit that a write by others takes away. After content_of. */
static inline bool has_setid(const struct fuse_req *req)
{
    if (!req->inode)
        return false;
    return node_mode(req->remote, node_of(req->inode)) & (S_ISUID | S_ISGID);
}
