/* SPDX-License-Identifier: Apache-2.0
 *
 * What GETATTR, STATX and SETATTR share: they name a node, and may name an open file of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fuse_req;

/* A descriptor to ask: the open file fh of the request's node, which is then pinned as
 * req->handle (dispatch unpins it), or the node's O_PATH descriptor. Borrowed. -EBADF: no such
 * open file of this node; otherwise node_fd's errno. Queue thread. */
int target_pin(struct fuse_req *req, bool by_handle, uint64_t fh);

/* Answer with fuse_attr_out of what fd refers to. 0 or -errno. Queue thread. */
int attr_reply(struct fuse_req *req, int fd);
