/* SPDX-License-Identifier: Apache-2.0
 *
 * What OPEN, OPENDIR, CREATE and TMPFILE share.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fuse_open_out;
struct fuse_req;
struct handle;
struct inode;
struct local;

/* open(2) flags for the host from those of the guest, every bit chosen; -EINVAL, -EROFS. */
int open_flags(const struct local *local, uint32_t guest_flags);

/* Before a call with O_TRUNC: whether the truncation clears set-id bits. Queue thread. */
void open_fsetid(struct fuse_req *req, uint32_t open_in_flags);

/* Make the handle of a descriptor that was opened on inode (pinned, id nodeid) with these flags,
 * and what the reply says of it. Takes fd over, on failure too. The handle is req->handle, pinned
 * until the reply is out. 0 or -ENFILE. Queue thread. */
int open_handle(struct fuse_req *req, const struct inode *inode, uint64_t nodeid, int fd, int flags,
                struct fuse_open_out *out);

/* Put `out` into the reply, or release the handle again. 0 or -ERANGE. Queue thread. */
int open_reply(struct fuse_req *req, const struct fuse_open_out *out);

/* The handle is freed: its descriptor goes into the open cache where it may, and handle->fd is -1
 * then. Any thread. */
void open_keep(struct local *local, struct handle *handle);

/* Another descriptor of an open file, that goes through the page cache; the caller closes it. For
 * what O_DIRECT cannot do. Any thread that holds the handle. -errno. */
int open_buffered(const struct handle *handle);
