/* SPDX-License-Identifier: Apache-2.0
 *
 * What is common to the calls that make a new name.
 */
#pragma once

struct fuse_entry_out;
struct fuse_req;

/* The second half of a creating request, after cred_restore: give the object its security context,
 * if the request brought one, and find its entry, which adds a lookup. fd: the object's open
 * descriptor, or -1, then it is found by name. name: what was created in the directory dirfd
 * (of req->inode), or NULL where it has no name (TMPFILE). On failure the new object is removed
 * again, so this is for what the request really created, not for what CREATE found there.
 * 0 or -errno. Queue thread. */
int create_finish(struct fuse_req *req, int dirfd, const char *name, int fd,
                  struct fuse_entry_out *entry);

/* Put the entry into the reply, or take its lookup back. 0 or -ERANGE. Queue thread. */
int create_reply(struct fuse_req *req, const struct fuse_entry_out *entry);
