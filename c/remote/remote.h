/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6b: the file system of a remote plane. What its files share.
 *
 * DESIGN. A request is answered here out of what the control plane has said so far, within its
 * validity: nodes (node.h), names (dentry.h, listing.h), contents (content.h). Whatever is not
 * known becomes mail (mailbox.h). Names and attributes can come from two sides, a listing and what
 * was said later of one of its entries. So that neither of these needs to be searched and changed
 * on each change, facts carry the stamp of their time, and a change only notes its own (stamp.h).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../fs.h"
#include "../fuse_req.h"
#include "../mailbox.h"
#include "stamp.h"

enum { REMOTE_ROOT_INO = 1 };

struct dentry_table;
struct node_locks;
struct ovfs_content;

struct remote {
    struct fs fs; /* first */
    struct dentry_table *dentries;
    struct node_locks *locks;
    struct stamps stamps;
    atomic_bool resetting; /* any thread, atomic: nodes go without a note each */
};

/* ---- remote.c: control thread ---- */
int remote_new(const struct ovfs_options *options, struct event_log *log, struct remote **out,
               char *why, size_t why_size);

/* ---- handlers, one per opcode, named in dispatch.c ---- */
int remote_lookup(struct fuse_req *req);
int remote_getattr(struct fuse_req *req);
int remote_setattr(struct fuse_req *req);
int remote_statx(struct fuse_req *req);
int remote_readlink(struct fuse_req *req);
int remote_symlink(struct fuse_req *req);
int remote_mknod(struct fuse_req *req);
int remote_mkdir(struct fuse_req *req);
int remote_unlink(struct fuse_req *req);
int remote_rmdir(struct fuse_req *req);
int remote_rename(struct fuse_req *req);
int remote_rename2(struct fuse_req *req);
int remote_link(struct fuse_req *req);
int remote_open(struct fuse_req *req);
int remote_create(struct fuse_req *req);
int remote_tmpfile(struct fuse_req *req);
int remote_read(struct fuse_req *req);  /* read.c */
int remote_write(struct fuse_req *req); /* write.c */
int remote_lseek(struct fuse_req *req); /* lseek.c */
int remote_fallocate(struct fuse_req *req);
int remote_flush(struct fuse_req *req);
int remote_release(struct fuse_req *req);
int remote_fsync(struct fuse_req *req);
int remote_syncfs(struct fuse_req *req);
int remote_statfs(struct fuse_req *req);
int remote_opendir(struct fuse_req *req);
int remote_readdir(struct fuse_req *req);
int remote_readdirplus(struct fuse_req *req);
int remote_releasedir(struct fuse_req *req);
int remote_fsyncdir(struct fuse_req *req);
int remote_setxattr(struct fuse_req *req);
int remote_getxattr(struct fuse_req *req);
int remote_listxattr(struct fuse_req *req);
int remote_removexattr(struct fuse_req *req);
int remote_ioctl(struct fuse_req *req);
int remote_interrupt(struct fuse_req *req);
