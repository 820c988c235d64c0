/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6a: the fs:// file system of one plane. What its files share.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "../fs.h"
#include "../fuse_req.h"

struct mount_table;

struct local {
    struct fs fs; /* first */
    struct mount_table *mounts;
    struct lock_table *locks;
    struct node_cache *nodes;      /* descriptors of nodes, bounded */
    struct name_cache *names;      /* guesses what names stand for */
    struct open_cache *opened;     /* descriptors of files that were just closed, bounded */
    uint64_t daemon_dev, root_ino; /* constant */
    bool privileged;               /* constant: owners can be set: a daemon run as root */
    bool may_handle;               /* constant: nodes are found by handle where a mount allows it */
};

/* ---- local.c: control thread ---- */
int local_new(const struct ovfs_options *options, struct event_log *log, struct local **out,
              char *why, size_t why_size);
void local_free(struct local *local);

/* ---- node.c: descriptors of nodes. The inode is pinned by the caller. Queue or pool thread ----
 */

/* An O_PATH descriptor, borrowed: valid while the inode is pinned. -ESTALE: the object is gone. */
int node_fd(struct local *local, struct inode *inode);
/* A new descriptor opened with these flags (O_CLOEXEC is added, O_NOFOLLOW is not needed: a handle
 * names the object itself); the caller closes it. -ELOOP on symlinks unless O_PATH. */
int node_open(struct local *local, struct inode *inode, int flags);
/* "/proc/self/fd/N" of node_fd, for calls that only take a path; buf of NODE_PATH bytes. 0/-errno.
 */
enum { NODE_PATH = 32 };
int node_path(struct local *local, struct inode *inode, char *buf);
/* Before the last name goes: from now on the node lives by its descriptor, until as many unholds.
 * Where no descriptor is to be had it is lost with its name: a later node_fd is -ESTALE. */
void node_hold(struct local *local, struct inode *inode);
void node_unhold(struct local *local, struct inode *inode);

/* ---- lookup.c: names to nodes. Each success adds one lookup to the node ---- */

/* Entry of `name` in the pinned directory dir. *out is filled whole, time-outs too. */
int lookup_name(struct local *local, struct inode *dir, const char *name,
                struct fuse_entry_out *out);
/* Entry of what an open descriptor (O_PATH or real; borrowed) refers to; dir: where the guest
 * meets it. Whoever makes a file without a name (O_TMPFILE) holds its node. */
int lookup_fd(struct local *local, int fd, const struct inode *dir, struct fuse_entry_out *out);
/* The pinned node of a name, if the guest knows it; NULL otherwise. Adds no lookup. */
struct inode *lookup_known(struct local *local, struct inode *dir, const char *name);
/* Take back what a lookup added: its reply will not reach the guest. */
void lookup_undo(struct local *local, const struct fuse_entry_out *entry);

/* ---- attr.c ---- */
enum { ATTR_STATX_MASK = STATX_BASIC_STATS | STATX_BTIME };
void attr_from_statx(const struct statx *stx, struct fuse_attr *attr);
/* statx of what a descriptor refers to (O_PATH is enough). 0/-errno. Any thread. */
int attr_statx(int fd, unsigned mask, struct statx *stx);
/* Attributes by descriptor. 0/-errno. */
int attr_of_fd(int fd, struct fuse_attr *attr);

/* ---- handlers, one per opcode, named in dispatch.c ---- */
int local_lookup(struct fuse_req *req);
int local_getattr(struct fuse_req *req);
int local_setattr(struct fuse_req *req);
int local_statx(struct fuse_req *req);
int local_readlink(struct fuse_req *req);
int local_access(struct fuse_req *req);
int local_symlink(struct fuse_req *req); /* name[0]: the new name, name[1]: the target */
int local_mknod(struct fuse_req *req);
int local_mkdir(struct fuse_req *req);
int local_unlink(struct fuse_req *req);
int local_rmdir(struct fuse_req *req);
int local_rename(struct fuse_req *req);
int local_rename2(struct fuse_req *req);
int local_link(struct fuse_req *req);
int local_open(struct fuse_req *req);
int local_create(struct fuse_req *req);
int local_tmpfile(struct fuse_req *req);
int local_read(struct fuse_req *req);
int local_write(struct fuse_req *req);
int local_flush(struct fuse_req *req);
int local_release(struct fuse_req *req);
int local_fsync(struct fuse_req *req);
int local_fallocate(struct fuse_req *req);
int local_lseek(struct fuse_req *req);
int local_copy_file_range(struct fuse_req *req);
int local_syncfs(struct fuse_req *req);
int local_statfs(struct fuse_req *req);
int local_opendir(struct fuse_req *req);
int local_readdir(struct fuse_req *req);
int local_readdirplus(struct fuse_req *req);
int local_releasedir(struct fuse_req *req);
int local_fsyncdir(struct fuse_req *req);
int local_setxattr(struct fuse_req *req); /* name[0]: the attribute; in: the value */
int local_getxattr(struct fuse_req *req);
int local_listxattr(struct fuse_req *req);
int local_removexattr(struct fuse_req *req);
int local_getlk(struct fuse_req *req);
int local_setlk(struct fuse_req *req);
int local_setlkw(struct fuse_req *req);
int local_ioctl(struct fuse_req *req);
int local_interrupt(struct fuse_req *req);
