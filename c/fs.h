/* SPDX-License-Identifier: Apache-2.0
 *
 * The file system of a plane, as far as it is the same for both backends: struct local and struct
 * remote begin with this. Whoever does not know which one it is goes through `ops`.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "event_log.h"
#include "handle.h"
#include "inode.h"
#include "api.h"

struct fs;
struct fuse_req;
struct mailbox;

/* Of a backend. Control thread; reset also on the queue thread that answers INIT or DESTROY. */
struct fs_ops {
    void (*free)(struct fs *fs);
    void (*reset)(struct fs *fs); /* the session ended: nodes and handles go, locks too */
    int (*sync)(struct fs *fs);
    void (*stats)(struct fs *fs, struct ovfs_stats *out);
};

struct fs {
    const struct fs_ops *ops;    /* constant */
    struct ovfs_options options; /* constant */
    struct event_log *log;       /* constant */
    struct inode_table *inodes;
    struct handle_table *handles;
    struct mailbox *mailbox; /* remote: what is to be asked; else NULL */

    /* negotiated by INIT: written by the thread that answers it, read by all, atomic */
    _Atomic uint64_t features; /* FUSE_* init flags in force, both words */
    _Atomic uint32_t minor;    /* protocol minor of the client; 0 before INIT */
};

/* ---- init.c, forget.c: handlers of both backends. Queue thread ---- */
int fs_init(struct fuse_req *req);
int fs_destroy(struct fuse_req *req);
int fs_forget(struct fuse_req *req);
int fs_batch_forget(struct fuse_req *req);

/* ---- fs.c: any thread ---- */
/* The session ended: nodes and handles go, and nothing is negotiated any more. */
void fs_reset(struct fs *fs);
void fs_stats(struct fs *fs, struct ovfs_stats *out);
/* FOPEN_*: what the cache policy lets the guest keep of an open file or directory. keep: what it
 * has of the file from an earlier opening is known to be good. */
uint32_t fs_open_flags(struct fs *fs, bool is_dir, int flags, bool keep);
