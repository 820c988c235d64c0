/* SPDX-License-Identifier: Apache-2.0
 *
 * The handle of a remote file: made by OPEN where nobody needs to be asked, else by the completion.
 */
#pragma once

#include "node.h"

struct fuse_open_out;

/* Takes a handle's reference of content over (NULL: a directory). The handle is req->handle, pinned
 * until the reply is out; nodeid is that of the pinned node. -ENFILE. Whoever holds the request. */
int remote_open_handle(struct fuse_req *req, uint64_t nodeid, struct node *node,
                       struct ovfs_content *content, int flags, bool keep,
                       struct fuse_open_out *out);
